"""The order that a column gives the rows: how its values are read, and where they are cut."""

from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Bool, UInt8

from multiembed.base.errors import DataError
from multiembed.data.encoding.canonical import BLANKS, MISSING, NO_NUMBER
from multiembed.data.encoding.moments import read_moments, unit_hint
from multiembed.data.encoding.typed import category_text, settled
from multiembed.data.options import PrepareOptions
from multiembed.data.sources.source import RowReader
from multiembed.data.store.schema import SplitOrder

Key = float | int
_LOOKED_AT = 1000


class RowOrder(NamedTuple):
    """How the values of a column are put in order."""

    column: str
    read_as: Literal["number", "moment"]
    format: str = "iso"
    """Of moments, where they are text."""
    absent: tuple[str, ...] = ()
    """Texts that stand for no value, beside the usual ones."""

    def keys(self, values: pl.Series) -> tuple[pl.Series, Bool[np.ndarray, " rows"]]:
        """Return numbers that rise as settled values do, null where is none, and what is odd.

        Odd is what is written where no number or moment can be read.
        """
        values = values.fill_nan(None) if values.dtype.is_float() else values
        missing = values.is_null()
        if values.dtype == pl.String:
            missing |= values.str.strip_chars(BLANKS).is_in([*MISSING, *NO_NUMBER])
        if self.absent:
            missing |= category_text(values, self.absent) == ""
        if self.read_as == "moment":
            keys = read_moments(values, self.format).cast(pl.Int64)
        else:
            keys = finite_numbers(values)
        keys = keys.set(missing, None)
        return keys.alias(self.column), (keys.is_null() & ~missing).to_numpy()

    def text(self, key: Key) -> str:
        """Write a key as a person would write the value."""
        if self.read_as == "number":
            return f"{int(key)}" if key == int(key) else repr(float(key))
        return str(np.datetime64(int(key), "us").item()).removesuffix(" 00:00:00")


class Cuts(NamedTuple):
    """The first keys of the validation and of the test split."""

    valid: Key
    test: Key

    def codes(self, keys: pl.Series) -> UInt8[np.ndarray, " values"]:
        """Say for every key to which split its rows belong; a missing one is the first."""
        later = [(keys >= cut).fill_null(False).to_numpy() for cut in self]
        return later[0].astype(np.uint8) + later[1].astype(np.uint8)


def tell_order(reader: RowReader, options: PrepareOptions) -> RowOrder | None:
    """Tell how the column of `split_by` is ordered: by its date rule, else by its first values.

    Numbers by size, ISO dates and whatever the file itself types as moments by time.

    Raises:
        DataError: If the first values are neither; the line of the first of them is named.
    """
    column = options.split_by
    if column is None:
        return None
    if column in options.dates:
        return RowOrder(column, "moment", options.dates[column], options.missing)
    ways = [RowOrder(column, kind, absent=options.missing) for kind in ("number", "moment")]
    for block in reader.blocks([column]):
        values = settled(block.rows)[column]
        if values.dtype.is_temporal() and values.dtype != pl.Time:
            return ways[1]
        read = [way.keys(values) for way in ways]
        counts = [len(keys) - keys.null_count() for keys, _ in read]
        days = _are_days(read[0][0].drop_nulls())
        if any(counts) and not days:
            return ways[int(np.argmax(counts))]
        odd = np.flatnonzero(read[0][0].is_not_null() if days else read[0][1])
        if len(odd):
            got = values[int(odd[0])]
            hint = " (a day in digits: say their format)" if days else unit_hint(got)
            raise DataError(
                f"{block.place} {block.lines[odd[0]]}: split_by must be a column of numbers, or of "
                f"dates: ISO ones or with their format in dates, got {got!r} in {column!r}{hint}"
            )
    return ways[0]


def cut_order(counts: pl.DataFrame, order: RowOrder) -> tuple[Cuts, SplitOrder]:
    """Find the values at which 80% and 90% of the rows have passed.

    Args:
        counts: Columns `value`, keys of the order, and `count`.
        order: What gave the keys.

    Raises:
        DataError: If there are too few distinct values.
    """
    ordered = counts.sort("value", nulls_last=False)
    if ordered.height < 3:
        raise DataError(
            f"the column to split by must have 3 different values at least, got {ordered.height}"
        )
    before = (ordered["count"].cum_sum() - ordered["count"]).to_numpy()
    shares = before / int(ordered["count"].sum())
    valid = min(max(1, int(np.searchsorted(shares, 0.8))), ordered.height - 2)
    test = min(max(valid + 1, int(np.searchsorted(shares, 0.9))), ordered.height - 1)
    keys = ordered["value"]
    missing = int(ordered["count"][0]) if keys[0] is None else 0
    train_to, *rest = (
        "" if keys[at] is None else order.text(keys[at])
        for at in (valid - 1, valid, test - 1, test)
    )
    return Cuts(keys[valid], keys[test]), SplitOrder(
        column=order.column,
        read_as=order.read_as,
        train_to=train_to,
        valid_from=rest[0],
        valid_to=rest[1],
        test_from=rest[2],
        missing=missing,
    )


def _are_days(numbers: pl.Series) -> bool:
    """Say whether numbers are days such as 31122023, whose order is not that of numbers."""
    text = numbers.head(_LOOKED_AT).cast(pl.Int64, strict=False).cast(pl.String).str.zfill(8)
    days = [read_moments(text, format) for format in ("%d%m%Y", "%m%d%Y")]
    return any(len(text) > 0 == found.null_count() for found in days)


def finite_numbers(values: pl.Series) -> pl.Series:
    """Read a column as finite numbers of double precision, null where there is none."""
    if values.dtype == pl.String:
        values = values.str.strip_chars()
    number = values.cast(pl.Float64, strict=False)
    return number.set(~number.is_finite(), None)
