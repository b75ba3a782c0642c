"""Which rows train, which validate and which test."""

import hashlib
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Int64, UInt8, UInt64

from multiembed.base.errors import DataError

GROUP = 10
"""Of every ten rows, eight train, one validates and one tests."""


def split_codes(numbers: Int64[np.ndarray, " rows"], seed: int) -> UInt8[np.ndarray, " rows"]:
    """Say for every row number to which split it belongs: 0 train, 1 valid, 2 test.

    The rows are permuted within tens, by the seed, and the ninth and the tenth of each are
    valid and test. So the shares are exact, a row's split depends on its own number only,
    and rows that come later change nothing: no pass over the file is needed beforehand.
    """
    if len(numbers) == 0:
        return np.zeros(0, np.uint8)
    first = int(numbers.min()) // GROUP
    last = int(numbers.max()) // GROUP + 1
    ranks = _mixed(np.arange(first * GROUP, last * GROUP, dtype=np.uint64), seed)
    order = np.argsort(ranks.reshape(-1, GROUP), axis=1, kind="stable")
    codes = np.zeros(order.shape, np.uint8)
    np.put_along_axis(codes, order[:, :1], 1, axis=1)
    np.put_along_axis(codes, order[:, 1:2], 2, axis=1)
    return codes.reshape(-1)[numbers - first * GROUP]


def group_codes(values: pl.Series, seed: int) -> UInt8[np.ndarray, " values"]:
    """Say for every distinct value to which split its rows belong: by a hash of its text."""
    key = seed.to_bytes(16, "little")
    digests = (hashlib.blake2b(text.encode(), digest_size=8, key=key) for text in values)
    ranks = np.array([int.from_bytes(digest.digest(), "little") % GROUP for digest in digests])
    return np.select([ranks == 0, ranks == 1], [1, 2], 0).astype(np.uint8)


class Cuts(NamedTuple):
    """Where a column that gives the order of the rows is cut."""

    numeric: bool
    """Whether its values are numbers; else they are ordered as text, as ISO dates are."""
    valid: float | str
    """The first value of the validation split."""
    test: float | str

    def codes(self, values: pl.Series) -> UInt8[np.ndarray, " values"]:
        """Say for every value to which split its rows belong; a missing one is the first."""
        keys = values.cast(pl.Float64, strict=False) if self.numeric else values
        later = [(keys >= cut).fill_null(False).to_numpy() for cut in (self.valid, self.test)]
        return later[0].astype(np.uint8) + later[1].astype(np.uint8)


def cut_order(counts: pl.DataFrame) -> Cuts:
    """Find the values at which 80% and 90% of the rows have passed.

    Raises:
        DataError: If there are too few distinct values.
    """
    texts = counts["value"]
    numbers = texts.cast(pl.Float64, strict=False)
    numeric = numbers.null_count() == int((texts == "").sum())
    keys = (numbers if numeric else texts).alias("key")
    ordered = counts.with_columns(keys).group_by("key").agg(pl.col("count").sum())
    ordered = ordered.sort("key", nulls_last=False)
    if ordered.height < 3:
        raise DataError(
            f"the column to split by must have 3 different values at least, got {ordered.height}"
        )
    before = (ordered["count"].cum_sum() - ordered["count"]).to_numpy()
    shares = before / int(ordered["count"].sum())
    valid = min(max(1, int(np.searchsorted(shares, 0.8))), ordered.height - 2)
    test = min(max(valid + 1, int(np.searchsorted(shares, 0.9))), ordered.height - 1)
    return Cuts(numeric, ordered["key"][valid], ordered["key"][test])


def split_rows(rows: int, seed: int) -> tuple[Int64[np.ndarray, " _"], ...]:
    """Return the row numbers of train, valid and test in the order of the encoded dataset."""
    codes = split_codes(np.arange(rows), seed)
    return tuple(np.flatnonzero(codes == code) for code in range(3))


def _mixed(numbers: UInt64[np.ndarray, " rows"], seed: int) -> UInt64[np.ndarray, " rows"]:
    """Hash row numbers (the finaliser of splitmix64), the same on every machine."""
    key = np.random.SeedSequence(seed).generate_state(1, np.uint64)
    mixed = numbers * np.uint64(0x9E3779B97F4A7C15) + key
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))
