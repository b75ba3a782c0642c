"""Rows of text: every record checked, then parsed by polars a block at a time."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int64
from typing_extensions import override

from multiembed.base.errors import DataError
from multiembed.data.sources.contents import can_seek
from multiembed.data.sources.records import Dialect, Records, read_records
from multiembed.data.sources.scanning import BROKEN, write_plain
from multiembed.data.sources.source import (
    BAD_ROWS_SHOWN,
    SAMPLE_PLACES,
    START,
    BadRow,
    Block,
    FileReader,
    Mark,
)

SEPARATORS = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar", "\x01": r"\x01"}
MALFORMED = "quotes must enclose a whole value, got one inside a value"
NOT_UTF8 = "text must be UTF-8, got byte {:#04x} (encoding names another)"
HINTS = r" (quote none takes quotes as they are, escape '\' reads \" in quotes)"
PLAIN_TEXT = Dialect(",")
MOST_MALFORMED = 100
"""Malformed records are looked for one by one; a file with more of them is something else."""
SAMPLE_WINDOW = 1 << 18
"""Bytes that a sample reads in one place."""


class TextReader(FileReader):
    """One file of delimited text.

    Args:
        file: Plain or compressed.
        dialect: How it is written.
        names: Of its columns, in order; one without a name is not read.
        header: Whether its first line holds names.
    """

    malformed = MALFORMED
    """What is wrong with a record that is whole but cannot be parsed."""

    def __init__(self, file: Path, dialect: Dialect, names: Sequence[str], *, header: bool) -> None:
        self.files = (file,)
        self.names = tuple(name for name in names if name)
        self._dialect = dialect
        self._columns = tuple(names)
        self._header = header

    @property
    def width(self) -> int:
        """Columns that every record must have."""
        return len(self._columns)

    @property
    @override
    def types(self) -> dict[str, str]:
        return dict.fromkeys(self.names, "String")

    @override
    def blocks(self, columns: Sequence[str], start: Mark = START) -> Iterator[Block]:
        # Blank lines are skipped and have no number.
        number, header = start.number, self._header and start.offset == 0
        for records in read_records(self.files[0], self._dialect, start):
            present = records.columns != 0
            if header and present.any():
                present[np.argmax(present)] = False
                header = False
            filled = records.cut(present)
            numbers = number + np.arange(len(filled.ends))
            number += len(numbers)
            after = records.after._replace(number=number)
            yield self._block(filled, numbers, columns)._replace(after=after)

    def head(self, rows: int) -> pl.DataFrame:
        """Read the first rows, all columns, but for those that are bad."""
        for records in read_records(self.files[0], self._dialect, step=SAMPLE_WINDOW):
            present = np.flatnonzero(records.columns)[self._header :][:rows]
            if len(present):
                records = records.cut(np.isin(np.arange(len(records.ends)), present))
                return self._block(records, np.arange(len(present)), self.names).rows
        return pl.DataFrame(schema=dict.fromkeys(self.names, pl.String))

    @override
    def sample(self, rows: int) -> pl.DataFrame:
        size, dialect = self.size, self._dialect
        whole = size <= SAMPLE_PLACES * SAMPLE_WINDOW or dialect.json == "array"
        if whole or not can_seek(self.files[0], dialect.encoding):
            return super().sample(rows)
        found: list[pl.DataFrame] = []
        wanted = -(-rows // SAMPLE_PLACES)
        for place in np.linspace(0, size - SAMPLE_WINDOW, SAMPLE_PLACES).astype(int).tolist():
            records = None
            with suppress(DataError):  # a place inside quotes looks like one that is not closed
                records = next(
                    read_records(self.files[0], dialect, Mark(offset=place), step=SAMPLE_WINDOW),
                    None,
                )
            if records is None:
                continue
            present = records.columns != 0
            present[np.argmax(present)] = False  # the header, or the end of a record
            block = self._block(records.cut(present), np.arange(present.sum()), self.names)
            found.append(block.rows.gather_every(max(1, block.rows.height // wanted)).head(wanted))
        return pl.concat(found) if found else super().sample(rows)

    def _block(
        self, records: Records, numbers: Int64[np.ndarray, " records"], columns: Sequence[str]
    ) -> Block:
        whole = records.columns == self.width
        rows, wrong = self._try_parse(records.cut(whole), columns), {}
        if rows is None:
            wrong = _undecodable(records)
            whole[list(wrong)] = False
            malformed = self._find_malformed(records.cut(whole), columns)
            wrong |= dict.fromkeys(np.flatnonzero(whole)[malformed].tolist(), self.malformed)
            whole[list(wrong)] = False
            rows = self._try_parse(records.cut(whole), columns)
            assert rows is not None, "records that parse one by one parse together"
        bad = np.flatnonzero(~whole)
        first = [
            BadRow(
                int(records.lines[row]), wrong.get(row) or self._miscount(int(records.columns[row]))
            )
            for row in bad[:BAD_ROWS_SHOWN].tolist()
        ]
        return Block(
            rows=rows,
            numbers=numbers[whole],
            lines=records.lines[whole],
            place=f"{self.files[0]} line",
            position=records.position,
            bad_count=len(bad),
            bad=tuple(first),
        )

    def _miscount(self, columns: int) -> str:
        if columns == BROKEN:
            return MALFORMED + HINTS
        separator = SEPARATORS.get(self._dialect.separator, repr(self._dialect.separator))
        return f"expected {self.width} {separator}-separated columns, got {columns}"

    def _find_malformed(self, records: Records, columns: Sequence[str]) -> list[int]:
        """Halve the records until those that polars refuses stand alone."""
        found: list[int] = []
        parts = [(records, 0)]
        while parts:
            part, first = parts.pop()
            if self._try_parse(part, columns) is not None:
                continue
            places = np.arange(len(part.ends))
            middle = len(places) // 2
            if middle:
                parts.append((part.cut(places >= middle), first + middle))
                parts.append((part.cut(places < middle), first))
                continue
            found.append(first)
            if len(found) > MOST_MALFORMED:
                raise DataError(
                    f"{self.files[0]} line {part.lines[0]}: {self.malformed} "
                    f"(more than {MOST_MALFORMED} such rows)"
                )
        return found

    def _try_parse(self, records: Records, columns: Sequence[str]) -> pl.DataFrame | None:
        try:
            rows = self._parse(records, columns)
        except pl.exceptions.PolarsError:
            return None
        return rows if rows.height == len(records.ends) else None

    def _parse(self, records: Records, columns: Sequence[str]) -> pl.DataFrame:
        dialect, text = self._dialect, records.text
        if not dialect.is_plain or records.loose:
            dialect, text = PLAIN_TEXT, _as_plain(text, dialect)
        # A header of our own keeps polars from taking a byte order mark off the first value.
        header = dialect.separator.join(str(place) for place in range(self.width)) + "\n"
        rows = pl.read_csv(
            header.encode() + text,
            separator=dialect.separator,
            quote_char=dialect.quote or None,
            infer_schema=False,
        )
        places = {name: str(place) for place, name in enumerate(self._columns)}
        return rows.select(pl.col(places[name]).alias(name) for name in columns)


def _as_plain(text: bytes, dialect: Dialect) -> bytes:
    out = np.empty(2 * len(text) + 16, np.uint8)
    separator = np.frombuffer(dialect.separator.encode(), np.uint8)
    size = write_plain(np.frombuffer(text, np.uint8), dialect.special, separator, out)
    return out[:size].tobytes()


def _undecodable(records: Records) -> dict[int, str]:
    """Return the records that are not UTF-8, and what is wrong with each."""
    found: dict[int, str] = {}
    begin = 0
    while begin < len(records.text):
        try:
            str(memoryview(records.text)[begin:], "utf-8")
            break
        except UnicodeDecodeError as error:
            byte = records.text[begin + error.start]
            row = int(np.searchsorted(records.ends, begin + error.start, side="right"))
            found[row] = NOT_UTF8.format(byte)
            begin = int(records.ends[row])
    return found
