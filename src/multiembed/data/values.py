"""What counts as one value: raw columns of any type become strings, missing the empty string."""

import numpy as np
import polars as pl

from multiembed.data.schema import Field, NumericRule

UNREADABLE = "unreadable"
"""Value of a number that cannot be read: never the name of a bucket, so never in a vocabulary."""
MISSING_NUMBERS = ("", "nan", "NaN", "NAN")
LARGEST = 2.0**53
QUANTILES = 32
QUANTILE_DIGITS = 4
"""Significant digits kept before quantiles are taken, so that counting them needs little memory."""


def value_expression(field: Field, rows: pl.DataFrame) -> pl.Expr:
    """Return the expression that turns a raw column into the field's values."""
    if field.numeric is None:
        return category(field.name, rows)
    return bucket(field.name, rows, field.numeric)


def counted_expression(field: Field, rows: pl.DataFrame) -> pl.Expr:
    """Return the expression whose results are counted to make the field's vocabulary.

    The field's values; for quantiles, whose edges come from the counts, the rounded numbers.
    """
    if field.numeric is None or field.numeric.rule != "quantiles":
        return value_expression(field, rows)
    return _named(rounded(number(field.name, rows)), field.name, rows)


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
    return _named(pl.when(value.is_not_null()).then(place), name, rows)


def rounded(value: pl.Expr) -> pl.Expr:
    """Keep the leading digits of a number; the order of numbers is kept."""
    return value.clip(-1.7e308, 1.7e308).round_sig_figs(QUANTILE_DIGITS)


def cut_quantiles(counts: pl.DataFrame, rule: NumericRule) -> tuple[NumericRule, pl.DataFrame]:
    """Turn counts of rounded numbers into the edges of the buckets, and counts of buckets."""
    special = counts.filter(pl.col("value").is_in(["", UNREADABLE]))
    numbers = counts.join(special, on="value", how="anti")
    numbers = numbers.with_columns(pl.col("value").cast(pl.Float64).alias("number")).sort("number")
    before = (numbers["count"].cum_sum() - numbers["count"]).to_numpy()
    targets = int(numbers["count"].sum()) * np.arange(1, QUANTILES) / QUANTILES
    places = np.unique(np.searchsorted(before, targets))
    edges = numbers["number"].gather(places[places < len(before)]).to_list()
    bucket_of = pl.lit(pl.Series(edges, dtype=pl.Float64)).search_sorted("number", side="right")
    buckets = numbers.with_columns(bucket_of.cast(pl.String).alias("value"))
    both = pl.concat([special, buckets.select("value", "count")])
    summed = both.group_by("value").agg(pl.col("count").sum())
    return rule.model_copy(update={"edges": tuple(edges)}), summed


def label_expression(name: str, rows: pl.DataFrame) -> pl.Expr:
    """Read a column as labels 0 or 1, null where it says neither."""
    column = pl.col(name)
    if rows.schema[name] == pl.String:
        text = column.str.strip_chars().str.to_lowercase()
        one, zero = text.is_in(["1", "1.0", "true"]), text.is_in(["0", "0.0", "false"])
    else:
        value = column.cast(pl.Float64, strict=False)
        one, zero = value == 1, value == 0
    return pl.when(one).then(1).when(zero).then(0).cast(pl.UInt8)


def _named(place: pl.Expr, name: str, rows: pl.DataFrame) -> pl.Expr:
    """Write numbers as text, and say apart what is missing and what is unreadable."""
    text = place.cast(pl.String)
    if rows.schema[name] != pl.String:
        return text.fill_null("").alias(name)
    other = pl.when(pl.col(name).fill_null("").is_in(MISSING_NUMBERS)).then(pl.lit(""))
    return pl.coalesce(text, other, pl.lit(UNREADABLE)).alias(name)
