"""How many directions a table uses: one number from a spectrum, by several definitions.

`s_1 >= s_2 >= ...` are the singular values, `k` their number, `min(rows, dim)`; energies are
their squares. Every measure takes a table, a `Summary`, or a `Spectrum` computed before.
"""

import math
from typing import Literal

import numpy as np
from jaxtyping import Float64

from multiembed.base.errors import ConfigError, DataError
from multiembed.spectra.blocks import Matrix
from multiembed.spectra.null import null_information_abundance
from multiembed.spectra.spectrum import Spectrum, spectrum
from multiembed.spectra.summary import Summary

Table = Matrix | Summary
"""Something whose spectrum can be computed, centred or not."""


def information_abundance(table: Table | Spectrum) -> float:
    """Return how many singular directions `table` effectively uses.

    `sum s_k / s_1` (Guo et al., ICML 2024, definition 3.1): 1 for a rank-one matrix, `dim`
    for an isotropic one. Invariant to scaling and to rotation of either side, not to a
    common offset of the rows, which it mistakes for collapse.

    Raises:
        DataError: If the table is all zeros, where the ratio is undefined.
    """
    values = _non_zero(table)
    return float(values.sum() / values[0])


def centered_information_abundance(table: Table) -> float:
    """Return the information abundance of the rows less their mean.

    A common offset, which a bias absorbs, changes the raw measure and not this one.

    Raises:
        DataError: If all rows are equal, where the ratio is undefined.
    """
    return information_abundance(spectrum(table, centered=True))


def normalized_information_abundance(table: Table | Spectrum) -> float:
    """Return the information abundance over that of a random table of the same shape.

    The paper's Appendix I: about 1 for a table at its initialisation, whatever its shape.
    """
    found = _spectrum(table)
    return information_abundance(found) / null_information_abundance(found.rows, found.dim)


def relative_information_abundance(table: Table | Spectrum) -> float:
    """Return the information abundance over `min(rows, dim)`, the most the shape allows.

    The paper's Appendix I divides by `dim`, which a field with fewer values cannot reach.
    """
    found = _spectrum(table)
    return information_abundance(found) / len(found.singular_values)


def effective_rank(
    table: Table | Spectrum, *, of: Literal["values", "energies"] = "values"
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


def stable_rank(table: Table | Spectrum) -> float:
    """Return `sum s_k^2 / s_1^2` (Rudelson & Vershynin, 2007)."""
    return float(_energies(table).sum())


def participation_ratio(table: Table | Spectrum) -> float:
    """Return `(sum s_k^2)^2 / sum s_k^4`, the inverse of the energies' concentration."""
    energies = _energies(table)
    return float(energies.sum() ** 2 / np.sum(energies**2))


def dims_for_energy(table: Table | Spectrum, fraction: float) -> int:
    """Return the fewest directions that hold `fraction` of the energy: K90 with 0.9.

    A table truncated to so many directions keeps that share of its squared Frobenius norm
    (Eckart & Young, 1936).
    """
    if not 0 < fraction <= 1:
        raise ConfigError(f"fraction must be in (0, 1], got {fraction}")
    held = np.cumsum(_energies(table))
    return int(np.searchsorted(held, fraction * held[-1] * (1 - 1e-12))) + 1


def numerical_rank(table: Table | Spectrum, tolerance: float | None = None) -> int:
    """Return how many singular values exceed `tolerance` times the largest.

    Without a tolerance: NumPy's, `eps max(rows, dim)`, or the spectrum's error bound where
    that is larger. A matrix is read again by QR where its tail is below the Gram's reach.
    """
    found = _spectrum(table, tail=True)
    values = _non_zero(found)
    if tolerance is None:
        eps = float(np.finfo(np.float64).eps)
        tolerance = max(eps * max(found.rows, found.dim), found.error_bound)
    return int(np.sum(values > tolerance * values[0]))


def condition(table: Table | Spectrum) -> float:
    """Return `s_1 / s_k`; infinite where the smallest is zero, or too small to tell from it."""
    values = _non_zero(_spectrum(table, tail=True))
    return float(values[0] / values[-1]) if values[-1] > 0 else math.inf


def tail_slope(table: Table | Spectrum) -> float:
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


def mean_share(table: Table) -> float:
    """Return the share of the energy that the mean row holds: `rows |mean|^2 / sum s_k^2`.

    1 where all rows are equal, 0 for a centred table; where it is large, raw measures see
    the mean and not the table.
    """
    summary = table if isinstance(table, Summary) else Summary.of(table)
    energy = float(summary.gram.trace())
    if energy == 0:
        raise DataError("table must have a number other than zero, got all zeros")
    return float(summary.total @ summary.total) / (summary.weight * energy)


def _spectrum(table: Table | Spectrum, *, tail: bool = False) -> Spectrum:
    return table if isinstance(table, Spectrum) else spectrum(table, tail=tail)


def _non_zero(table: Table | Spectrum) -> Float64[np.ndarray, " values"]:
    values = _spectrum(table).singular_values
    if values.max(initial=0.0) == 0:
        raise DataError("table must have a number other than zero, got all zeros")
    return values


def _energies(table: Table | Spectrum) -> Float64[np.ndarray, " values"]:
    """Return the squares of the singular values over the largest."""
    values = _non_zero(table)
    return (values / values[0]) ** 2
