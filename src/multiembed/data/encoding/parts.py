"""Rows that were read once: codes and the distinct values they stand for, in Arrow files.

Every column of a part is an Arrow dictionary. Counting and encoding work on the distinct values
only, and the raw rows, which may be compressed or far away, are read a single time.
"""

import secrets
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import NamedTuple, no_type_check

import numpy as np
import polars as pl
import pyarrow as pa
from jaxtyping import Bool, Int64, UInt, UInt8, UInt32, UInt64

from multiembed.base.loops import compiled
from multiembed.base.splitmix import GOLDEN, mix64
from multiembed.data.encoding.typed import about_column, as_written
from multiembed.data.encoding.values import read_parsed, read_values
from multiembed.data.store.schema import Field
from multiembed.data.store.shards import write_batch

_NUMBER, _LABEL, _GIVEN = "number", "label", "given"
"""The first three columns of a part; fields follow in their order, whatever their names."""
SHORT = 12
"""Bytes of text that Arrow keeps in the 16 bytes of a view, which are the key then."""


class Interned(NamedTuple):
    """One column of some rows."""

    codes: UInt[np.ndarray, " rows"]
    """Places among the values."""
    values: pl.Series
    """Values as `read_values` gives them; several raw values may be the same one."""


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
        self.count = _intern_keys(keys, table, before, codes, fresh)
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
        text = as_written(column).fill_null("").rechunk()
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
            _fill_slots(self._slots, self._known, self.count)


class _FieldColumn:
    """One field of a part under way."""

    def __init__(self, field: Field | None) -> None:
        self._field = field
        self._interner = Interner()
        self._unreadable: list[Bool[np.ndarray, " _"]] = []
        self._codes: list[UInt32[np.ndarray, " _"]] = []

    def add(self, column: pl.Series) -> Bool[np.ndarray, " rows"] | None:
        """Take the rows of a block; say which of them should be numbers and are none."""
        codes, new = self._interner.add(column)
        self._codes.append(codes)
        if self._field is None or not self._field.parsed:
            return None
        with about_column(self._field.column):
            self._unreadable.append(read_parsed(new, self._field)[1])
        bad = np.concatenate(self._unreadable)
        return bad[codes] if bad.any() else None

    def keep(self, rows: Bool[np.ndarray, " rows"]) -> None:
        """Leave out rows of the last block."""
        self._codes[-1] = self._codes[-1][rows]

    def dictionary(self) -> pa.DictionaryArray:
        """Return all rows, with codes as narrow as they can be."""
        narrow = np.min_scalar_type(max(1, self._interner.count - 1))
        codes = np.concatenate([part.astype(narrow) for part in self._codes])
        raw = self._interner.values
        values = raw.fill_null("") if raw.dtype == pl.String else raw
        if self._field is not None:
            values = read_values(raw.to_frame(), [self._field]).columns.to_series()
        return pa.DictionaryArray.from_arrays(pa.array(codes), values.to_arrow())


class PartBuilder:
    """Collects blocks of rows and writes them as one part."""

    def __init__(self, fields: Sequence[Field], extras: int, pool: Executor) -> None:
        self._columns = [(field.column, _FieldColumn(field)) for field in fields]
        self._extras = [("", _FieldColumn(None)) for _ in range(extras)]
        self._pool = pool
        self._frame: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.rows = 0

    def add(
        self, rows: pl.DataFrame, extras: Sequence[pl.Series]
    ) -> dict[str, Bool[np.ndarray, " rows"]]:
        """Take the fields of a block; return where a raw column should hold a number or a date.

        Extra columns, text or numbers, are taken as they are.
        """
        for (_, column), values in zip(self._extras, extras, strict=True):
            column.add(values)
        found = self._pool.map(lambda column: column[1].add(rows[column[0]]), self._columns)
        flags = zip(self._columns, found, strict=True)
        return {name: flag for (name, _), flag in flags if flag is not None}

    def keep(
        self,
        rows: Bool[np.ndarray, " rows"],
        numbers: Int64[np.ndarray, " kept"],
        *,
        labels: UInt8[np.ndarray, " kept"],
        split: int | None,
    ) -> None:
        """Keep these rows of the last block, which have these numbers and labels."""
        if not rows.all():
            for _, column in self._columns + self._extras:
                column.keep(rows)
        given = np.full(len(numbers), split or 0, np.uint8)
        self._frame.append((numbers, labels, given))
        self.rows += len(rows)

    def write(self, path: Path) -> tuple[int, int]:
        """Write the part; return the numbers of its first and last row, or -1 twice."""
        numbers, labels, given = (
            np.concatenate(column) for column in zip(*self._frame, strict=True)
        )
        columns = self._columns + self._extras
        fields = list(self._pool.map(lambda column: column[1].dictionary(), columns))
        arrays = [pa.array(numbers), pa.array(labels), pa.array(given), *fields]
        names = [_NUMBER, _LABEL, _GIVEN, *(str(place) for place in range(len(fields)))]
        write_batch(path, pa.record_batch(arrays, names=names))
        return (int(numbers[0]), int(numbers[-1])) if len(numbers) else (-1, -1)


class Part:
    """A part, mapped into memory."""

    numbers: Int64[np.ndarray, " rows"]
    """The number of every row."""
    labels: UInt8[np.ndarray, " rows"]
    width: int
    """How many fields and extra columns there are."""
    given: UInt8[np.ndarray, " rows"]
    """The split of every row, where files say so."""

    def __init__(self, path: Path) -> None:
        self._batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
        self.width = self._batch.num_columns - 3
        self.numbers = self._batch.column(_NUMBER).to_numpy()
        self.labels = self._batch.column(_LABEL).to_numpy()
        self.given = self._batch.column(_GIVEN).to_numpy()

    def field(self, place: int) -> Interned:
        """Return a field; after the last stand the extra columns."""
        column = self._batch.column(place + len((_NUMBER, _LABEL, _GIVEN)))
        return Interned(column.indices.to_numpy(), pl.Series(pl.from_arrow(column.dictionary)))


def _views(text: pl.Series) -> UInt64[np.ndarray, "rows 2"]:
    """Return the views of text without missing values, as they lie in memory."""
    array = text.to_arrow(compat_level=pl.CompatLevel.newest())
    words = np.frombuffer(array.buffers()[1] or b"", np.uint64).reshape(-1, 2)
    return words[array.offset : array.offset + len(array)]


@compiled
@no_type_check
def _intern_keys(keys, table, count, codes, fresh):  # noqa: ANN001, ANN202
    """Give equal keys equal codes: those of `table`, or the next ones; return how many there are.

    `fresh` gets the rows that brought a new key. Slots hold codes plus one, so that 0 is free;
    there must be room for every row.
    """
    slots, known = table
    mask = np.uint64(len(slots) - 1)
    before = count
    for row in range(len(keys)):
        low, high = keys[row, 0], keys[row, 1]
        place = mix64(low ^ (high * GOLDEN)) & mask
        while True:
            code = slots[place]
            if code == 0:
                known[count, 0], known[count, 1] = low, high
                fresh[count - before] = row
                codes[row] = count
                count += 1
                slots[place] = count
                break
            if known[code - 1, 0] == low and known[code - 1, 1] == high:
                codes[row] = code - 1
                break
            place = (place + np.uint64(1)) & mask
    return count


@compiled
@no_type_check
def _fill_slots(slots, known, count):  # noqa: ANN001, ANN202
    """Put known keys into empty slots."""
    mask = np.uint64(len(slots) - 1)
    for code in range(count):
        place = mix64(known[code, 0] ^ (known[code, 1] * GOLDEN)) & mask
        while slots[place] != 0:
            place = (place + np.uint64(1)) & mask
        slots[place] = code + 1
