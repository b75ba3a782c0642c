"""Cells that hold several values: taken apart, counted value by value, put into slots."""

from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Bool, Int32, Int64

from multiembed.data.encoding.values import hashed
from multiembed.data.store.schema import Field

NO_VALUE = -1
"""Stands in the slots behind the last value of a cell."""


class Cells(NamedTuple):
    """The values of some cells, cell by cell."""

    values: pl.Series
    """Every cell's first values, as many as it has slots; a cell without any has a missing one."""
    sizes: Int64[np.ndarray, " cells"]
    """How many of the values belong to each cell."""
    cut: Bool[np.ndarray, " cells"]
    """Cells that have more."""

    def counts(self, rows: Int64[np.ndarray, " cells"]) -> pl.DataFrame:
        """Count the values, where so many rows have each cell."""
        counts = np.repeat(rows, self.sizes)
        frame = pl.DataFrame({"value": self.values, "count": counts}).filter(pl.col("count") > 0)
        return frame.group_by("value").agg(pl.col("count").sum())

    def matrix(
        self, ids: Int32[np.ndarray, " values"], slots: int
    ) -> Int32[np.ndarray, "cells slots"]:
        """Put an id for every value into the slots of its cell."""
        matrix = np.full((len(self.sizes), slots), NO_VALUE, np.int32)
        matrix[np.arange(slots) < self.sizes[:, None]] = ids
        return matrix


def split_cells(column: pl.Series, field: Field) -> Cells:
    """Take the text of cells apart; what is empty between two delimiters is no value."""
    parts = column.str.split(str(field.delimiter)).list.eval(
        pl.element().filter(pl.element() != "")
    )
    sizes = parts.list.len().to_numpy().astype(np.int64)
    kept = pl.select(
        pl.when(parts.list.len() > 0)
        .then(parts.list.head(field.slots))
        .otherwise(pl.lit([""], dtype=pl.List(pl.String)))
    ).to_series()
    values = kept.explode()
    if field.hash_size is not None:
        values = hashed(values, field.hash_size)
    return Cells(values, np.clip(sizes, 1, field.slots), sizes > field.slots)
