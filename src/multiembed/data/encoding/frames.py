"""Tables in memory, of whatever library, as polars data frames; what cannot be one is named."""

import datetime
from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from multiembed.base.errors import DataError
from multiembed.data.encoding.typed import LIBRARY_ERRORS, about_column

if TYPE_CHECKING:
    import pandas as pd  # only who hands such a frame over has it

VALUES_OF_OBJECTS = (str, bool, int, float, Decimal, datetime.date, datetime.time, np.generic)
NAMED_VALUES = ("Period", "Interval", "UUID")
"""More of them, by the name of their type."""


@runtime_checkable
class ArrowTable(Protocol):
    """A table that can hand its columns over as Arrow: polars, pandas, PyArrow, DuckDB, …."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Return a capsule with the columns."""


def as_polars(rows: ArrowTable) -> pl.DataFrame:
    """Return a table of any library as a polars data frame.

    Raises:
        DataError: If a column holds what is no plain value, or two have one name.
    """
    if isinstance(rows, pl.DataFrame):
        return rows
    module = type(rows).__module__.split(".")[0]
    if module not in ("pandas", "pyarrow"):
        with about_column("?"):
            return pl.DataFrame(rows)
    columns: dict[str, pl.Series] = {}
    for label, column in _named(rows):
        name = str(label)
        if name in columns:
            raise DataError(f"column names must differ, got {name!r} twice")
        with about_column(name):
            columns[name] = (_from_pandas if module == "pandas" else _from_arrow)(column)
    return pl.DataFrame(columns)


def _named(rows: "pd.DataFrame | pa.Table") -> "Iterable[tuple[object, pd.Series]]":
    if isinstance(rows, pa.Table):
        return zip(rows.column_names, rows.columns, strict=True)
    return rows.items()


def _from_arrow(column: pa.ChunkedArray) -> pl.Series:
    if pa.types.is_decimal256(column.type):
        column = column.cast(pa.string())
    elif pa.types.is_run_end_encoded(column.type):
        column = pa.chunked_array(
            [pc.call_function("run_end_decode", [part]) for part in column.chunks]
        )
    return pl.Series(pl.from_arrow(column))


def _from_pandas(column: "pd.Series") -> pl.Series:
    categories = getattr(column.dtype, "categories", None)
    kind = type(column.dtype if categories is None else categories.dtype).__name__
    if kind in ("PeriodDtype", "IntervalDtype"):
        return _as_pandas_writes(column)
    try:
        found = pl.Series(column)
    except LIBRARY_ERRORS:
        return _as_pandas_writes(column)
    strange = found.dtype == pl.Binary and not isinstance(column.dropna().iloc[0], bytes)
    return _as_pandas_writes(column) if strange else found


def _as_pandas_writes(column: "pd.Series") -> pl.Series:
    """Return the text of values of several types, as they stand in a file that pandas writes."""
    texts: list[str | None] = []
    for value, missing in zip(column, column.isna(), strict=True):
        known = isinstance(value, VALUES_OF_OBJECTS) or type(value).__name__ in NAMED_VALUES
        if not missing and (not known or isinstance(value, complex | np.complexfloating)):
            raise TypeError(f"one of type {type(value).__name__}")
        texts.append(None if missing else str(value))
    return pl.Series(texts, dtype=pl.String)
