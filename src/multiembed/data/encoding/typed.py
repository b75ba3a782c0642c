"""Columns of any type: settled where rows are opened, as plain ones or refused by name; as text.

After `settled` a column holds text, numbers, booleans or moments. Categories and bytes are text
then, and so is a cell of several values: `BETWEEN` stands before each of them.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import polars as pl
import pyarrow as pa

from multiembed.base.errors import DataError
from multiembed.data.encoding.canonical import (
    ASKING,
    BETWEEN,
    WHOLE_TEXT,
    canonical_text,
    text_of_bytes,
)

_UNFIT = re.compile(r"\0|[\ud800-\udfff]|\A\*\Z|\A\^.*\$\Z", re.DOTALL)
LARGEST_WHOLE = 2.0**53
TIME_FORMAT = "%H:%M:%S%.f"
"""A cast of times of day to text leaves their fraction out."""
PLAIN_TYPES = (pl.String, pl.Boolean, pl.Decimal, pl.Date, pl.Datetime, pl.Time)
EXTENSIONS = ("arrow.bool8", "arrow.json")
"""Types beyond Arrow's own that are as plain as what they are stored as."""
LIBRARY_ERRORS = (
    *(pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowException),
    *(TypeError, ValueError, OverflowError, NotImplementedError),
)
"""What polars and pyarrow raise."""


def settled(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows whose columns are all plain: text, numbers, booleans, moments.

    Raises:
        DataError: If a column is of a type that holds no plain values, such as a struct.
    """
    odd = [name for name, dtype in rows.schema.items() if not _is_plain(dtype)]
    return rows.with_columns(_plain(rows[name]) for name in odd) if odd else rows


def check_names(names: Iterable[str], place: object) -> None:
    """Refuse names of columns that files and libraries cut short or take for something else.

    Args:
        names: Any.
        place: What has the columns, for the message.

    Raises:
        DataError: If one holds a NUL or half a character, or stands for several in polars.
    """
    for name in names:
        if _UNFIT.search(name):
            shown = name.encode(errors="backslashreplace").decode()
            raise DataError(f"{place}: a column must have a plain name, got '{shown}'")


def category_text(column: pl.Series, missing: Collection[str] = ()) -> pl.Series:
    """Return the canonical text of every value (`canonical.py`); the empty one where it is missing.

    Args:
        column: A settled column.
        missing: Texts that stand for a missing value, beside the usual ones.
    """
    return canonical(as_written(column), missing)


def canonical(texts: pl.Series, missing: Collection[str] = ()) -> pl.Series:
    """Return canonical texts; only those whose look asks for it are gone through, each once."""
    asks = texts.str.contains(ASKING).fill_null(False)
    if missing:
        asks |= texts.str.strip_chars().is_in(list(missing)).fill_null(False)
    if not asks.any():
        return texts.fill_null("")
    asking = texts.filter(asks).unique()
    short = asking.str.replace(WHOLE_TEXT, "$1")  # by far the most: numbers that were whole
    again = (short == asking) | (short == "-0")
    found = short.to_list()
    for place in np.flatnonzero(again.to_numpy()):
        found[place] = canonical_text(found[place], missing)
    if missing:
        found = ["" if text in missing else text for text in found]
    return texts.replace(asking, pl.Series(found, dtype=pl.String)).fill_null("")


def as_written(column: pl.Series) -> pl.Series:
    """Return text that means what a settled column does; null where a value is missing."""
    if column.dtype.is_float():
        number = column.fill_nan(None)
        whole = (number == number.floor()) & (number.abs() <= LARGEST_WHOLE)
        digits = number.cast(pl.Int64, strict=False).cast(pl.String)
        return digits.zip_with(whole.fill_null(True), number.cast(pl.String))
    if column.dtype == pl.Time:
        return column.dt.to_string(TIME_FORMAT)
    return column.cast(pl.String)


def as_text(rows: pl.DataFrame) -> pl.DataFrame:
    """Turn columns of any type into text that means the same."""
    return pl.DataFrame([as_written(column) for column in settled(rows)])


@contextmanager
def about_column(name: str) -> Iterator[None]:
    """Turn what a library says of a column into one line that names it."""
    try:
        yield
    except DataError:
        raise
    except LIBRARY_ERRORS as error:
        reason = (str(error).splitlines() or ["nothing"])[0]
        raise DataError(
            f"column {name!r} must hold plain values of one type, got: {reason}"
        ) from None


def _is_plain(dtype: object) -> bool:
    if not isinstance(dtype, pl.DataType):
        return False
    small = dtype.is_numeric() and dtype not in (pl.Float16, pl.Int128, pl.UInt128)
    return small or isinstance(dtype, PLAIN_TYPES)


def _has_plain_elements(column: pl.Series) -> bool:
    inner = column.dtype.inner if isinstance(column.dtype, pl.List) else None
    return _is_plain(inner) or isinstance(inner, pl.Categorical | pl.Enum | pl.Null)


def _plain(column: pl.Series) -> pl.Series:
    dtype = column.dtype
    if isinstance(dtype, pl.Categorical | pl.Enum | pl.Null | pl.Int128 | pl.UInt128):
        return column.cast(pl.String)
    if isinstance(dtype, pl.BaseExtension) and dtype.ext_name() in EXTENSIONS:
        truth = dtype.ext_name() == "arrow.bool8"
        return column.ext.storage().cast(pl.Boolean if truth else pl.String)
    if isinstance(dtype, pl.Float16):
        shortest = [None if x is None else float(str(np.float16(x))) for x in column.to_list()]
        return pl.Series(column.name, shortest, dtype=pl.Float64)
    if isinstance(dtype, pl.Binary):
        return pl.Series(column.name, [text_of_bytes(x) for x in column.to_list()], dtype=pl.String)
    if isinstance(dtype, pl.Array):
        return _plain(column.arr.to_list())
    if _has_plain_elements(column):
        one, of_times = pl.element(), dtype == pl.List(pl.Time)
        text = one.dt.to_string(TIME_FORMAT) if of_times else one.cast(pl.String)
        return column.list.eval(pl.lit(BETWEEN) + text.fill_null("")).list.join("")
    mend = "; .dt.total_seconds() makes it a number" if dtype == pl.Duration else ""
    raise DataError(f"column {column.name!r} must hold plain values, got {dtype}{mend}")
