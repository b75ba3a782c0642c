"""Any table, read in blocks of rows as float64, so that memory does not grow with its rows."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64, Num
from torch import Tensor, float64

from multiembed.base.errors import DataError

Matrix = Num[np.ndarray, "rows dim"] | Num[Tensor, "rows dim"]
"""A table: a NumPy array (mapped from a file or not) or a tensor, in any real precision."""

BLOCK_NUMBERS = 2**18
"""Numbers converted at once: 2 MB as float64, which stay in a core's cache for the product."""


def check_table(matrix: np.ndarray | Tensor, name: str) -> None:
    """Refuse what is no table of real numbers.

    Raises:
        DataError: If `matrix` is not two-dimensional, or is complex or not numeric.
    """
    if matrix.ndim != 2:
        raise DataError(f"{name} must have two dimensions (rows, dim), got {matrix.ndim}")
    real = not matrix.is_complex() if isinstance(matrix, Tensor) else matrix.dtype.kind in "fiu"
    if not real:
        raise DataError(f"{name} must hold real numbers, got {matrix.dtype}")


BLOCK_ROWS = 4096
"""Most rows in a block: sums of sums of so many round less than one long sum."""


def as_float64(block: np.ndarray | Tensor) -> Float64[np.ndarray, "rows dim"]:
    """Return a block as a float64 array; values of lower precision are taken as stored."""
    if isinstance(block, Tensor):
        return block.detach().to("cpu", float64).numpy()
    return np.asarray(block, dtype=np.float64)


def row_blocks(
    matrix: Matrix, *, step: int | None = None
) -> Iterator[tuple[int, Float64[np.ndarray, "block dim"]]]:
    """Yield the first row's number and the rows of each block, in order; `step` rows each."""
    rows, dim = matrix.shape
    size = step or min(BLOCK_ROWS, max(256, BLOCK_NUMBERS // max(1, dim)))
    for start in range(0, rows, size):
        yield start, as_float64(matrix[start : start + size])


def refuse_non_finite(block: Float64[np.ndarray, "block dim"], *, name: str, start: int) -> None:
    """Say which number of a block, whose first row is `start`, is not finite or too large.

    Raises:
        DataError: Always; call it once a sum over the block came out non-finite.
    """
    bad = np.argwhere(~np.isfinite(block))
    if bad.size:
        row, column = (int(n) for n in bad[0])
        value = block[row, column]
        raise DataError(
            f"{name} must hold finite numbers, got {value} in row {start + row}, column {column}"
        )
    largest = float(np.abs(block).max())
    raise DataError(f"{name} must hold numbers whose squares add up, got one of {largest:.3g}")
