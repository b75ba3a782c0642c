"""What counts as one value: categories are canonical text, numbers and moments are buckets.

A missing category is the empty string and a missing number is null; both are values like any
other. A cell may hold several values.
"""

import hashlib
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Bool, Int32, Int64

from multiembed.base.errors import DataError
from multiembed.data.encoding.canonical import (
    BETWEEN,
    BLANKS,
    ELEMENT,
    LIST,
    WHOLE_OF_NUMPY,
    list_elements,
    number_of,
)
from multiembed.data.encoding.moments import read_part
from multiembed.data.encoding.number_scale import QUANTILES, evened
from multiembed.data.encoding.typed import (
    about_column,
    as_text,
    as_written,
    canonical,
    category_text,
)
from multiembed.data.store.schema import Dress, Field, NumericRule

QUANTILE_DIGITS = 6
"""Significant digits kept before quantiles are taken, so that counting them needs little memory."""
NO_VALUE = -1
"""Stands in the slots behind the last value of a cell."""
NO_LABEL = ("", "nan", "null", "none", "na", "n/a", "\\n", "<na>", "nat")
"""What is written where no label is."""


class Values(NamedTuple):
    """Values of some rows."""

    columns: pl.DataFrame
    """One column per field: text, or the number of a bucket."""
    unreadable: dict[str, Bool[np.ndarray, " rows"]]
    """Rows whose text should be a number or a date and is none, for every field with some."""


class Cells(NamedTuple):
    """The values of some cells, cell by cell."""

    values: pl.Series
    """Every cell's first values, as many as it has slots, of a history the last ones; a cell
    without any has a missing one, but a history none."""
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
    """Turn settled columns into the values of the fields, or the cells of several values.

    Numeric fields by quantiles whose edges are not known yet become rounded numbers; those whose
    numbers are kept stay numbers.

    Raises:
        DataError: If a column is of a type that its field cannot be.
    """
    columns, unreadable = [], {}
    for field in fields:
        with about_column(field.column):
            column = rows[field.column]
            if field.parsed:
                values, bad = read_parsed(column, field)
                column = values if field.number else _bucket(values.alias(field.name), field)
                if bad.any():
                    unreadable[field.name] = bad
            elif field.multivalued:
                column = as_written(column).fill_null("")
            else:
                column = category_text(column, field.missing)
            if field.hash_size is not None and not field.multivalued:
                column = hashed_text(column, field.hash_size)
            columns.append(column.alias(field.name))
    return Values(pl.DataFrame(columns), unreadable)


def read_parsed(column: pl.Series, field: Field) -> tuple[pl.Series, Bool[np.ndarray, " rows"]]:
    """Return the numbers, hours or days of a field that has these, and which cannot be read."""
    if field.date is not None:
        return read_part(column, field.date, field.missing)
    return read_numbers(column, field.decimal, field.missing)


def read_numbers(
    column: pl.Series, decimal: Dress, missing: Collection[str] = ()
) -> tuple[pl.Series, Bool[np.ndarray, " rows"]]:
    """Return numbers, null where they are missing or infinite, and which cannot be read.

    Args:
        column: A settled column.
        decimal: How it is written in text, one of `DRESSES`.
        missing: Texts that stand for a missing value, beside the usual ones.

    Raises:
        DataError: If the column holds moments.
    """
    if column.dtype.is_temporal():
        raise DataError(
            f"column {column.name!r} must hold numbers, got {column.dtype}; --date reads moments"
        )
    # The number that is written, not the nearest one in half as many bits.
    exact = column.cast(pl.String) if column.dtype == pl.Float32 else column
    number, unreadable = exact.cast(pl.Float64, strict=False), np.zeros(len(column), bool)
    dressed = missing or decimal not in ("", ".")
    if column.dtype == pl.String and (dressed or number.null_count() > _empty(column)):
        number, unreadable = _look_closer(column.str.strip_chars(BLANKS), decimal, missing)
    if missing:
        absent = [number_of(word, decimal) for word in missing]
        number = number.set(number.is_in([one for one in absent if one is not None]), None)
    return number.set(~number.is_finite(), None), unreadable


def _empty(text: pl.Series) -> int:
    return text.null_count() + int((text == "").sum())


def _look_closer(
    text: pl.Series, decimal: Dress, missing: Collection[str]
) -> tuple[pl.Series, Bool[np.ndarray, " rows"]]:
    """Read every text that may be a number by `number_of`, each once; and say which are none."""
    number = text.cast(pl.Float64, strict=False)
    asks = text.is_not_null() if decimal not in ("", ".") else number.is_null() & (text != "")
    asks = (asks | text.is_in(list(missing)) if missing else asks).fill_null(False)
    if not asks.any():
        return number, np.zeros(len(text), bool)
    asking = text.filter(asks).unique()
    found = [number_of(one, decimal, missing) for one in asking]
    again = text.replace_strict(
        asking, pl.Series(found, dtype=pl.Float64), default=None, return_dtype=pl.Float64
    )
    number = again.zip_with(asks, number)
    return number, (asks & number.is_null()).to_numpy()


def read_labels(
    rows: pl.DataFrame, name: str, positive: str | None = None, missing: Collection[str] = ()
) -> pl.Series:
    """Read a column of any type as labels 0 or 1, null where it says neither.

    1 and 0 may be written as any number is, or as true and false. With `positive` 1 is what equals
    it, and 0 every other value that is there; a row that repeats the header holds none. `missing`
    are more texts that stand for no value.

    Raises:
        DataError: If no label is of such a type.
    """
    column = rows[name]
    if positive is None and (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        return _zero_or_one(column.cast(pl.Float64, strict=False), [1.0], [0.0]).rename(name)
    if positive is None and column.dtype == pl.String:
        labels = _zero_or_one(column, ["1"], ["0"])
        if labels.null_count() == 0:
            return labels.rename(name)
    unfit = column.dtype.is_nested() or column.dtype in (pl.Duration, pl.Object)
    if unfit or (positive is None and column.dtype.is_temporal()):
        raise DataError(f"label {name} must be a column of 0 and 1, got one of {column.dtype}")
    if column.dtype == pl.Binary:
        said = [None if one is None else one.decode(errors="replace") for one in column]
        column = pl.Series(name, said, dtype=pl.String)
    text = as_text(column.to_frame()).to_series().fill_null("")
    if (text == name).any() and set(rows.dtypes) == {pl.String}:
        again = rows.select(pl.all_horizontal(pl.col(n) == n for n in rows.columns)).to_series()
        text = text.set(again, "")
    distinct = text.unique()
    labels = [_label(one.strip(), positive, missing) for one in distinct]
    return text.replace_strict(distinct, pl.Series(labels, dtype=pl.UInt8))


def cut_quantiles(counts: pl.DataFrame) -> tuple[NumericRule, pl.DataFrame]:
    """Turn counts of rounded numbers into the edges of the buckets, and counts of buckets."""
    present = evened(counts)
    before = (present["count"].cum_sum() - present["count"]).to_numpy()
    targets = float(present["count"].sum()) * np.arange(1, QUANTILES) / QUANTILES
    places = np.unique(np.searchsorted(before, targets * (1 - 1e-9)))
    edges = present["value"].gather(places[places < len(before)]).to_list()
    buckets = counts.select(_quantile("value", pl.col("value"), edges), "count")
    rule = NumericRule(rule="quantiles", edges=tuple(edges))
    return rule, buckets.group_by("value").agg(pl.col("count").sum())


def cut_values(values: pl.Series, field: Field) -> pl.Series:
    """Turn values that were not yet bucketed when they were read into buckets."""
    if field.number is not None:
        return _bucket(values.alias(field.name), field)
    if field.numeric is None or field.numeric.edges is None or not values.dtype.is_float():
        return values
    edges = field.numeric.edges
    return values.to_frame("value").select(_quantile("value", pl.col("value"), edges)).to_series()


def split_cells(column: pl.Series, field: Field) -> Cells:
    """Take the text of cells apart: at the delimiter, or as a list; what is empty is no value."""
    parts = _parts(_unescaped(column.str.strip_chars(BLANKS)), field.delimiter)
    owners = np.repeat(np.arange(len(parts)), parts.list.len().to_numpy())
    values = canonical(parts.explode(), field.missing)
    there = (values != "").to_numpy()
    owners, values = owners[there], values.filter(pl.Series(there))
    counts = np.bincount(owners, minlength=len(parts))
    ends = np.cumsum(counts)
    if field.shares is None:
        first = np.arange(len(owners)) - (ends - counts)[owners] < field.slots
        empty = np.flatnonzero(counts == 0)
    else:
        first = ends[owners] - np.arange(len(owners)) <= field.slots
        empty = np.zeros(0, np.int64)
    kept = values.filter(pl.Series(first)).extend(pl.Series([""] * len(empty), dtype=pl.String))
    order = np.argsort(np.concatenate([owners[first], empty]), kind="stable")
    kept = kept.gather(order)
    if field.hash_size is not None:
        kept = hashed_text(kept, field.hash_size)
    least = 1 if field.shares is None else 0
    return Cells(kept, np.clip(counts, least, field.slots), counts > field.slots)


def _unescaped(text: pl.Series) -> pl.Series:
    """Take lists with backslashes apart, which few have."""
    odd = text.filter(text.str.contains("\\", literal=True)).unique()
    odd = odd.filter(odd.str.contains(f"^{LIST.pattern}$"))
    found = [BETWEEN + BETWEEN.join(list_elements(cell)) for cell in odd]
    return text.replace(odd, pl.Series(found, dtype=pl.String)) if found else text


def _parts(text: pl.Series, delimiter: str | None) -> pl.Series:
    """Return what stands between delimiters, or in lists; one empty text at least."""
    one = pl.concat_list(pl.col("text"))
    split = one if delimiter is None else pl.col("text").str.split(delimiter)
    marked = pl.col("text").str.starts_with(BETWEEN)
    listed = pl.col("text").str.contains(f"^{LIST.pattern}$")
    inside = pl.col("text").str.slice(1).str.head(-1)
    unquoted = pl.element().str.replace(r"""^['"]((?s:.*))['"]$""", "$1")
    whole = pl.element().str.strip_chars(BLANKS).str.replace(WHOLE_OF_NUMPY, "$1")
    elements = (
        pl.when(inside.str.contains("['\"]"))
        .then(inside.str.extract_all(ELEMENT).list.eval(unquoted))
        .when(inside.str.contains(","))
        .then(inside.str.split(",").list.eval(whole))
        .otherwise(inside.str.extract_all(f"[^{BLANKS}]+").list.eval(whole))
    )
    parts = (
        pl.when(marked)
        .then(pl.col("text").str.split(BETWEEN))
        .when(listed)
        .then(elements)
        .otherwise(split)
    )
    none = pl.lit([""], dtype=pl.List(pl.String))
    filled = pl.when(parts.list.len() > 0).then(parts).otherwise(none)
    return text.alias("text").fill_null("").to_frame().select(filled.alias("parts")).to_series()


def hashed_text(column: pl.Series, size: int) -> pl.Series:
    """Hash text to one of `size` numbers, as text; a missing value stays one."""
    distinct = column.unique()
    places = [
        str(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") % size)
        if text
        else ""
        for text in distinct
    ]
    return column.replace_strict(distinct, pl.Series(places, dtype=pl.String))


def _zero_or_one(column: pl.Series, one: list, zero: list) -> pl.Series:
    is_one, is_zero = column.is_in(one), column.is_in(zero)
    label = pl.when(is_one).then(1).when(is_zero).then(0).cast(pl.UInt8)
    return pl.select(label.alias("label")).to_series()


def _label(text: str, positive: str | None, missing: Collection[str]) -> int | None:
    number = _number(text)
    if positive is not None and (text == positive or number == _number(positive) is not None):
        return 1
    if text.lower() in NO_LABEL or text in missing:
        return None
    if positive is not None:
        return 0
    return int(number) if number in (0.0, 1.0) else None


def _number(text: str) -> float | None:
    try:
        return {"true": 1.0, "false": 0.0}[text.lower()] if text.isalpha() else float(text)
    except (KeyError, ValueError):
        return None


def _bucket(values: pl.Series, field: Field) -> pl.Series:
    rule, value = field.numeric, pl.col(field.name)
    if rule is None:
        return values
    if rule.rule == "as_is":
        return category_text(values)
    if rule.rule == "quantiles":
        rounded = value.round_sig_figs(QUANTILE_DIGITS)
        place = rounded if rule.edges is None else _quantile(field.name, rounded, rule.edges)
    else:
        # DIFFERS: the reference code reads whole numbers only; fractions below 2 are rounded down,
        # so that a column of fractions does not become as many categories.
        place = pl.when(value > 2).then(value.log().pow(2)).otherwise(value.floor() - 2)
        place = place.floor().cast(pl.Int64, strict=False)
    return values.to_frame().select(place).to_series()


def _quantile(name: str, value: pl.Expr, edges: Sequence[float]) -> pl.Expr:
    ascending = pl.lit(pl.Series(edges, dtype=pl.Float64))
    place = ascending.search_sorted(value, side="right").cast(pl.Int64)
    return pl.when(value.is_not_null()).then(place).alias(name)
