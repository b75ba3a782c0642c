"""The triangular factor of a tall table, block by block: the route that resolves the tail."""

import numpy as np
from jaxtyping import Float64

from multiembed.spectra.blocks import Matrix, check_table, refuse_non_finite, row_blocks
from multiembed.spectra.summary import Weights, check_weights

QR_BLOCK_NUMBERS = 2**16
"""Numbers factored at once: half a MB, which a core's cache holds. At least 4 rows per column,
since each block repeats the work of the triangle above it."""


def triangle(
    matrix: Matrix,
    *,
    centre: Float64[np.ndarray, " dim"] | None = None,
    weights: Weights | None = None,
    name: str = "matrix",
) -> Float64[np.ndarray, "height dim"]:
    """Return R of `matrix - centre = QR`, with Q's columns orthonormal and never formed.

    R has the singular values and right singular vectors of the table, to about float64's
    precision of the largest (Demmel et al., *Communication-optimal parallel and sequential
    QR*, 2012): a Gram matrix, which squares them, loses those below 1e-8 of it.

    Args:
        matrix: The table; read once, in blocks.
        centre: A row to subtract from every row.
        weights: One per row; rows are scaled by their square roots.
        name: What error messages call the table.
    """
    check_table(matrix, name)
    dim = matrix.shape[1]
    checked = None if weights is None else check_weights(weights, len(matrix), name=name)
    factor = np.zeros((0, dim))
    step = max(QR_BLOCK_NUMBERS // max(1, dim), 4 * dim)
    for start, block in row_blocks(matrix, step=step):
        if not np.isfinite(block.sum()):
            refuse_non_finite(block, name=name, start=start)
        shifted = block if centre is None else block - centre
        if checked is not None:
            shifted = shifted * np.sqrt(checked[start : start + len(block)])[:, None]
        factor = merge_triangles(factor, shifted)
    return factor


def merge_triangles(
    above: Float64[np.ndarray, "above dim"], below: Float64[np.ndarray, "below dim"]
) -> Float64[np.ndarray, "height dim"]:
    """Return the triangular factor of two tables stacked, given theirs or their rows."""
    return np.asarray(np.linalg.qr(np.concatenate([above, below]), mode="r"))
