"""The sufficient statistics of a table: one pass, float64, and summaries of parts add up."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int, Num
from torch import Tensor, float64

from multiembed.base.errors import DataError

Matrix = Num[np.ndarray, "rows dim"] | Num[Tensor, "rows dim"]
"""A table: a NumPy array (mapped from a file or not) or a tensor, in any real precision."""

BLOCK_NUMBERS = 2**18
"""Numbers converted at once: 2 MB as float64, which stay in a core's cache for the product."""

BLOCK_ROWS = 4096
"""Most rows in a block: sums of sums of so many round less than one long sum."""

Weights = Num[np.ndarray, " weights"] | Num[Tensor, " weights"]
"""One non-negative weight per row."""


@dataclass(eq=False, slots=True)
class Summary:
    """What every spectral measure of a `(rows, dim)` table needs, whatever its rows.

    Shards, machines and passes combine by `+`; the order of the parts changes nothing
    beyond rounding. With weights, `total` and `gram` are sums of `w x` and `w x x^T`.
    """

    rows: int
    """Rows seen, whatever their weights."""
    weight: float
    """Sum of the weights; the number of rows when unweighted."""
    total: Float64[np.ndarray, " dim"]
    """Sum of the rows."""
    gram: Float64[np.ndarray, "dim dim"]
    """Sum of the outer products of the rows, exactly symmetric."""

    @classmethod
    def empty(cls, dim: int) -> "Summary":
        """Return the summary of no rows."""
        return cls(rows=0, weight=0.0, total=np.zeros(dim), gram=np.zeros((dim, dim)))

    @classmethod
    def of(
        cls, matrix: Matrix, weights: Weights | None = None, *, name: str = "matrix"
    ) -> "Summary":
        """Summarise a whole table, block by block.

        Raises:
            DataError: If a number is not finite; the message says `name`, row and column.
        """
        check_table(matrix, name)
        summary = cls.empty(matrix.shape[1])
        summary.add(matrix, weights, name=name)
        return summary

    @property
    def dim(self) -> int:
        """Columns of the table."""
        return len(self.total)

    def add(self, chunk: Matrix, weights: Weights | None = None, *, name: str = "matrix") -> None:
        """Take in further rows of the table.

        Raises:
            DataError: If the chunk is no table `dim` wide, or holds a number that is not finite.
        """
        check_table(chunk, name)
        if chunk.shape[1] != self.dim:
            raise DataError(f"{name} must have {self.dim} columns, got {chunk.shape[1]}")
        checked = None if weights is None else check_weights(weights, len(chunk), name=name)
        for start, block in row_blocks(chunk):
            part = None if checked is None else checked[start : start + len(block)]
            self._add_block(block, part, name=name)

    def _add_block(
        self,
        block: Float64[np.ndarray, "block dim"],
        weights: Float64[np.ndarray, " block"] | None,
        *,
        name: str,
    ) -> None:
        scaled = block if weights is None else block * np.sqrt(weights)[:, None]
        with np.errstate(invalid="ignore", over="ignore"):
            # NumPy sees that both factors are one array and calls BLAS's dsyrk: half the work.
            product = scaled.T @ scaled
        if not np.isfinite(product.trace()):
            refuse_non_finite(block, name=name, start=self.rows)
        self.gram += product
        self.total += (np.ones(len(block)) if weights is None else weights) @ block
        self.weight += len(block) if weights is None else float(weights.sum())
        self.rows += len(block)

    def __add__(self, other: "Summary") -> "Summary":
        if self.dim != other.dim:
            raise DataError(f"summaries must have one dim to add up, got {self.dim}, {other.dim}")
        return Summary(
            rows=self.rows + other.rows,
            weight=self.weight + other.weight,
            total=self.total + other.total,
            gram=self.gram + other.gram,
        )

    def blocks(self, dim: int) -> list["Summary"]:
        """Cut a table into blocks of `dim` columns side by side, such as embedding sets."""
        return [
            Summary(self.rows, self.weight, self.total[part], self.gram[part, part])
            for part in (slice(start, start + dim) for start in range(0, self.dim, dim))
        ]

    def centered_gram(self) -> Float64[np.ndarray, "dim dim"]:
        """Return the Gram matrix of the rows less their (weighted) mean."""
        if self.weight == 0:
            return self.gram.copy()
        return self.gram - np.outer(self.total, self.total) / self.weight


@dataclass(frozen=True, eq=False)
class TrainedSummary:
    """One table seen three ways; rows that no training row touched blur its spectrum."""

    trained: Summary
    """Rows with a positive count, once each."""
    untrained: Summary
    """The other rows, which hold what initialisation and weight decay left there."""
    weighted: Summary
    """Every row as often as training saw it."""

    @classmethod
    def empty(cls, dim: int) -> "TrainedSummary":
        """Return the summary of no rows."""
        return cls(Summary.empty(dim), Summary.empty(dim), Summary.empty(dim))

    @property
    def whole(self) -> Summary:
        """Every row once."""
        return self.trained + self.untrained

    def add(
        self, chunk: Matrix, counts: Int[np.ndarray, " counts"], *, name: str = "matrix"
    ) -> None:
        """Take in further rows of the table and how often training saw each.

        Raises:
            DataError: If the chunk is no table of this width, holds a number that is not
                finite, or has not one count, 0 or more, per row.
        """
        check_table(chunk, name)
        checked = check_weights(counts, len(chunk), name=name)
        for start, block in row_blocks(chunk):
            if not np.isfinite(block.sum()):
                refuse_non_finite(block, name=name, start=self.weighted.rows)
            count = checked[start : start + len(block)]
            self.trained.add(block[count > 0], name=name)
            self.untrained.add(block[count == 0], name=name)
            self.weighted.add(block, count, name=name)

    def __add__(self, other: "TrainedSummary") -> "TrainedSummary":
        return TrainedSummary(
            trained=self.trained + other.trained,
            untrained=self.untrained + other.untrained,
            weighted=self.weighted + other.weighted,
        )


def check_weights(weights: Weights, rows: int, *, name: str) -> Float64[np.ndarray, " weights"]:
    """Return the weights as float64.

    Raises:
        DataError: If there is not one per row, or one is negative or not finite.
    """
    if len(weights) != rows:
        raise DataError(f"weights of {name} must be one per row, {rows}, got {len(weights)}")
    checked = as_float64(weights[:, None])[:, 0]
    bad = ~(np.isfinite(checked) & (checked >= 0))
    if bad.any():
        row = int(np.argmax(bad))
        value = checked[row]
        raise DataError(f"weights of {name} must be finite and >= 0, got {value} in row {row}")
    return checked


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
