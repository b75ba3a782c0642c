"""Rows that were read once: codes and the distinct values they stand for, in Arrow files.

Every column of a part is an Arrow dictionary. Counting and encoding work on the distinct values
only, and the raw rows, which may be compressed or far away, are read a single time.
"""

import os
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from jaxtyping import Bool, Int64, UInt, UInt8, UInt32

from multiembed.data.encoding.interning import Interner
from multiembed.data.encoding.values import read_values
from multiembed.data.store.schema import Field

NUMBER, LABEL, GIVEN = "number", "label", "given"
"""The first three columns of a part; fields follow in their order, whatever their names."""


class Interned(NamedTuple):
    """One column of some rows."""

    codes: UInt[np.ndarray, " rows"]
    """Places among the values."""
    values: pl.Series
    """Values as `read_values` gives them; several raw values may be the same one."""


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
        if self._field is None or not self._field.parsed or column.dtype != pl.String:
            return None
        flags = read_values(new.to_frame(), [self._field]).unreadable.get(self._field.name)
        self._unreadable.append(np.zeros(len(new), bool) if flags is None else flags)
        return self._unreadable_rows(codes) if flags is not None or self._any_bad() else None

    def keep(self, rows: Bool[np.ndarray, " rows"]) -> None:
        """Leave out rows of the last block."""
        self._codes[-1] = self._codes[-1][rows]

    def dictionary(self) -> pa.DictionaryArray:
        """Return all rows, with codes as narrow as they can be."""
        narrow = np.min_scalar_type(max(1, self._interner.count - 1))
        codes = np.concatenate([part.astype(narrow) for part in self._codes])
        raw = self._interner.values
        values = raw.cast(pl.String).fill_null("")
        if self._field is not None:
            values = read_values(raw.to_frame(), [self._field]).columns.to_series()
        return pa.DictionaryArray.from_arrays(pa.array(codes), values.to_arrow())

    def _any_bad(self) -> bool:
        return any(bool(part.any()) for part in self._unreadable)

    def _unreadable_rows(self, codes: UInt32[np.ndarray, " rows"]) -> Bool[np.ndarray, " rows"]:
        return np.concatenate(self._unreadable)[codes]


class PartBuilder:
    """Collects blocks of rows and writes them as one part."""

    def __init__(self, fields: Sequence[Field], split_by: str | None, pool: Executor) -> None:
        # The column that says how rows are split is kept as it is, and may be a field as well.
        self._columns = [(field.column, _FieldColumn(field)) for field in fields]
        if split_by is not None:
            self._columns.append((split_by, _FieldColumn(None)))
        self._pool = pool
        self._frame: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.rows = 0

    def add(self, rows: pl.DataFrame) -> dict[str, Bool[np.ndarray, " rows"]]:
        """Take the fields of a block; return where a raw column should hold a number or a date."""
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
            for _, column in self._columns:
                column.keep(rows)
        given = np.full(len(numbers), split or 0, np.uint8)
        self._frame.append((numbers, labels, given))
        self.rows += len(rows)

    def write(self, path: Path) -> tuple[int, int]:
        """Write the part; return the numbers of its first and last row, or -1 twice."""
        numbers, labels, given = (
            np.concatenate(column) for column in zip(*self._frame, strict=True)
        )
        fields = list(self._pool.map(lambda column: column[1].dictionary(), self._columns))
        arrays = [pa.array(numbers), pa.array(labels), pa.array(given), *fields]
        names = [NUMBER, LABEL, GIVEN, *(str(place) for place in range(len(fields)))]
        batch = pa.record_batch(arrays, names=names)
        partial = path.with_name(path.name + ".partial")
        with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
        os.replace(partial, path)
        return (int(numbers[0]), int(numbers[-1])) if len(numbers) else (-1, -1)


class Part:
    """A part, mapped into memory."""

    def __init__(self, path: Path) -> None:
        self._batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)

    @property
    def numbers(self) -> Int64[np.ndarray, " rows"]:
        """The number of every row."""
        return self._batch.column(NUMBER).to_numpy()

    @property
    def labels(self) -> UInt8[np.ndarray, " rows"]:
        """The label of every row."""
        return self._batch.column(LABEL).to_numpy()

    @property
    def given(self) -> UInt8[np.ndarray, " rows"]:
        """The split of every row, where files say so."""
        return self._batch.column(GIVEN).to_numpy()

    def field(self, place: int) -> Interned:
        """Return a field; after the last stands the column that rows are split by."""
        column = self._batch.column(str(place))
        return Interned(column.indices.to_numpy(), pl.Series(pl.from_arrow(column.dictionary)))
