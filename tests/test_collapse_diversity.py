"""Angles between embedding sets: planted, worked by hand, and where the paper's algebra fails."""

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles

from multiembed.base.errors import DataError
from multiembed.spectra.diversity import (
    Diversity,
    mean_diversity,
    random_set_diversity,
    set_diversity,
)
from multiembed.spectra.measures import information_abundance
from multiembed.spectra.summary import Summary

STACKED = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
CROSSED = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])


def orthonormal(rows, columns, rng):
    return np.linalg.qr(rng.standard_normal((rows, columns)))[0]


def planted(cosines, ratio, rng, rows=5000):
    """Two sets with these cosines between them, each with spectra that fall to `ratio`."""
    dim = len(cosines)
    basis = orthonormal(rows, 2 * dim, rng)
    first, rest = basis[:, :dim], basis[:, dim:]
    second = first * cosines + rest * np.sqrt(1 - cosines**2)
    scales = np.geomspace(1, ratio, dim)
    mixed = [
        (part @ orthonormal(dim, dim, rng) * rng.permutation(scales)) @ orthonormal(dim, dim, rng)
        for part in (first, second)
    ]
    return np.concatenate(mixed, axis=1)


def pair(a, b):
    return np.concatenate([a, b], axis=1)


def test_the_worked_example_of_appendix_f():
    """Two learned sets of size 2: equal ones share both directions, crossed ones one."""
    equal, crossed = pair(STACKED, STACKED), pair(STACKED, CROSSED)

    same, different = set_diversity(equal, sets=2), set_diversity(crossed, sets=2)

    assert information_abundance(equal) == pytest.approx(2)
    assert information_abundance(crossed) == pytest.approx(1 + np.sqrt(2))
    np.testing.assert_allclose(same.cosines[0, 1], [1, 1])
    np.testing.assert_allclose(different.cosines[0, 1], [1, 0], atol=1e-12)
    assert same.diversity[0, 1] == pytest.approx(0, abs=1e-12)
    assert different.diversity[0, 1] == pytest.approx(0.5)
    assert different.shared[0, 1] == 1
    assert np.linalg.matrix_rank(crossed) == 3


def test_the_rank_identity_of_appendix_f_fails_for_two_lines():
    """(1, 0) and (1, 1) are two lines and span the plane; the paper's formula says rank 1."""
    lines = np.array([[1.0, 1.0], [0.0, 1.0]])

    found = set_diversity(lines, sets=2)

    of_the_paper = found.ranks.sum() - np.sum(found.cosines[0, 1] > 1e-12)
    ours = found.ranks.sum() - found.shared[0, 1]
    assert (of_the_paper, ours, np.linalg.matrix_rank(lines)) == (1, 2, 2)


def test_the_rank_identity_of_appendix_f_fails_for_random_tables():
    table = np.random.default_rng(0).standard_normal((1000, 20))

    found = set_diversity(table, sets=2)

    assert found.ranks.sum() - np.sum(found.cosines[0, 1] > 1e-12) == 10
    assert found.ranks.sum() - found.shared[0, 1] == np.linalg.matrix_rank(table) == 20


@pytest.mark.parametrize("ratio", [1e-1, 1e-3, 1e-5, 1e-7, 1e-9])
def test_planted_angles_are_found_however_collapsed_the_sets(ratio):
    rng = np.random.default_rng(0)
    cosines = np.sort(rng.random(8))[::-1]

    found = set_diversity(planted(cosines, ratio, rng), sets=2)

    np.testing.assert_allclose(found.cosines[0, 1], cosines, atol=2e-5)
    assert found.diversity[0, 1] == pytest.approx(1 - cosines.mean(), abs=2e-6)
    assert found.route == ("gram" if ratio >= 1e-3 else "qr")


def test_angles_agree_with_scipy_for_short_and_tall_tables():
    rng = np.random.default_rng(0)
    for rows in (12, 1000):
        table = rng.standard_normal((rows, 15))
        found = set_diversity(table, sets=3)
        for a in range(3):
            for b in range(3):
                angles = subspace_angles(*(table[:, 5 * s : 5 * s + 5] for s in (a, b)))
                np.testing.assert_allclose(
                    found.cosines[a, b], np.sort(np.cos(angles))[::-1], atol=1e-7
                )


def test_a_field_with_fewer_rows_than_columns_is_not_diverse_from_itself():
    """The paper's measure says 0.6 for 4 rows at dim 10; the rank-aware one says 0."""
    table = np.random.default_rng(0).standard_normal((4, 10))

    found = set_diversity(pair(table, table), sets=2)

    assert found.diversity[0, 1] == pytest.approx(0.6)
    assert found.rank_aware_diversity[0, 1] == pytest.approx(0, abs=1e-9)
    assert found.weighted_overlap[0, 1] == pytest.approx(1)
    assert found.cka[0, 1] == pytest.approx(1)


def test_noise_in_collapsed_directions_counts_for_angles_and_not_for_overlap():
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((2000, 1)) @ rng.standard_normal((1, 6))
    noisy = [shared + 1e-3 * rng.standard_normal((2000, 6)) for _ in range(2)]

    found = set_diversity(pair(*noisy), sets=2)

    assert found.diversity[0, 1] > 0.7
    assert found.weighted_overlap[0, 1] > 0.99
    assert found.cka[0, 1] > 0.99


def test_overlap_and_cka_agree_with_their_formulas():
    rng = np.random.default_rng(3)
    a, b = (
        rng.standard_normal((300, 4)) + 1,
        rng.standard_normal((300, 4)) @ np.diag([5, 1, 1, 0.1]),
    )
    a0, b0 = a - a.mean(axis=0), b - b.mean(axis=0)

    raw, centred = (set_diversity(pair(a, b), sets=2, centered=c) for c in (False, True))

    for found, x, y in ((raw, a, b), (centred, a0, b0)):
        nuclear = np.linalg.svd(x.T @ y, compute_uv=False).sum()
        norms = np.linalg.norm(x) * np.linalg.norm(y)
        assert found.weighted_overlap[0, 1] == pytest.approx(nuclear / norms, rel=1e-9)
        cka = np.linalg.norm(x.T @ y) ** 2 / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)
        assert found.cka[1, 0] == pytest.approx(cka, rel=1e-9)


def test_scale_and_rotation_of_a_set_change_no_angle():
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((2, 400, 5))
    plain = set_diversity(pair(a, b), sets=2)

    turned = set_diversity(pair(a, 7 * b @ orthonormal(5, 5, rng)), sets=2)

    np.testing.assert_allclose(turned.cosines, plain.cosines, atol=1e-9)
    np.testing.assert_allclose(turned.weighted_overlap, plain.weighted_overlap, atol=1e-9)
    np.testing.assert_allclose(turned.cka, plain.cka, atol=1e-9)


def test_directions_that_storage_made_up_are_not_counted():
    """A float64 table of rank 2 keeps rank 2 when it is stored in less precision."""
    rng = np.random.default_rng(0)
    low = rng.standard_normal((3000, 2)) @ rng.standard_normal((2, 6))
    full = rng.standard_normal((3000, 6))
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        table = torch.from_numpy(pair(low, full)).to(dtype)

        found = set_diversity(table, sets=2)

        assert found.ranks.tolist() == [2, 6], dtype
        assert set_diversity(table, sets=2, tolerance=1e-15).ranks[1] == 6


def test_a_summary_gives_the_angles_of_its_table():
    table = np.random.default_rng(0).standard_normal((500, 8))

    of_summary = set_diversity(Summary.of(table), sets=2)

    np.testing.assert_allclose(of_summary.cosines, set_diversity(table, sets=2).cosines, atol=1e-9)
    assert of_summary.route == "gram"


def test_a_set_of_zeros_has_no_direction():
    table = pair(np.zeros((50, 3)), np.random.default_rng(0).standard_normal((50, 3)))

    found = set_diversity(table, sets=2)

    assert found.ranks.tolist() == [0, 3]
    assert np.isnan(found.cka[0, 1])
    assert np.isnan(found.rank_aware_diversity[0, 1])
    assert np.isnan(mean_diversity([found]).cka)
    assert mean_diversity([found]).diversity == 1


@pytest.mark.parametrize(("rows", "dim"), [(100_000, 10), (1_000_000, 20)])
def test_random_sets_are_as_diverse_as_theory_says(rows, dim):
    """The mean singular value of a square normal matrix over sqrt(rows): a quarter circle."""
    found = [random_set_diversity(rows, dim, sets=4, seed=seed) for seed in range(5)]

    expected = 1 - 8 / (3 * np.pi) * np.sqrt(dim / rows)
    assert mean_diversity(found).diversity == pytest.approx(expected, rel=1e-3)


def test_the_random_table_agrees_with_one_that_is_drawn_in_full():
    rng = np.random.default_rng(0)
    drawn = [set_diversity(rng.standard_normal((60, 12)), sets=2) for _ in range(300)]
    rooted = [random_set_diversity(60, 6, sets=2, seed=seed) for seed in range(300)]

    assert mean_diversity(rooted).diversity == pytest.approx(
        mean_diversity(drawn).diversity, abs=0.01
    )
    assert mean_diversity(rooted).cka == pytest.approx(mean_diversity(drawn).cka, abs=0.01)


def test_means_are_over_pairs_of_different_sets_then_over_fields():
    def field(values):
        matrix = np.array(values)
        return Diversity(
            cosines=np.zeros((len(matrix), len(matrix), 1)),
            ranks=np.ones(len(matrix), dtype=np.int64),
            diversity=matrix,
            rank_aware_diversity=matrix,
            weighted_overlap=matrix,
            cka=matrix,
            route="qr",
            tolerance=0.0,
        )

    three = field([[9.0, 0.1, 0.2], [0.1, 9.0, 0.6], [0.2, 0.6, 9.0]])
    two = field([[9.0, 0.5], [0.5, 9.0]])

    assert mean_diversity([three, two]).diversity == pytest.approx((0.3 + 0.5) / 2)
    with pytest.raises(DataError, match="two sets or more in every field"):
        mean_diversity([three, field([[9.0]])])


def test_columns_must_divide_into_sets():
    with pytest.raises(DataError, match="word must have columns in 3 equal sets, got 8"):
        set_diversity(np.ones((5, 8)), sets=3, name="word")
