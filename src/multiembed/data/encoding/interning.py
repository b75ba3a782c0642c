"""Columns to codes: every distinct value is kept once, and a row holds its number."""

import secrets

import numpy as np
import polars as pl
from jaxtyping import Bool, UInt32, UInt64

from multiembed.data.byte_loops import fill_slots, intern_keys

SHORT = 12
"""Bytes of text that Arrow keeps in the 16 bytes of a view, which are the key then."""


class Interner:
    """The distinct values of one column, numbered by first appearance."""

    def __init__(self) -> None:
        self._slots = np.zeros(1 << 10, np.uint32)
        self._known = np.zeros((1 << 9, 2), np.uint64)
        self._values: list[pl.Series] = []
        self._seed = secrets.randbits(32)
        self.count = 0

    @property
    def values(self) -> pl.Series:
        """The distinct values; a code is a place among them."""
        if len(self._values) > 1:
            self._values = [pl.concat(self._values)]
        return self._values[0]

    def add(self, column: pl.Series) -> tuple[UInt32[np.ndarray, " rows"], pl.Series]:
        """Return the codes of some more rows, and the values not seen before."""
        column = column.rechunk()
        keys, long = self._keys(column)
        self._reserve(self.count + len(keys))
        codes = np.empty(len(keys), np.uint32)
        fresh = np.empty(len(keys), np.int64)
        before, table = self.count, (self._slots, self._known)
        self.count = intern_keys(keys, table, before, codes, fresh)
        new = column.gather(fresh[: self.count - before])
        if len(new) or not self._values:
            self._values.append(new)
        if long is not None:
            found, got = self.values.gather(codes[long]), column.filter(pl.Series(long))
            assert found.equals(got), "two texts have the same 64-bit hash"
        return codes, new

    def _keys(
        self, column: pl.Series
    ) -> tuple[UInt64[np.ndarray, "rows 2"], Bool[np.ndarray, " rows"] | None]:
        """Return two words that stand for every value, and which values are long text."""
        dtype = column.dtype
        if dtype.is_integer() or dtype.is_float():
            number = column.cast(pl.Float64) if dtype.is_float() else column
            if dtype != pl.UInt64 and dtype.is_integer():
                number = column.cast(pl.Int64)
            bits = number.fill_null(0).to_numpy().view(np.uint64)
            return np.column_stack([bits, column.is_null().to_numpy().astype(np.uint64)]), None
        text = column.cast(pl.String).fill_null("").rechunk()
        keys = _views(text)
        long = (keys[:, 0] & np.uint64(0xFFFFFFFF)) > SHORT
        if not long.any():
            return keys, None
        keys = keys.copy()
        keys[long, 1] = text.filter(pl.Series(long)).hash(self._seed).to_numpy()
        return keys, long

    def _reserve(self, count: int) -> None:
        if count > len(self._known):
            room = np.zeros((1 << int(count - 1).bit_length(), 2), np.uint64)
            room[: self.count] = self._known[: self.count]
            self._known = room
            self._slots = np.zeros(2 * len(room), np.uint32)
            fill_slots(self._slots, self._known, self.count)


def _views(text: pl.Series) -> UInt64[np.ndarray, "rows 2"]:
    """Return the views of text without missing values, as they lie in memory."""
    array = text.to_arrow(compat_level=pl.CompatLevel.newest())
    words = np.frombuffer(array.buffers()[1] or b"", np.uint64).reshape(-1, 2)
    return words[array.offset : array.offset + len(array)]
