"""What counts as one value: categories are text, numbers and moments are buckets.

A missing category is the empty string and a missing number is null; both are values like any
other. A cell may hold several values.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Bool, Int32, Int64

from multiembed.data.store.schema import DateRule, Field, NumericRule

LARGEST_WHOLE = 2.0**53
QUANTILES = 32
QUANTILE_DIGITS = 4
"""Significant digits kept before quantiles are taken, so that counting them needs little memory."""
NO_VALUE = -1
"""Stands in the slots behind the last value of a cell."""
ISO = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d")
SINCE_1970 = {"s": 1_000_000, "ms": 1_000}
"""Microseconds in a unit of numbers that count from 1970."""


class Values(NamedTuple):
    """Values of some rows."""

    columns: pl.DataFrame
    """One column per field: text, or the number of a bucket."""
    unreadable: dict[str, Bool[np.ndarray, " rows"]]
    """Rows whose text should be a number or a date and is none, for every field with some."""


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


def read_values(rows: pl.DataFrame, fields: Sequence[Field]) -> Values:
    """Turn raw columns of any type into the values of the fields, or the cells of several values.

    Numeric fields by quantiles whose edges are not known yet become rounded numbers.
    """
    ruled = [field for field in fields if field.parsed]
    read = rows.select(_read(field, rows) for field in ruled)
    columns = [
        *rows.select(_category(field.name, rows) for field in fields if not field.parsed),
        *read.select(_bucket(field) for field in ruled),
    ]
    sizes = {field.name: field.hash_size for field in fields if not field.multivalued}
    columns = [
        column if (size := sizes.get(column.name)) is None else _hashed(column, size)
        for column in columns
    ]
    unreadable = {
        field.name: _unreadable(rows[field.column], read[field.name])
        for field in ruled
        if rows.schema[field.column] == pl.String
        and read[field.name].null_count() > rows[field.column].null_count()
    }
    flags = {name: those for name, those in unreadable.items() if those.any()}
    return Values(pl.DataFrame(columns), flags)


def as_text(rows: pl.DataFrame) -> pl.DataFrame:
    """Turn raw columns of any type into text that means the same."""
    return rows.select(_category(name, rows) for name in rows.columns)


def read_labels(rows: pl.DataFrame, name: str) -> pl.Series:
    """Read a column as labels 0 or 1, null where it says neither."""
    column = rows[name]
    if column.dtype != pl.String:
        return _zero_or_one(column.cast(pl.Float64, strict=False), [1.0], [0.0]).rename(name)
    labels = _zero_or_one(column, ["1"], ["0"])
    if labels.null_count():
        text = column.str.strip_chars().str.to_lowercase()
        labels = _zero_or_one(text, ["1", "1.0", "true"], ["0", "0.0", "false"])
    return labels.rename(name)


def cut_quantiles(counts: pl.DataFrame) -> tuple[NumericRule, pl.DataFrame]:
    """Turn counts of rounded numbers into the edges of the buckets, and counts of buckets."""
    present = counts.drop_nulls().sort("value")
    before = (present["count"].cum_sum() - present["count"]).to_numpy()
    targets = int(present["count"].sum()) * np.arange(1, QUANTILES) / QUANTILES
    places = np.unique(np.searchsorted(before, targets))
    edges = present["value"].gather(places[places < len(before)]).to_list()
    buckets = counts.select(_quantile("value", pl.col("value"), edges), "count")
    rule = NumericRule(rule="quantiles", edges=tuple(edges))
    return rule, buckets.group_by("value").agg(pl.col("count").sum())


def cut_values(values: pl.Series, field: Field) -> pl.Series:
    """Turn values read before the edges of a field's quantiles were known into buckets."""
    if field.numeric is None or field.numeric.edges is None or not values.dtype.is_float():
        return values
    edges = field.numeric.edges
    return values.to_frame("value").select(_quantile("value", pl.col("value"), edges)).to_series()


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
        values = _hashed(values, field.hash_size)
    return Cells(values, np.clip(sizes, 1, field.slots), sizes > field.slots)


def is_format(format: str) -> bool:
    """Say whether moments can be read by a format."""
    rule = DateRule(column="x", part="hour", format=format)
    try:
        rows = pl.DataFrame({"x": ["2014"]})
        rows.select(_moment_part(rule, rows))
    except pl.exceptions.PolarsError:
        return False
    return format in SINCE_1970 or format == "iso" or "%" in format


def _category(name: str, rows: pl.DataFrame) -> pl.Expr:
    """Read a column as text; whole floats lose their `.0`, so 5.0 is the category 5."""
    column = pl.col(name)
    if rows.schema[name].is_float():
        column = _number_text(column.cast(pl.Float64).fill_nan(None))
    return column.cast(pl.String).fill_null("").alias(name)


def _number_text(number: pl.Expr) -> pl.Expr:
    whole = (number == number.floor()) & (number.abs() <= LARGEST_WHOLE)
    as_integer = number.cast(pl.Int64, strict=False).cast(pl.String)
    return pl.when(whole).then(as_integer).otherwise(number.cast(pl.String))


def _hashed(column: pl.Series, size: int) -> pl.Series:
    """Hash text to one of `size` numbers, as text; a missing value stays one."""
    distinct = column.unique()
    places = [
        str(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") % size)
        if text
        else ""
        for text in distinct
    ]
    return column.replace_strict(distinct, pl.Series(places, dtype=pl.String))


def _read(field: Field, rows: pl.DataFrame) -> pl.Expr:
    """Read a column as numbers or as hours or days, null where it is missing or unreadable."""
    if field.date is not None:
        return _moment_part(field.date, rows).alias(field.name)
    value = pl.col(field.name).cast(pl.Float64, strict=False)
    return pl.when(value.is_finite()).then(value).alias(field.name)


def _unreadable(text: pl.Series, read: pl.Series) -> Bool[np.ndarray, " rows"]:
    number = text.cast(pl.Float64, strict=False)
    infinite = number.is_infinite() | number.is_nan()
    absent = text.is_null() | (text == "") | infinite.fill_null(False)
    return (read.is_null() & ~absent).to_numpy()


def _zero_or_one(column: pl.Series, one: list, zero: list) -> pl.Series:
    is_one, is_zero = column.is_in(one), column.is_in(zero)
    label = pl.when(is_one).then(1).when(is_zero).then(0).cast(pl.UInt8)
    return pl.select(label.alias("label")).to_series()


def _bucket(field: Field) -> pl.Expr:
    value, rule = pl.col(field.name), field.numeric
    if rule is None:
        return value
    if rule.rule == "quantiles":
        rounded = value.round_sig_figs(QUANTILE_DIGITS)
        return rounded if rule.edges is None else _quantile(field.name, rounded, rule.edges)
    if rule.rule == "as_is":
        return _number_text(value).fill_null("")
    # DIFFERS: the reference code reads whole numbers only; fractions below 2 are rounded down,
    # so that a column of fractions does not become as many categories.
    place = pl.when(value > 2).then(value.log().pow(2)).otherwise(value.floor() - 2)
    return place.floor().cast(pl.Int64, strict=False)


def _quantile(name: str, value: pl.Expr, edges: Sequence[float]) -> pl.Expr:
    ascending = pl.lit(pl.Series(edges, dtype=pl.Float64))
    place = ascending.search_sorted(value, side="right").cast(pl.Int64)
    return pl.when(value.is_not_null()).then(place).alias(name)


def _moment_part(rule: DateRule, rows: pl.DataFrame) -> pl.Expr:
    """Return the hour or the day of a column of these rows; null where there is none."""
    moment = _moment(rule, rows)
    parts = {
        "hour": moment.dt.hour(),
        "weekday": moment.dt.weekday(),
        "weekend": moment.dt.weekday() >= 6,
    }
    return parts[rule.part].cast(pl.Int64)


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
