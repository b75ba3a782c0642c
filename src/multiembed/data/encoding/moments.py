"""Dates and times: what hour it was, and what day of the week."""

import polars as pl

from multiembed.data.store.schema import DateRule

ISO = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d")
SINCE_1970 = {"s": 1_000_000, "ms": 1_000}
"""Microseconds in a unit of numbers that count from 1970."""


def moment_part(rule: DateRule, rows: pl.DataFrame) -> pl.Expr:
    """Return the hour or the day of a column of these rows; null where there is none."""
    moment = _moment(rule, rows)
    parts = {
        "hour": moment.dt.hour(),
        "weekday": moment.dt.weekday(),
        "weekend": moment.dt.weekday() >= 6,
    }
    return parts[rule.part].cast(pl.Int64)


def is_format(format: str) -> bool:
    """Say whether moments can be read by a format."""
    rule = DateRule(column="x", part="hour", format=format)
    try:
        rows = pl.DataFrame({"x": ["2014"]})
        rows.select(moment_part(rule, rows))
    except pl.exceptions.PolarsError:
        return False
    return format in SINCE_1970 or format == "iso" or "%" in format


def _moment(rule: DateRule, rows: pl.DataFrame) -> pl.Expr:
    column, dtype = pl.col(rule.column), rows.schema[rule.column]
    if isinstance(dtype, pl.Datetime):
        return column.dt.replace_time_zone(None).cast(pl.Datetime("us"))
    if isinstance(dtype, pl.Date):
        return column.cast(pl.Datetime("us"))
    if rule.format in SINCE_1970:
        number = column.cast(pl.Float64, strict=False) * SINCE_1970[rule.format]
        return number.cast(pl.Int64, strict=False).cast(pl.Datetime("us"))
    text = column.cast(pl.String)
    if rule.format == "iso":
        text = text.str.replace(" ", "T", literal=True).str.strip_suffix("Z")
        return pl.coalesce(_parsed(text, format) for format in ISO)
    if "%H" in rule.format and "%M" not in rule.format:
        return _parsed(text + "00", rule.format + "%M")  # polars wants minutes beside hours
    return _parsed(text, rule.format)


def _parsed(text: pl.Expr, format: str) -> pl.Expr:
    return text.str.to_datetime(format, strict=False, time_unit="us")
