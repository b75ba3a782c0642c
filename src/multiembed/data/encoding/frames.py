"""Tables in memory, of whatever library, as polars data frames; what cannot be one is named."""

import datetime
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from multiembed.base.errors import DataError
from multiembed.data.encoding.typed import EXTENSIONS, LIBRARY_ERRORS, about_column

if TYPE_CHECKING:
    import pandas as pd  # only who hands such a frame over has it

VALUES_OF_OBJECTS = (str, bool, int, float, Decimal, datetime.date, datetime.time, np.generic)
NAMED_VALUES = ("Period", "Interval", "UUID")
"""More of them, by the name of their type."""
VIEWS = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
"""Types that many functions of pyarrow lack, and those that stand for them."""


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
    if type(rows).__name__ == "Series":
        raise DataError("rows must be a table, got one column; .to_frame() makes a table of it")
    if isinstance(rows, pa.RecordBatch):
        rows = pa.Table.from_batches([rows])
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
            columns[name] = (_from_pandas if module == "pandas" else from_arrow)(column)
    return pl.DataFrame(columns)


def _named(rows: "pd.DataFrame | pa.Table") -> "Iterable[tuple[object, pd.Series]]":
    if isinstance(rows, pa.Table):
        return zip(rows.column_names, rows.columns, strict=True)
    return rows.items()


def from_arrow(column: pa.ChunkedArray) -> pl.Series:
    """Return a column of Arrow, of whatever type, as one of polars.

    Raises:
        One of `LIBRARY_ERRORS`: If it holds what polars has no type for.
    """
    while (step := _step(column.type)) is not None:
        parts = column.chunks or [pa.nulls(0, column.type)]
        column = pa.chunked_array([step(part) for part in parts])
    return pl.Series(pl.from_arrow(column))


def polars_reads(kind: pa.DataType) -> bool:
    """Say whether polars reads a type, and what it is made of, as it is meant."""
    inner = [kind.field(place).type for place in range(kind.num_fields)]
    if isinstance(kind, pa.BaseExtensionType):
        return False
    own = _step(kind) is None or pa.types.is_dictionary(kind) or kind in VIEWS
    return own and all(map(polars_reads, inner))


def _step(kind: pa.DataType) -> Callable[[pa.Array], pa.Array] | None:
    """Return what brings a type nearer to one that polars has; none where it is one."""
    of = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return _of_extension(kind)
    if of.is_run_end_encoded(kind):
        return lambda part: pc.call_function("run_end_decode", [part])
    if of.is_dictionary(kind):
        plain = VIEWS.get(kind.value_type, kind.value_type)
        return lambda part: part.dictionary.cast(plain).take(part.indices)
    fixed = of.is_timestamp(kind) and kind.tz is not None and kind.tz[0] in "+-"
    if fixed or of.is_decimal256(kind) or (of.is_decimal(kind) and kind.scale < 0):
        return lambda part: part.cast(pa.string())
    if of.is_list_view(kind) or of.is_large_list_view(kind):
        # A cast of pyarrow gets the offsets of empty lists wrong.
        return lambda part: pa.array(part.to_pylist(), pa.large_list(kind.value_type))
    return (lambda part: part.cast(VIEWS[kind])) if kind in VIEWS else None


def _of_extension(kind: pa.BaseExtensionType) -> Callable[[pa.Array], pa.Array]:
    if kind.extension_name == "arrow.uuid":
        return lambda part: pa.array([None if x is None else str(x) for x in part.to_pylist()])
    if kind.extension_name not in EXTENSIONS:
        raise TypeError(str(kind))
    plain = pa.bool_() if kind.extension_name == "arrow.bool8" else kind.storage_type
    return lambda part: part.storage.cast(plain)


def _from_pandas(column: "pd.Series") -> pl.Series:
    categories = getattr(column.dtype, "categories", None)
    dtype = column.dtype if categories is None else categories.dtype
    if type(dtype).__name__ in ("PeriodDtype", "IntervalDtype"):
        return _as_pandas_writes(column)
    if type(dtype).__name__ == "ArrowDtype":
        found = pa.array(column)
        return from_arrow(
            found if isinstance(found, pa.ChunkedArray) else pa.chunked_array([found])
        )
    try:
        found = pl.Series(column)
    except LIBRARY_ERRORS:
        return _as_pandas_writes(column)
    strange = str(dtype) == "object" and found.dtype == pl.Binary
    strange = strange and not isinstance(column.dropna().iloc[0], bytes)
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
