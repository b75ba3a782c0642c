"""Spectra against LAPACK, whatever the route, the precision and the way rows are cut."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multiembed.base.errors import DataError
from multiembed.spectra.measures import information_abundance
from multiembed.spectra.spectrum import merge_triangles, spectrum, triangle
from multiembed.spectra.summary import Summary, TrainedSummary, check_table


def lapack(matrix):
    return np.linalg.svd(np.asarray(matrix, dtype=np.float64), compute_uv=False)


def planted(rows, dim, values, rng):
    """A table with these singular values and random singular vectors."""
    left = np.linalg.qr(rng.standard_normal((rows, len(values))))[0]
    right = np.linalg.qr(rng.standard_normal((dim, len(values))))[0]
    return (left * values) @ right.T


@pytest.mark.parametrize("seed", range(10))
def test_twenty_random_shapes_agree_with_lapack(seed):
    rng = np.random.default_rng(seed)
    for _ in range(20):
        rows = int(10 ** rng.uniform(0, 3.7))
        dim = int(rng.integers(1, 70))
        depth = rng.uniform(0, 3)
        matrix = rng.standard_normal((rows, dim)) * 10 ** -np.linspace(0, depth, dim)
        matrix = matrix @ np.linalg.qr(rng.standard_normal((dim, dim)))[0]

        found = spectrum(matrix)

        expected = lapack(matrix)
        np.testing.assert_allclose(found.singular_values, expected, rtol=1e-9, atol=0)
        assert information_abundance(found) == pytest.approx(expected.sum() / expected[0], rel=1e-9)
        worst = np.abs(found.singular_values - expected).max() / expected[0]
        assert worst <= found.error_bound


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_tables_are_read_as_stored(dtype):
    table = torch.randn(3000, 12, generator=torch.Generator().manual_seed(0)).to(dtype)

    found = spectrum(table)

    np.testing.assert_allclose(found.singular_values, lapack(table.double().numpy()), rtol=1e-12)


def test_numpy_half_and_integers_are_read_as_stored():
    rng = np.random.default_rng(0)
    for matrix in (rng.standard_normal((500, 6)).astype(np.float16), rng.integers(-9, 9, (500, 6))):
        np.testing.assert_allclose(spectrum(matrix).singular_values, lapack(matrix), rtol=1e-12)


def test_a_mapped_file_is_read_block_by_block(tmp_path):
    rng = np.random.default_rng(0)
    table = rng.standard_normal((50_000, 20)).astype(np.float32)
    np.save(tmp_path / "table.npy", table)

    found = spectrum(np.load(tmp_path / "table.npy", mmap_mode="r"))

    np.testing.assert_allclose(found.singular_values, lapack(table), rtol=1e-12)


@pytest.mark.parametrize("depth", [1e-8, 1e-10, 1e-12])
def test_a_deep_tail_escalates_to_qr_when_asked(depth):
    rng = np.random.default_rng(1)
    values = np.geomspace(1, depth, 20)
    matrix = planted(4000, 20, values, rng)

    coarse, fine = spectrum(matrix), spectrum(matrix, tail=True)

    assert (coarse.route, fine.route) == ("gram", "qr")
    np.testing.assert_allclose(fine.singular_values, values, rtol=1e-3)
    assert np.abs(fine.singular_values - values).max() <= fine.error_bound
    assert np.abs(coarse.singular_values - values).max() <= coarse.error_bound
    assert information_abundance(coarse) == pytest.approx(values.sum(), abs=5e-7)


def test_a_shallow_tail_stays_on_the_gram_route():
    matrix = planted(4000, 20, np.geomspace(1, 1e-3, 20), np.random.default_rng(0))

    assert spectrum(matrix, tail=True).route == "gram"


@pytest.mark.parametrize("rows", [30, 3000])
def test_a_common_offset_leaves_the_centred_spectrum(rows):
    rng = np.random.default_rng(rows)
    matrix = rng.standard_normal((rows, 10))
    offset = matrix + 5 * rng.standard_normal(10)

    expected = lapack(matrix - matrix.mean(axis=0))

    for table in (matrix, offset):
        found = spectrum(table, centered=True)
        np.testing.assert_allclose(found.singular_values, expected, rtol=1e-9)


@pytest.mark.parametrize("rows", [20, 4000, 100_000])
def test_equal_rows_have_a_centred_spectrum_of_zeros(rows):
    row = np.random.default_rng(0).standard_normal(7)

    assert not spectrum(np.tile(row, (rows, 1)), centered=True).singular_values.any()


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("rows", [12, 3000])
def test_weights_repeat_rows(rows, centered):
    rng = np.random.default_rng(rows)
    matrix = rng.standard_normal((rows, 6)) + 1
    counts = rng.integers(0, 5, rows)
    repeated = np.repeat(matrix, counts, axis=0)
    if centered:
        repeated = repeated - repeated.mean(axis=0)

    found = spectrum(Summary.of(matrix, counts), centered=centered)

    np.testing.assert_allclose(found.singular_values, lapack(repeated)[:6], rtol=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(0, 2000), max_size=8))
def test_any_sharding_merges_to_the_whole(seed, cuts):
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((2000, 5)) + rng.standard_normal(5)
    weights = rng.random(2000)
    edges = [0, *sorted(cuts), 2000]

    merged = Summary.empty(5)
    factor = np.zeros((0, 5))
    for start, stop in itertools.pairwise(edges):
        merged = merged + Summary.of(matrix[start:stop], weights[start:stop])
        part = triangle(matrix[start:stop] * np.sqrt(weights[start:stop])[:, None])
        factor = merge_triangles(factor, part)

    weighted = matrix * np.sqrt(weights)[:, None]
    assert merged.rows == 2000
    assert merged.weight == pytest.approx(weights.sum(), rel=1e-12)
    np.testing.assert_allclose(merged.total, weights @ matrix, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(merged.gram, weighted.T @ weighted, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(lapack(factor), lapack(weighted), rtol=1e-12)


def test_feeding_chunks_equals_reading_the_whole():
    matrix = np.random.default_rng(0).standard_normal((1000, 9))
    whole = Summary.of(matrix)

    fed = Summary.empty(9)
    for start in range(0, 1000, 130):
        fed.add(torch.from_numpy(matrix[start : start + 130]))

    np.testing.assert_allclose(fed.gram, whole.gram, rtol=1e-12, atol=1e-11)
    np.testing.assert_array_equal(fed.gram, fed.gram.T)


def summarised(matrix, counts, name="matrix"):
    seen = TrainedSummary.empty(matrix.shape[1])
    seen.add(matrix, counts, name=name)
    return seen


def test_one_pass_sees_all_rows_trained_rows_and_weighted_rows():
    rng = np.random.default_rng(3)
    matrix = rng.standard_normal((9000, 8)).astype(np.float32)
    counts = rng.integers(0, 3, 9000)

    seen = summarised(matrix, counts)

    for summary, rows in (
        (seen.whole, matrix),
        (seen.trained, matrix[counts > 0]),
        (seen.weighted, np.repeat(matrix, counts, axis=0)),
    ):
        found = spectrum(summary).singular_values
        np.testing.assert_allclose(found, lapack(rows), rtol=1e-9)
    assert seen.trained.rows == np.sum(counts > 0)
    assert seen.weighted.weight == counts.sum()
    assert (seen.whole.rows, seen.untrained.rows) == (9000, np.sum(counts == 0))
    doubled = seen + seen
    assert doubled.whole.rows == 18_000
    np.testing.assert_allclose(doubled.trained.gram, 2 * seen.trained.gram)


def test_fewer_rows_than_columns_give_as_many_values_as_rows():
    matrix = np.random.default_rng(0).standard_normal((3, 8))

    np.testing.assert_allclose(spectrum(matrix).singular_values, lapack(matrix), rtol=1e-12)
    np.testing.assert_allclose(
        spectrum(Summary.of(matrix)).singular_values, lapack(matrix), rtol=1e-9
    )


def test_a_wide_matrix_costs_no_square_of_its_width():
    """Its Gram matrix would take 80 GB."""
    matrix = np.random.default_rng(0).standard_normal((3, 100_000))

    for centered in (False, True):
        expected = lapack(matrix - centered * matrix.mean(axis=0))
        found = spectrum(matrix, centered=centered).singular_values
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_a_table_of_zeros_or_without_rows_has_no_abundance():
    for matrix in (np.zeros((50, 4)), np.zeros((2, 4)), np.zeros((0, 4))):
        assert not spectrum(matrix).singular_values.any()
        with pytest.raises(DataError, match="a number other than zero"):
            information_abundance(matrix)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dim", [20, 10_000])
def test_a_number_that_is_not_finite_is_named_with_its_table_and_place(bad, dim):
    rows, row = (40_000, 17_123) if dim == 20 else (400, 271)
    matrix = np.ones((rows, dim), dtype=np.float32)
    matrix[row, 3] = bad
    counts = np.ones(rows, dtype=np.int64)

    place = f"site_id must hold finite numbers, got {bad} in row {row}, column 3"
    reads = [
        lambda: spectrum(matrix, name="site_id"),
        lambda: triangle(matrix, name="site_id"),
    ]
    if dim == 20:
        reads += [
            lambda: Summary.of(torch.from_numpy(matrix), name="site_id"),
            lambda: summarised(matrix, counts, name="site_id"),
        ]
    for read in reads:
        with pytest.raises(DataError, match=place):
            read()


def test_numbers_too_large_to_square_are_refused():
    with pytest.raises(DataError, match="squares add up, got one of 1e\\+200"):
        spectrum(np.full((3, 2), 1e200))


def test_what_is_no_table_is_refused():
    with pytest.raises(DataError, match=r"word must have two dimensions \(rows, dim\), got 1"):
        check_table(np.zeros(3), "word")
    with pytest.raises(DataError, match="word must hold real numbers, got complex128"):
        check_table(np.zeros((3, 2), dtype=np.complex128), "word")
    with pytest.raises(DataError, match=r"word must hold real numbers, got torch\.complex64"):
        check_table(torch.zeros(3, 2, dtype=torch.complex64), "word")


def test_weights_must_fit_the_rows():
    matrix = np.ones((3, 2))
    with pytest.raises(DataError, match="weights of a must be one per row, 3, got 2"):
        Summary.of(matrix, np.ones(2), name="a")
    with pytest.raises(
        DataError, match=r"weights of a must be finite and >= 0, got -1\.0 in row 1"
    ):
        Summary.of(matrix, np.array([1.0, -1.0, 0.0]), name="a")


def test_summaries_of_different_width_do_not_add_up():
    with pytest.raises(DataError, match="summaries must have one dim to add up, got 2, 3"):
        Summary.empty(2) + Summary.empty(3)
    with pytest.raises(DataError, match="matrix must have 2 columns, got 3"):
        Summary.empty(2).add(np.ones((1, 3)))
