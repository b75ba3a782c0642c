"""The sufficient statistics of a table: one pass, float64, and summaries of parts add up."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int, Num
from torch import Tensor

from multiembed.base.errors import DataError
from multiembed.spectra.blocks import Matrix, as_float64, check_table, refuse_non_finite, row_blocks

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


def summarise_trained(
    matrix: Matrix, counts: Int[np.ndarray, " counts"], *, name: str = "matrix"
) -> TrainedSummary:
    """Summarise all rows, trained rows and rows weighted by their counts, in one pass.

    Args:
        matrix: The table.
        counts: How often training saw each row; 0 for a row never trained.
        name: What error messages call the table.
    """
    check_table(matrix, name)
    summary = TrainedSummary.empty(matrix.shape[1])
    summary.add(matrix, counts, name=name)
    return summary


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
