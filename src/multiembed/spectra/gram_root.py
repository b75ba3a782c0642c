"""A small matrix that stands for a tall table: the same Gram matrix, a row per direction."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from multiembed.spectra.spectrum import above_rounding
from multiembed.spectra.summary import Summary


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


def column_block(summary: Summary, start: int, stop: int) -> Summary:
    """Return the summary of columns `start` to `stop` of a table."""
    return Summary(
        rows=summary.rows,
        weight=summary.weight,
        total=summary.total[start:stop],
        gram=summary.gram[start:stop, start:stop],
    )


def abundances(
    matrices: Float64[np.ndarray, "*stack height width"],
) -> Float64[np.ndarray, "*stack"]:
    """Return the information abundance of every matrix of a stack; 0 for one of zeros."""
    values = np.linalg.svd(matrices, compute_uv=False)
    largest = values[..., 0]
    return np.divide(values.sum(axis=-1), largest, out=np.zeros_like(largest), where=largest > 0)
