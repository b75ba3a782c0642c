"""Data frames of other libraries as ours."""

from typing import Protocol, runtime_checkable

import polars as pl
import pyarrow as pa

from multiembed.base.errors import DataError


@runtime_checkable
class ArrowTable(Protocol):
    """A table that can hand its columns over as Arrow: polars, pandas, PyArrow, DuckDB, …."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Return a capsule with the columns."""


def as_polars(rows: ArrowTable) -> pl.DataFrame:
    """Return a table of any library as a polars data frame.

    Raises:
        DataError: If a column holds values of several types.
    """
    if isinstance(rows, pl.DataFrame):
        return rows
    try:
        return pl.DataFrame(rows)
    except (pa.ArrowException, pl.exceptions.PolarsError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or ["nothing"])[0]
        raise DataError(f"rows must have columns of one type each, got: {reason}") from None
