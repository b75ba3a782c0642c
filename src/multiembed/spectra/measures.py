"""How many directions a table uses, by several definitions; and how many a random table does.

`s_1 >= s_2 >= ...` are the singular values, `k` their number, `min(rows, dim)`; energies are
their squares. Every measure takes a table, a `Summary`, or a `Spectrum` computed before.
"""

import math
from functools import lru_cache
from typing import Literal

import numpy as np
from jaxtyping import Float64

from multiembed.base.errors import ConfigError, DataError
from multiembed.spectra.spectrum import Spectrum, spectrum
from multiembed.spectra.summary import Matrix, Summary

_Table = Matrix | Summary
"""Something whose spectrum can be computed, centred or not."""

SEED = 20240721
"""Seed of the Monte Carlo, so that equal shapes have equal nulls everywhere."""

TRACY_WIDOM_MEAN = -1.2065335745820
"""Mean of the Tracy-Widom distribution of real matrices (Bornemann, 2010)."""


def information_abundance(table: _Table | Spectrum) -> float:
    """Return how many singular directions `table` effectively uses.

    `sum s_k / s_1` (Guo et al., ICML 2024, definition 3.1): 1 for a rank-one matrix, `dim`
    for an isotropic one. Invariant to scaling and to rotation of either side, not to a
    common offset of the rows, which it mistakes for collapse.

    Args:
        table: `(rows, dim)`, an array or a tensor; or its summary or spectrum.

    Raises:
        DataError: If the table is all zeros, where the ratio is undefined.

    Example:
        >>> import numpy as np
        >>> round(information_abundance(np.diag([2.0, 1.0, 1.0])), 6)
        2.0
    """
    values = _non_zero(table)
    return float(values.sum() / values[0])


def centered_information_abundance(table: _Table) -> float:
    """Return the information abundance of the rows less their mean.

    A common offset, which a bias absorbs, changes the raw measure and not this one.

    Raises:
        DataError: If all rows are equal, where the ratio is undefined.
    """
    return information_abundance(spectrum(table, centered=True))


def normalized_information_abundance(table: _Table | Spectrum) -> float:
    """Return the information abundance over that of a random table of the same shape.

    The paper's Appendix I: about 1 for a table at its initialisation, whatever its shape.
    """
    found = _spectrum(table)
    return information_abundance(found) / null_information_abundance(found.rows, found.dim)


def effective_rank(
    table: _Table | Spectrum, *, of: Literal["values", "energies"] = "values"
) -> float:
    """Return the exponential of the entropy of the spectrum.

    `exp(-sum p_k log p_k)`, with `p_k = s_k / sum s` for `values` (Roy & Vetterli, 2007;
    RankMe: Garrido et al., 2023) or `p_k = s_k^2 / sum s^2` for `energies`. Both go by this
    name in public code, and they differ.
    """
    if of not in ("values", "energies"):
        raise ConfigError(f"of must be 'values' or 'energies', got {of!r}")
    values = _non_zero(table)
    parts = values if of == "values" else (values / values[0]) ** 2
    shares = parts / parts.sum()
    shares = shares[shares > 0]
    return float(np.exp(-np.sum(shares * np.log(shares))))


def stable_rank(table: _Table | Spectrum) -> float:
    """Return `sum s_k^2 / s_1^2` (Rudelson & Vershynin, 2007)."""
    return float(_energies(table).sum())


def participation_ratio(table: _Table | Spectrum) -> float:
    """Return `(sum s_k^2)^2 / sum s_k^4`, the inverse of the energies' concentration."""
    energies = _energies(table)
    return float(energies.sum() ** 2 / np.sum(energies**2))


def dims_for_energy(table: _Table | Spectrum, fraction: float) -> int:
    """Return the fewest directions that hold `fraction` of the energy: K90 with 0.9.

    A table truncated to so many directions keeps that share of its squared Frobenius norm
    (Eckart & Young, 1936).
    """
    if not 0 < fraction <= 1:
        raise ConfigError(f"fraction must be in (0, 1], got {fraction}")
    held = np.cumsum(_energies(table))
    return int(np.searchsorted(held, fraction * held[-1] * (1 - 1e-12))) + 1


def condition(table: _Table | Spectrum) -> float:
    """Return `s_1 / s_k`; infinite where the smallest is zero, or too small to tell from it."""
    values = _non_zero(_spectrum(table, tail=True))
    return float(values[0] / values[-1]) if values[-1] > 0 else math.inf


def tail_slope(table: _Table | Spectrum) -> float:
    """Return `a` of the power law `s_k^2 ~ k^-a` that fits the spectrum best.

    By least squares of log energy on log `k` (alpha-ReQ: Agrawal et al., 2022): 0 for a flat
    spectrum, the steeper the tail the larger, infinite where values past the first are zero.

    Raises:
        DataError: If the spectrum has fewer than two values, through which no slope goes.
    """
    values = _non_zero(_spectrum(table, tail=True))
    if len(values) < 2:
        raise DataError(f"a tail slope must have two singular values or more, got {len(values)}")
    if values[-1] == 0:
        return math.inf
    places = np.log(np.arange(1, len(values) + 1))
    places -= places.mean()
    return float(-2 * np.sum(places * np.log(values)) / np.sum(places**2))


def mean_share(table: _Table) -> float:
    """Return the share of the energy that the mean row holds: `rows |mean|^2 / sum s_k^2`.

    1 where all rows are equal, 0 for a centred table; where it is large, raw measures see
    the mean and not the table.
    """
    summary = table if isinstance(table, Summary) else Summary.of(table)
    energy = float(summary.gram.trace())
    if energy == 0:
        raise DataError("table must have a number other than zero, got all zeros")
    return float(summary.total @ summary.total) / (summary.weight * energy)


def _spectrum(table: _Table | Spectrum, *, tail: bool = False) -> Spectrum:
    return table if isinstance(table, Spectrum) else spectrum(table, tail=tail)


def _non_zero(table: _Table | Spectrum) -> Float64[np.ndarray, " values"]:
    values = _spectrum(table).singular_values
    if values.max(initial=0.0) == 0:
        raise DataError("table must have a number other than zero, got all zeros")
    return values


def _energies(table: _Table | Spectrum) -> Float64[np.ndarray, " values"]:
    """Return the squares of the singular values over the largest."""
    values = _non_zero(table)
    return (values / values[0]) ** 2


@lru_cache(maxsize=4096)
def null_information_abundance(rows: int, dim: int) -> float:
    """Return the mean information abundance of a `(rows, dim)` table of independent normals.

    The paper's Appendix I normalises by it. With `p <= n` the two sides, the closed form is
    `p E[sqrt(x)] sqrt(n) / E[s_1]`: `x` follows the Marchenko-Pastur law of ratio `p / n`,
    and the largest singular value has Johnstone's mean (2001), which matters: the edge of
    the law alone is wrong by 10% at 10 x 10. Where `n` is close to a small `p`, a seeded
    Monte Carlo takes over. Against long Monte Carlo runs the error stays below 0.3%.

    Raises:
        DataError: If `rows` or `dim` is below 1.
    """
    if rows < 1 or dim < 1:
        raise DataError(f"a random table must have rows and dim >= 1, got {rows} x {dim}")
    small, large = sorted((rows, dim))
    if small == 1:
        return 1.0
    if small >= 40 or large >= 30 * small or (small >= 10 and large >= 4 * small):
        return _closed_form(small, large)
    return _monte_carlo(small, large)


def random_root(rows: int, dim: int, rng: np.random.Generator) -> Float64[np.ndarray, "height dim"]:
    """Return a matrix with the Gram matrix of a random normal `(rows, dim)` table.

    Bartlett's triangle: its cost does not grow with `rows`.
    """
    height = min(rows, dim)
    root = np.triu(rng.standard_normal((height, dim)), k=1)
    steps = np.arange(height)
    root[steps, steps] = np.sqrt(rng.chisquare(rows - steps))
    return root


def _closed_form(small: int, large: int) -> float:
    ratio = small / large
    # With x = 1 + ratio + 2 sqrt(ratio) cos t, the law's density times dx is smooth in t.
    angles = (np.arange(2000) + 0.5) * np.pi / 2000
    points = 1 + ratio + 2 * np.sqrt(ratio) * np.cos(angles)
    mean_root = float(np.mean(2 * np.sin(angles) ** 2 / np.sqrt(points)))
    sides = np.sqrt(large - 0.5), np.sqrt(small - 0.5)
    edge = sum(sides) ** 2
    spread = sum(sides) * (1 / sides[0] + 1 / sides[1]) ** (1 / 3)
    return float(small * mean_root * np.sqrt(large / (edge + TRACY_WIDOM_MEAN * spread)))


def _monte_carlo(small: int, large: int) -> float:
    """Average over bidiagonal matrices with the very singular values of normal ones.

    Dumitriu & Edelman (2002); the standard error stays below 0.15%.
    """
    rng = np.random.default_rng((SEED, small, large))
    draws = 40_000 // small
    steps = np.arange(small)
    matrices = np.zeros((draws, small, small))
    matrices[:, steps, steps] = np.sqrt(rng.chisquare(large - steps, (draws, small)))
    below = rng.chisquare(small - steps[1:], (draws, small - 1))
    matrices[:, steps[1:], steps[:-1]] = np.sqrt(below)
    values = np.linalg.svd(matrices, compute_uv=False)
    return float(np.mean(values.sum(axis=1) / values[:, 0]))
