"""Singular values of a table: by its Gram matrix, or by QR where the tail matters."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64

from multiembed.base.errors import DataError
from multiembed.spectra.blocks import BLOCK_ROWS, Matrix, check_table, refuse_non_finite, row_blocks
from multiembed.spectra.summary import Summary, Weights, check_weights
from multiembed.spectra.tsqr import triangle

UNIT = float(np.finfo(np.float64).eps) / 2
"""Unit roundoff of float64."""

ESCALATE_BELOW = 1e-12
"""Smallest eigenvalue over largest below which a tail is worth a second pass."""

DIRECT_ROWS = 4
"""Tables of at most this many rows per column are factored directly: it costs no more."""

Route = Literal["gram", "qr"]


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The singular values of a `(rows, dim)` table, and how far they can be trusted."""

    singular_values: Float64[np.ndarray, " values"]
    """Falling, `min(rows, dim)` of them."""
    rows: int
    dim: int
    route: Route
    """`gram`: eigenvalues of the Gram matrix; `qr`: singular values of the triangular factor."""
    error_bound: float
    """Largest error of any singular value, as a share of the largest.

    With `u` the unit roundoff, `e = u (1024 + dim + sqrt(rows))` (rounding errors of long sums
    grow with the square root of their length, Higham & Mary, 2019; within a block of equal
    rows with the length, 1024 being what was measured) and `F` the Frobenius norm of the
    uncentred table: `e F / s_1` on the QR route. On the Gram route the squares err by
    `e F^2`, so `s_k` by `e F^2 / s_k`, never more than `sqrt(e) F`: the bound is the larger
    for the smallest `s_k`. What was rounded when the table was stored is not counted.
    """

    def __post_init__(self) -> None:
        assert len(self.singular_values) == min(self.rows, self.dim)


def spectrum(
    table: Matrix | Summary,
    *,
    centered: bool = False,
    weights: Weights | None = None,
    tail: bool = False,
    name: str = "matrix",
) -> Spectrum:
    """Return the singular values of a table or of the table behind a summary.

    One pass over the rows, in blocks. Eigenvalues of the Gram matrix within its rounding
    errors count as zero: a singular value below about 1e-7 of the largest may read 0, and a
    centred one below about 1e-6 of the largest uncentred one.

    Args:
        table: A matrix, or a summary (whose rows are no longer at hand).
        centered: Take the mean row (weighted, if weights are given) from every row first.
        weights: One per row of a matrix; rows are scaled by their square roots.
        tail: Small values matter: where the smallest is below 1e-6 of the largest, read a
            matrix a second time and factor it by QR. A summary cannot be read again: its
            spectrum stays on the Gram route and says so.
        name: What error messages call the table.

    Raises:
        DataError: If a number is not finite, or weights come with a summary.
    """
    if isinstance(table, Summary):
        if weights is not None:
            raise DataError("weights must be given when a summary is made, got them afterwards")
        return gram_spectrum(table, centered=centered)
    check_table(table, name)
    rows, dim = table.shape
    if rows <= DIRECT_ROWS * dim:
        mean, energy = _mean_and_energy(table, weights, name=name)
    else:
        summary = Summary.of(table, weights, name=name)
        by_gram = gram_spectrum(summary, centered=centered)
        if not (tail and _too_deep(by_gram)):
            return by_gram
        mean, energy = summary.total / (summary.weight or 1.0), float(summary.gram.trace())
    factor = triangle(table, centre=mean if centered else None, weights=weights, name=name)
    return _triangle_spectrum(factor, rows=rows, energy=energy, centered=centered)


def gram_spectrum(summary: Summary, *, centered: bool = False) -> Spectrum:
    """Return the spectrum of a summary, from the eigenvalues of its Gram matrix."""
    gram = summary.centered_gram() if centered else summary.gram
    count = min(summary.rows, summary.dim)
    energies = above_rounding(np.linalg.eigvalsh(gram), summary, centered=centered)[::-1][:count]
    error = _rounding(summary.rows, summary.dim) * float(summary.gram.trace())
    return Spectrum(
        singular_values=np.sqrt(energies),
        rows=summary.rows,
        dim=summary.dim,
        route="gram",
        error_bound=_gram_error(energies, error),
    )


def above_rounding(
    energies: Float64[np.ndarray, " values"], summary: Summary, *, centered: bool = False
) -> Float64[np.ndarray, " values"]:
    """Return eigenvalues of a Gram matrix, those that rounding alone can make set to 0."""
    # Uncentred, 4 units of roundoff were measured; the mean's own rounding weighs more.
    floor = _rounding(summary.rows, summary.dim) if centered else 8 * UNIT
    return np.where(energies > floor * float(summary.gram.trace()), energies, 0.0)


def _triangle_spectrum(
    factor: Float64[np.ndarray, "height dim"], *, rows: int, energy: float, centered: bool
) -> Spectrum:
    dim = factor.shape[1]
    values = np.linalg.svd(factor, compute_uv=False)[: min(rows, dim)]
    error = _rounding(rows, dim) * float(np.sqrt(energy))
    if centered:
        # The mean is itself rounded: equal rows leave dust, not zeros.
        values = np.where(values > error, values, 0.0)
    largest = float(values.max(initial=0.0))
    return Spectrum(
        singular_values=values,
        rows=rows,
        dim=dim,
        route="qr",
        error_bound=error / largest if largest else 0.0,
    )


def _mean_and_energy(
    table: Matrix, weights: Weights | None, *, name: str
) -> tuple[Float64[np.ndarray, " dim"], float]:
    """Return the mean row and the sum of squares, in memory that wide tables have too."""
    rows, dim = table.shape
    shares = np.ones(rows) if weights is None else check_weights(weights, rows, name=name)
    total, energy = np.zeros(dim), 0.0
    for start, block in row_blocks(table):
        share = shares[start : start + len(block)]
        with np.errstate(invalid="ignore", over="ignore"):
            energy += float(np.einsum("r,rc,rc->", share, block, block))
            total += share @ block
        if not np.isfinite(energy):
            refuse_non_finite(block, name=name, start=start)
    return total / (float(shares.sum()) or 1.0), energy


def _rounding(rows: int, dim: int) -> float:
    return UNIT * (BLOCK_ROWS / 4 + dim + float(np.sqrt(rows)))


def _gram_error(energies: Float64[np.ndarray, " values"], error: float) -> float:
    largest = float(energies.max(initial=0.0))
    if largest == 0:
        return 0.0
    smallest = float(energies[-1])
    root = float(np.sqrt(error / largest))
    return min(root, error / float(np.sqrt(largest * smallest))) if smallest else root


def _too_deep(by_gram: Spectrum) -> bool:
    values = by_gram.singular_values
    return bool(values.size) and bool(values[-1] ** 2 < ESCALATE_BELOW * values[0] ** 2)
