"""Measures on spectra known in advance, their invariances, and the null of random tables."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multiembed.base.errors import ConfigError, DataError
from multiembed.spectra.measures import (
    centered_information_abundance,
    condition,
    dims_for_energy,
    effective_rank,
    information_abundance,
    mean_share,
    normalized_information_abundance,
    null_information_abundance,
    participation_ratio,
    random_root,
    stable_rank,
    tail_slope,
)
from multiembed.spectra.spectrum import Spectrum
from multiembed.spectra.summary import Summary


def known(values, rows=1000):
    values = np.array(values, dtype=np.float64)
    return Spectrum(values, rows=rows, dim=len(values), route="qr", error_bound=0.0)


def rotation(dim, rng):
    return np.linalg.qr(rng.standard_normal((dim, dim)))[0]


FLAT = known([3.0] * 8)
RANK_ONE = known([5.0, 0.0, 0.0, 0.0])
HALVES = known([2.0**-k for k in range(10)])


def test_a_flat_spectrum_uses_every_direction():
    for measure in (information_abundance, effective_rank, stable_rank, participation_ratio):
        assert measure(FLAT) == pytest.approx(8, rel=1e-12)
    assert effective_rank(FLAT, of="energies") == pytest.approx(8, rel=1e-12)
    assert condition(FLAT) == 1
    assert dims_for_energy(FLAT, 0.9) == 8
    assert dims_for_energy(FLAT, 0.5) == 4
    assert tail_slope(FLAT) == pytest.approx(0, abs=1e-12)


def test_a_rank_one_spectrum_uses_one_direction():
    for measure in (information_abundance, effective_rank, stable_rank, participation_ratio):
        assert measure(RANK_ONE) == 1
    assert effective_rank(RANK_ONE, of="energies") == 1
    assert dims_for_energy(RANK_ONE, 0.99) == dims_for_energy(RANK_ONE, 1.0) == 1
    assert condition(RANK_ONE) == tail_slope(RANK_ONE) == math.inf


def test_a_geometric_spectrum_sums_in_closed_form():
    """Ten halvings: sums of geometric series, entropies by hand."""
    values, energies = 2 * (1 - 2.0**-10), 4 / 3 * (1 - 4.0**-10)
    shares = [2.0**-k / values for k in range(10)]
    energy_shares = [4.0**-k / energies for k in range(10)]

    assert information_abundance(HALVES) == pytest.approx(values, rel=1e-12)
    assert stable_rank(HALVES) == pytest.approx(energies, rel=1e-12)
    assert participation_ratio(HALVES) == pytest.approx(
        energies**2 / (16 / 15 * (1 - 16.0**-10)), rel=1e-12
    )
    assert effective_rank(HALVES) == pytest.approx(
        math.exp(-sum(p * math.log(p) for p in shares)), rel=1e-12
    )
    assert effective_rank(HALVES, of="energies") == pytest.approx(
        math.exp(-sum(p * math.log(p) for p in energy_shares)), rel=1e-12
    )
    assert condition(HALVES) == 512
    # 1 - 4^-k of the energy of an endless series is in the first k: 0.75, 0.9375, 0.984, 0.996.
    assert [dims_for_energy(HALVES, f) for f in (0.7, 0.9, 0.99)] == [1, 2, 4]


def test_a_power_law_has_its_exponent_as_slope():
    assert tail_slope(known([k**-0.75 for k in range(1, 30)])) == pytest.approx(1.5, rel=1e-12)


def test_measures_of_the_tail_read_a_matrix_by_qr():
    rng = np.random.default_rng(0)
    values = np.geomspace(1, 1e-10, 11)
    matrix = (np.linalg.qr(rng.standard_normal((2000, 11)))[0] * values) @ rotation(11, rng)

    assert condition(matrix) == pytest.approx(1e10, rel=1e-3)
    assert condition(Summary.of(matrix)) == math.inf


def test_the_mean_share_of_an_offset_is_its_part_of_the_energy():
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((500, 4))
    matrix -= matrix.mean(axis=0)
    matrix *= 2 / np.sqrt(np.mean(np.sum(matrix**2, axis=1)))  # mean squared length 4
    offset = np.array([1.0, 0.0, 0.0, 0.0])

    assert mean_share(matrix) == pytest.approx(0, abs=1e-20)
    assert mean_share(matrix + offset) == pytest.approx(1 / 5, rel=1e-12)
    assert mean_share(np.tile(offset, (9, 1))) == pytest.approx(1, rel=1e-12)


def test_an_offset_of_one_deviation_collapses_the_raw_measure_alone():
    """Numbers measured with LAPACK on another draw of this table: 39.25, 7.09, 39.25."""
    matrix = np.random.default_rng(0).standard_normal((100_000, 40))

    assert information_abundance(matrix) == pytest.approx(39.25, abs=0.1)
    assert information_abundance(matrix + 1) == pytest.approx(7.09, abs=0.1)
    assert centered_information_abundance(matrix + 1) == pytest.approx(39.25, abs=0.1)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(2, 300),
    dim=st.integers(1, 12),
    scale=st.floats(1e-6, 1e6),
    depth=st.floats(0, 3),
)
def test_abundance_is_bounded_and_invariant_to_scale_and_rotation(seed, rows, dim, scale, depth):
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((rows, dim)) * 10 ** -np.linspace(0, depth, dim)

    abundance = information_abundance(matrix)

    assert 1 <= abundance <= min(rows, dim) * (1 + 1e-12)
    moved = scale * rotation(rows, rng) @ matrix @ rotation(dim, rng)
    for measure in (information_abundance, effective_rank, stable_rank, participation_ratio):
        assert 1 - 1e-12 <= measure(matrix) <= min(rows, dim) * (1 + 1e-12)
        assert measure(moved) == pytest.approx(measure(matrix), rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(3, 400),
    dim=st.integers(1, 12),
    size=st.floats(0, 20),
)
def test_centred_abundance_ignores_a_common_offset(seed, rows, dim, size):
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((rows, dim))
    offset = size * rng.standard_normal(dim)

    moved = centered_information_abundance(matrix + offset)

    assert moved == pytest.approx(centered_information_abundance(matrix), rel=1e-9)


def test_equal_rows_have_no_centred_abundance():
    with pytest.raises(DataError, match="a number other than zero"):
        centered_information_abundance(np.full((100, 3), 0.1))


@pytest.mark.parametrize(
    ("rows", "dim"),
    [(2, 2), (3, 10), (10, 3), (10, 10), (16, 12), (12, 60), (40, 40), (50, 200), (800, 24)],
)
def test_the_null_agrees_with_tables_drawn_one_by_one(rows, dim):
    rng = np.random.default_rng(0)
    draws = 4000 if rows * dim < 200 else 400
    values = [
        np.linalg.svd(rng.standard_normal((rows, dim)), compute_uv=False) for _ in range(draws)
    ]
    ratios = np.array([v.sum() / v[0] for v in values])

    error = ratios.std() / np.sqrt(draws)
    expected = ratios.mean()
    null = null_information_abundance(rows, dim)
    assert null == pytest.approx(expected, abs=0.004 * expected + 3 * error)
    assert null == null_information_abundance(dim, rows)


def test_the_null_of_known_shapes():
    """39.29 and 4.74 were measured elsewhere, by Monte Carlo over whole matrices."""
    assert null_information_abundance(100_000, 40) == pytest.approx(39.29, rel=0.002)
    assert null_information_abundance(10, 10) == pytest.approx(4.74, rel=0.01)
    assert null_information_abundance(1, 40) == null_information_abundance(7, 1) == 1
    with pytest.raises(DataError, match="rows and dim >= 1, got 0 x 3"):
        null_information_abundance(0, 3)


@pytest.mark.parametrize(("rows", "dim"), [(4, 10), (30, 10), (5000, 10)])
def test_a_random_table_has_normalised_abundance_one(rows, dim):
    rng = np.random.default_rng(1)
    found = [normalized_information_abundance(rng.standard_normal((rows, dim))) for _ in range(200)]

    assert np.mean(found) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("rows", "dim"), [(4, 6), (50, 6)])
def test_a_random_root_has_the_moments_of_a_random_table(rows, dim):
    rng = np.random.default_rng(0)
    roots = [random_root(rows, dim, rng) for _ in range(4000)]

    grams = np.array([root.T @ root for root in roots])

    assert roots[0].shape == (min(rows, dim), dim)
    np.testing.assert_allclose(grams.mean(axis=0), rows * np.eye(dim), atol=0.12 * rows**0.5)
    # Var[G_ii] = 2 rows, Var[G_ij] = rows for a Wishart matrix.
    expected = rows * (np.ones((dim, dim)) + np.eye(dim))
    np.testing.assert_allclose(grams.var(axis=0), expected, rtol=0.2)


def test_arguments_out_of_range_are_refused():
    with pytest.raises(ConfigError, match=r"fraction must be in \(0, 1\], got 1\.5"):
        dims_for_energy(FLAT, 1.5)
    with pytest.raises(DataError, match="two singular values or more, got 1"):
        tail_slope(known([1.0]))
    with pytest.raises(DataError, match="a number other than zero"):
        mean_share(np.zeros((3, 3)))
