"""What stands out of a spectrum, and how long rows are, against NumPy and exact moments."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multiembed.spectra.norms import RowNorms
from multiembed.spectra.spectrum import Spectrum, spectrum
from multiembed.spectra.standing import excess_spread, leading_directions, leading_share

RNG = np.random.default_rng(0)


def falling(values, rows=1000):
    """Return a spectrum with these singular values."""
    values = np.array(values, dtype=float)
    return Spectrum(values, rows=rows, dim=len(values), route="gram", error_bound=0.0)


@pytest.mark.parametrize(("rows", "columns"), [(400, 8), (30, 20), (12, 40), (9, 9)])
def test_a_random_table_has_no_excess_of_spread(rows, columns):
    """The mean over many draws is 0 within four standard errors."""
    draws = [
        excess_spread(
            np.linalg.svd(RNG.normal(size=(rows, columns)), compute_uv=False) ** 2,
            rows=rows,
            columns=columns,
        )
        for _ in range(400)
    ]

    assert abs(np.mean(draws)) < 4 * np.std(draws) / 20
    assert np.std(draws) < 2.6 / max(rows, columns)


def test_excess_of_spread_by_hand():
    """Energies 1 and 3: 2 * 10 / 16 - 1 = 1/4; chance has (4 + 2 - 2) / (2 * 5 + 2) = 1/3."""
    energies = np.array([3.0, 1.0])

    assert excess_spread(energies, rows=5, columns=2) == pytest.approx(1 / 4 - 1 / 3)
    assert excess_spread(100 * energies, rows=2, columns=5) == pytest.approx(1 / 4 - 1 / 3)


@pytest.mark.parametrize(
    ("values", "leading", "share"),
    [
        ([8, 1, 1, 1, 1, 1], 1, 64 / 69),
        ([8, 7, 1, 1, 1, 1], 2, 113 / 117),
        ([1.4, 1, 1, 1, 1, 1], 0, 0.0),  # no gap
        ([3, 2.9, 0, 0, 0, 0], 2, 1.0),
        ([8, 7, 6, 5, 1, 1], 0, 0.0),  # more than half of them
        ([1, 1, 1, 1, 1, 1], 0, 0.0),
        (np.arange(1, 65) ** -0.5, 0, 0.0),  # no even rest after any
        ([5, 1], 0, 0.0),  # a rest of one is always even
    ],
)
def test_directions_that_stand_above_an_even_rest(values, leading, share):
    assert leading_directions(falling(values)) == leading
    assert leading_share(falling(values)) == pytest.approx(share)


def test_leading_directions_do_not_depend_on_scale_or_axes():
    matrix = RNG.normal(size=(500, 12)) * np.append([5.0, 4.0], np.ones(10))
    turned = matrix @ np.linalg.qr(RNG.normal(size=(12, 12)))[0]

    for given_ in (matrix, turned, 1e-9 * turned, turned + 7):
        assert leading_directions(spectrum(given_, centered=True)) == 2


def norms_of(matrix, block=100):
    found = RowNorms.beside(matrix)
    for start in range(0, len(matrix), block):
        found.add(matrix[start : start + block])
    return found


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(5, 900),
    spread=st.floats(0, 0.8),
    scale=st.floats(1e-20, 1e20),
    seed=st.integers(0, 1000),
)
def test_lengths_are_those_of_numpy(rows, spread, scale, seed):
    """Medians within the width of a bin; the rows that hold a share exactly, bin by bin."""
    rng = np.random.default_rng(seed)
    matrix = scale * rng.normal(size=(rows, 6)) * np.exp(spread * rng.normal(size=(rows, 1)))

    found = norms_of(matrix)

    away = ((matrix - np.median(matrix, axis=0)) ** 2).sum(axis=1)
    # Which of two middle rows is the median is the bins' choice, and so is their width.
    low, high = np.sort(away)[[(rows - 1) // 2, rows // 2]]
    assert low / 1.07 <= found.median <= high * 1.07
    held = np.cumsum(np.sort(away)[::-1])
    fewest = int(np.searchsorted(held, 0.9 * held[-1])) + 1
    assert abs(found.holding(0.9) - fewest) <= 1 + 0.05 * fewest
    weights = found.weights(matrix)
    expected = np.minimum(1, (4 * np.sqrt(found.median) / np.sqrt(away)) ** 4)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    taken = 1 - (weights @ away) / away.sum()
    assert found.excess_energy() == pytest.approx(taken, abs=0.02)


def test_rows_near_zero_and_long_rows_are_counted():
    matrix = RNG.normal(size=(1000, 8)) + 2
    matrix[:300] = 0.0
    matrix[300:400] *= 1e-5
    matrix[400:402] = 500.0

    found = norms_of(matrix)

    assert found.near_zero == 400
    assert found.long()[0] == 2
    assert found.long()[1] > 0.99
    assert (found.weights(matrix[:400]) == 0).all()
    assert (found.weights(matrix[410:]) > 0.9).all()


def test_equal_rows_have_no_long_ones():
    for matrix in (np.ones((50, 4)), np.zeros((50, 4)), np.eye(50, 4) + 3):
        assert norms_of(matrix).excess_energy() == 0.0
