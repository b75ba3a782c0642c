"""Moments: how a column of them is read, and the hour or the day of each, local as written."""

import re
from collections.abc import Collection

import numpy as np
import polars as pl
from jaxtyping import Bool

from multiembed.base.errors import DataError
from multiembed.data.encoding.canonical import (
    BLANKS,
    FRACTION,
    ISO,
    LASTS,
    MISSING,
    NO_NUMBER,
    OFFSET,
    SINCE_1970,
    WHOLE_TEXT,
    plain_format,
)
from multiembed.data.encoding.typed import as_written, canonical, category_text
from multiembed.data.store.schema import DateRule

UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
DIRECTIVES = frozenset("YymdHIpMSjbBaA%")
"""What a format may hold: `strptime` of Python and of polars read these alike."""


def read_part(
    column: pl.Series, rule: DateRule, missing: Collection[str]
) -> tuple[pl.Series, Bool[np.ndarray, " rows"]]:
    """Return the hour or the day of moments, null where there is none, and which cannot be read.

    Moments before 1990 or after 2099 cannot: most count in another unit than was read.

    Args:
        column: A settled column.
        rule: How its moments are written, and the part that is wanted.
        missing: Texts that stand for a missing value, beside the usual ones.

    Raises:
        DataError: If the column is of a type that holds no moments.
    """
    moment = _of_our_time(_moments(column, rule.format))
    absent = column.is_null()
    if column.dtype == pl.String:
        absent |= column.str.strip_chars(BLANKS).is_in([*MISSING, *NO_NUMBER, *missing])
    elif column.dtype.is_float():
        absent |= column.is_nan()
    if missing:
        absent |= category_text(column, missing) == ""
    parts = {"hour": moment.dt.hour, "weekday": moment.dt.weekday}
    found = moment.dt.weekday() >= 6 if rule.part == "weekend" else parts[rule.part]()
    found = found.set(absent.fill_null(True), None).cast(pl.Int64)
    return found, (moment.is_null() & ~absent.fill_null(True)).to_numpy()


def read_moments(column: pl.Series, format: str) -> pl.Series:
    """Return moments of one time line, in microseconds; null where `read_part` reads none.

    Unlike parts, which are local as written, moments with an offset or a zone are of UTC.

    Args:
        column: A settled column.
        format: How text is written: `iso`, a unit since 1970, or a format of `strptime`.
    """
    if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone is not None:
        column = column.dt.convert_time_zone("UTC")
    known = column.dtype.is_temporal() or format in SINCE_1970
    if known or not (format == "iso" or plain_format(format)[2]):
        return _of_our_time(_moments(column, format))
    text = column.cast(pl.String).str.strip_chars(BLANKS)
    if format == "iso":
        text = canonical(text).str.strip_suffix("Z")
        text = (text + "T00:00:00").zip_with(text.str.len_chars() == len("2024-06-01"), text)
        return _of_our_time(_parsed(text, "%Y-%m-%dT%H:%M:%S%.f"))
    return _of_our_time(_parsed(text, format).dt.replace_time_zone(None))


def unit_hint(value: object) -> str:
    """Return a question for what is a moment of our time in another unit."""
    try:
        number = float(str(value))
    except ValueError:
        found = re.match(r"(\d{4})-\d\d-", str(value))
        other = found and not 1990 <= int(found[1]) < 2100
        return " (moments are from 1990 to 2099: are these milliseconds?)" if other else ""
    for unit, size in SINCE_1970.items():
        if LASTS[0] <= number * size < LASTS[1]:
            return f" (are these {UNIT_NAMES[unit]}? say {unit})"
    return ""


def is_format(format: str) -> bool:
    """Say whether moments can be read by a format, here and in a bundle."""
    if format in SINCE_1970 or format == "iso":
        return True
    plain = plain_format(format)[0]
    if "%" not in plain or not set(re.findall("%(.?)", plain)) <= DIRECTIVES:
        return False
    try:
        _moments(pl.Series(["2014"]), format)
    except pl.exceptions.PolarsError:
        return False
    return True


def _moments(column: pl.Series, format: str) -> pl.Series:
    dtype = column.dtype
    if isinstance(dtype, pl.Datetime):
        return column.dt.replace_time_zone(None).cast(pl.Datetime("us"))
    if dtype == pl.Date:
        return column.cast(pl.Datetime("us"))
    if dtype in (pl.Time, pl.Boolean):
        raise DataError(f"column {column.name!r} must hold moments, got {dtype}")
    if format in SINCE_1970:
        text = column.str.strip_chars(BLANKS) if dtype == pl.String else column
        number = text.cast(pl.Float64, strict=False) * SINCE_1970[format]
        return number.cast(pl.Int64, strict=False).cast(pl.Datetime("us"))
    text = as_written(column).str.strip_chars(BLANKS)
    if format == "iso":
        text = text.str.replace(OFFSET, "$1").str.replace(" ", "T", literal=True)
        text = text.set(~text.str.contains(f"^(?:{ISO})$"), None)
        day, time = text.str.slice(0, 10), text.str.slice(11).str.pad_end(5, "0")
        return _parsed(
            day + "T" + time.str.slice(0, 2) + ":" + time.str.slice(3, 2), "%Y-%m-%dT%H:%M"
        )
    plain, fraction, offset = plain_format(format)
    text = text.str.replace(OFFSET, "$1") if offset else text
    text = text.str.replace(FRACTION, "") if fraction else text
    text = text if "." in plain else text.str.replace(WHOLE_TEXT, "$1")
    if "%H" in plain and "%M" not in plain:
        return _parsed(text + "00", plain + "%M")  # polars wants minutes beside hours
    return _parsed(text, plain)


def _of_our_time(moments: pl.Series) -> pl.Series:
    since = moments.cast(pl.Int64)
    return moments.set(~((since >= LASTS[0]) & (since < LASTS[1])), None)


def _parsed(text: pl.Series, format: str) -> pl.Series:
    return text.str.to_datetime(format, strict=False, time_unit="us")
