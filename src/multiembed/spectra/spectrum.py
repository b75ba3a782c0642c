"""Singular values and directions of a table: by its Gram matrix, or by QR where tails matter."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float64, Num

from multiembed.base.errors import ConfigError
from multiembed.spectra.summary import (
    BLOCK_ROWS,
    Matrix,
    Summary,
    check_table,
    refuse_non_finite,
    row_blocks,
)

UNIT = float(np.finfo(np.float64).eps) / 2
"""Unit roundoff of float64."""

ESCALATE_BELOW = 1e-12
"""Smallest eigenvalue over largest below which a tail is worth a second pass."""

DIRECT_ROWS = 4
"""Tables of at most this many rows per column are factored directly: it costs no more."""

QR_BLOCK_NUMBERS = 2**16
"""Numbers factored at once: half a MB, which a core's cache holds. At least 4 rows per column,
since each block repeats the work of the triangle above it."""

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
    tail: bool = False,
    name: str = "matrix",
) -> Spectrum:
    """Return the singular values of a table or of the table behind a summary.

    One pass over the rows, in blocks. Eigenvalues of the Gram matrix within its rounding
    errors count as zero: a singular value below about 1e-7 of the largest may read 0, and a
    centred one below about 1e-6 of the largest uncentred one.

    Args:
        table: A matrix, or a summary (whose rows are no longer at hand).
        centered: Take the mean row (weighted, as the summary is) from every row first.
        tail: Small values matter: where the smallest is below 1e-6 of the largest, read a
            matrix a second time and factor it by QR. A summary cannot be read again: its
            spectrum stays on the Gram route and says so.
        name: What error messages call the table.

    Raises:
        DataError: If a number is not finite.
    """
    if isinstance(table, Summary):
        return gram_spectrum(table, centered=centered)
    check_table(table, name)
    rows, dim = table.shape
    if not is_tall(rows, dim):
        mean, energy = _mean_and_energy(table, name=name)
    else:
        summary = Summary.of(table, name=name)
        by_gram = gram_spectrum(summary, centered=centered)
        if not (tail and _too_deep(by_gram)):
            return by_gram
        mean, energy = summary.total / (summary.weight or 1.0), float(summary.gram.trace())
    factor = triangle(table, centre=mean if centered else None, name=name)
    return _triangle_spectrum(factor, rows=rows, energy=energy, centered=centered)


def is_tall(rows: int, dim: int) -> bool:
    """Whether a table has so many rows that its Gram matrix is cheaper than factoring it."""
    return rows > DIRECT_ROWS * dim


def spectrum_of_chunks(
    summary: Summary, chunks: Callable[[], Iterable[Num[np.ndarray, "chunk dim"]]]
) -> Spectrum:
    """Return the spectrum of a table that is summarised already and can be read once more.

    Args:
        summary: Of all its rows.
        chunks: Reads the rows again, in order; called only where the tail needs a QR.
    """
    rows, dim = summary.rows, summary.dim
    if is_tall(rows, dim):
        by_gram = gram_spectrum(summary)
        if not _too_deep(by_gram):
            return by_gram
    factor = np.zeros((0, dim))
    for chunk in chunks():
        factor = merge_triangles(factor, chunk.astype(np.float64))
    by_qr = spectrum(factor)
    growth = (dim + np.sqrt(rows)) / (dim + np.sqrt(len(factor)))
    return replace(by_qr, rows=rows, error_bound=by_qr.error_bound * float(growth))


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


def triangle(
    matrix: Matrix,
    *,
    centre: Float64[np.ndarray, " dim"] | None = None,
    name: str = "matrix",
) -> Float64[np.ndarray, "height dim"]:
    """Return R of `matrix - centre = QR`, with Q's columns orthonormal and never formed.

    R has the singular values and right singular vectors of the table, to about float64's
    precision of the largest (Demmel et al., *Communication-optimal parallel and sequential
    QR*, 2012): a Gram matrix, which squares them, loses those below 1e-8 of it.

    Args:
        matrix: The table; read once, in blocks.
        centre: A row to subtract from every row.
        name: What error messages call the table.
    """
    check_table(matrix, name)
    dim = matrix.shape[1]
    factor = np.zeros((0, dim))
    step = max(QR_BLOCK_NUMBERS // max(1, dim), 4 * dim)
    for start, block in row_blocks(matrix, step=step):
        if not np.isfinite(block.sum()):
            refuse_non_finite(block, name=name, start=start)
        factor = merge_triangles(factor, block if centre is None else block - centre)
    return factor


def merge_triangles(
    above: Float64[np.ndarray, "above dim"], below: Float64[np.ndarray, "below dim"]
) -> Float64[np.ndarray, "height dim"]:
    """Return the triangular factor of two tables stacked, given theirs or their rows."""
    return np.asarray(np.linalg.qr(np.concatenate([above, below]), mode="r"))


@dataclass(frozen=True, eq=False)
class Root:
    """Singular values and right singular vectors of a table.

    Every projection of the table has the singular values of the same projection of `matrix`.
    """

    scales: Float64[np.ndarray, " height"]
    """Singular values, falling, `min(rows, dim)` of them."""
    directions: Float64[np.ndarray, "height dim"]
    """Right singular vectors, one per row."""

    @property
    def matrix(self) -> Float64[np.ndarray, "height dim"]:
        """The root: a matrix with the table's Gram matrix, for any number of rows."""
        return self.scales[:, None] * self.directions

    @property
    def abundance(self) -> float:
        """Information abundance of the table; 0 for one of zeros."""
        largest = float(self.scales.max(initial=0.0))
        return float(self.scales.sum()) / largest if largest > 0 else 0.0


def gram_root(summary: Summary, *, centered: bool = False) -> Root:
    """Return the root of a table from its Gram matrix; values lost to rounding are 0."""
    energies, vectors = np.linalg.eigh(summary.centered_gram() if centered else summary.gram)
    scales = np.sqrt(above_rounding(energies, summary, centered=centered))[::-1]
    height = min(summary.rows, summary.dim)
    return Root(scales=scales[:height], directions=vectors.T[::-1][:height])


def abundances(
    matrices: Float64[np.ndarray, "*stack height width"],
) -> Float64[np.ndarray, "*stack"]:
    """Return the information abundance of every matrix of a stack; 0 for one of zeros."""
    values = np.linalg.svd(matrices, compute_uv=False)
    largest = values[..., 0]
    return np.divide(values.sum(axis=-1), largest, out=np.zeros_like(largest), where=largest > 0)


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


def _mean_and_energy(table: Matrix, *, name: str) -> tuple[Float64[np.ndarray, " dim"], float]:
    """Return the mean row and the sum of squares, in memory that wide tables have too."""
    rows, dim = table.shape
    total, energy = np.zeros(dim), 0.0
    for start, block in row_blocks(table):
        with np.errstate(invalid="ignore", over="ignore"):
            energy += float(np.einsum("r,rc,rc->", np.ones(len(block)), block, block))
            total += np.ones(len(block)) @ block
        if not np.isfinite(energy):
            refuse_non_finite(block, name=name, start=start)
    return total / (rows or 1), energy


def _rounding(rows: int, dim: int) -> float:
    return UNIT * (BLOCK_ROWS / 4 + dim + float(np.sqrt(rows)))


def _gram_error(energies: Float64[np.ndarray, " values"], error: float) -> float:
    largest = float(energies.max(initial=0.0))
    if largest == 0:
        return 0.0
    smallest = float(energies[-1])
    root = float(np.sqrt(error / largest))
    return min(root, error / float(np.sqrt(largest) * np.sqrt(smallest))) if smallest else root


def _too_deep(by_gram: Spectrum) -> bool:
    values = by_gram.singular_values
    return bool(values.size) and bool(values[-1] ** 2 < ESCALATE_BELOW * values[0] ** 2)


@dataclass(frozen=True, eq=False)
class Directions:
    """A table's mean row, and the directions in which its rows leave it."""

    mean: Float64[np.ndarray, " dim"]
    basis: Float64[np.ndarray, "kept dim"]
    """Orthonormal rows, the one with the largest energy first."""


def principal_directions(table: Matrix, *, keep: float, name: str = "matrix") -> Directions:
    """Return the fewest directions that carry the share `keep` of a table's energy.

    The energy is that of the rows less their mean, which is kept whole: a common offset can be
    nearly all of a table's energy and yet tell no two ids apart. No other directions lose less
    (Eckart & Young, 1936). With `keep` 1, what is lost is below float64's roundoff of the table.

    Every row counts once, as in all spectra of the paper. On flight records, weights by how often
    training met a row bought no better AUC for the same memory.

    Args:
        table: Read twice, in blocks.
        keep: Above 0, at most 1.
        name: What error messages call the table.

    Raises:
        ConfigError: If `keep` is not a share.
        DataError: If a number is not finite.
    """
    if not 0 < keep <= 1:
        raise ConfigError(f"keep must be above 0 and at most 1, got {keep}")
    check_table(table, name)
    whole = Summary.of(table, name=name)
    mean = whole.total / max(1, whole.rows)
    centred = Summary.empty(whole.dim)  # taking the mean out first loses no digits
    for _, block in row_blocks(table):
        centred.add(block - mean, name=name)
    root = gram_root(centred)
    left = np.cumsum((root.scales**2)[::-1])[::-1]  # energy of a direction and all after it
    kept = int(np.count_nonzero(left > (1 - keep) * left.max(initial=0.0)))
    return Directions(mean=mean, basis=root.directions[:kept])
