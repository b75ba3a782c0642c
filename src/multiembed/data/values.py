"""What counts as one value: raw columns of any type become strings, missing the empty string."""

import polars as pl

from multiembed.data.schema import Field, NumericRule

UNREADABLE = "unreadable"
"""Value of a number that cannot be read: never the name of a bucket, so never in a vocabulary."""
LARGEST = 2.0**53
QUANTILE_DIGITS = 4
"""Significant digits kept before quantiles are taken, so that counting them needs little memory."""


def value_expression(field: Field, rows: pl.DataFrame) -> pl.Expr:
    """Return the expression that turns a raw column into the field's values."""
    if field.numeric is None:
        return category(field.name, rows)
    return bucket(field.name, rows, field.numeric)


def category(name: str, rows: pl.DataFrame) -> pl.Expr:
    """Read a column as categories; whole floats lose their `.0`, so 5.0 is the category 5."""
    column = pl.col(name)
    if rows.schema[name] == pl.String:
        return column.fill_null("")
    if rows.schema[name].is_float():
        number = column.cast(pl.Float64).fill_nan(None)
        whole = (number == number.floor()) & (number.abs() <= LARGEST)
        as_integer = number.cast(pl.Int64, strict=False).cast(pl.String)
        text = pl.when(whole).then(as_integer).otherwise(number.cast(pl.String))
        return text.fill_null("")
    return column.cast(pl.String).fill_null("")


def number(name: str, rows: pl.DataFrame) -> pl.Expr:
    """Read a column as numbers, null where it is missing, NaN or unreadable."""
    column = pl.col(name)
    return column.cast(pl.Float64, strict=False).fill_nan(None)


def unreadable(name: str, rows: pl.DataFrame) -> pl.Expr:
    """Say which rows of a text column are neither a number nor missing."""
    if rows.schema[name] != pl.String:
        return pl.lit(False)
    column = pl.col(name)
    return column.cast(pl.Float64, strict=False).is_null() & (column.fill_null("") != "")


def bucket(name: str, rows: pl.DataFrame, rule: NumericRule) -> pl.Expr:
    """Read a column as numbers and name each one's bucket."""
    value = number(name, rows)
    # Clipped so that an infinity has a bucket and every bucket is a 64-bit integer.
    if rule.rule == "quantiles":
        edges = pl.lit(pl.Series(rule.edges, dtype=pl.Float64))
        place = edges.search_sorted(rounded(value), side="right").cast(pl.Int64)
    else:
        above = value.clip(upper_bound=1.7e308).log().pow(2).floor()
        below = value.clip(lower_bound=-LARGEST).floor() - 2
        place = pl.when(value > 2).then(above).otherwise(below).cast(pl.Int64)
    text = pl.when(value.is_not_null()).then(place.cast(pl.String))
    if rows.schema[name] != pl.String:
        return text.fill_null("").alias(name)
    return pl.coalesce(
        text, pl.when(unreadable(name, rows)).then(pl.lit(UNREADABLE)), pl.lit("")
    ).alias(name)


def rounded(value: pl.Expr) -> pl.Expr:
    """Keep the leading digits of a number; the order of numbers is kept."""
    return value.clip(-1.7e308, 1.7e308).round_sig_figs(QUANTILE_DIGITS)
