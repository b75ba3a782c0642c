"""Delimited text cut into whole records, with their line numbers, in bounded memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from multiembed.data.sources import reading
from multiembed.errors import DataError

CHUNK = 1 << 23
"""Bytes read at once."""
LONGEST = 1 << 26
"""A record this long is a quote that nobody closed."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
NEWLINE, RETURN, QUOTE = ord("\n"), ord("\r"), ord('"')


class Dialect(NamedTuple):
    """How one kind of delimited text is written."""

    separator: str
    quoted: bool
    """Whether values may stand in double quotes, and then hold separators and newlines."""


class Records(NamedTuple):
    """Some consecutive records."""

    text: bytes
    ends: Int64[np.ndarray, " records"]
    """Where every record ends in `text`, its newline included."""
    columns: Int64[np.ndarray, " records"]
    """How many columns every record has; 0 for a blank line."""
    lines: Int64[np.ndarray, " records"]
    """The line of the file where every record begins, from 1."""
    position: int
    """Bytes of the file read so far."""

    def cut(self, keep: Bool[np.ndarray, " records"]) -> "Records":
        """Return only some of the records."""
        if keep.all():
            return self
        sizes = np.diff(self.ends, prepend=0)
        text = np.frombuffer(self.text, np.uint8)[np.repeat(keep, sizes)].tobytes()
        ends = np.cumsum(sizes[keep])
        return Records(text, ends, self.columns[keep], self.lines[keep], self.position)


def read_records(file: Path, dialect: Dialect) -> Iterator[Records]:
    """Read a file, some megabytes at a time.

    Raises:
        DataError: If the file cannot be read, or ends inside a quoted value.
    """
    with reading([file]), file.open("rb") as stream:
        yield from _split(stream, file, dialect)


def _split(stream: IO[bytes], file: Path, dialect: Dialect) -> Iterator[Records]:
    line, position, rest = 1, 0, b""
    while True:
        data = stream.read(CHUNK)
        if position == 0:
            data = data.removeprefix(BYTE_ORDER_MARK)
        position += len(data)
        text = rest + data
        if not data and text and not text.endswith(b"\n"):
            text += b"\n"
        ends, columns, newlines = _scan(np.frombuffer(text, np.uint8), dialect)
        stop = int(ends[-1]) if len(ends) else 0
        rest = text[stop:]
        if len(ends):
            starts = np.concatenate([[0], ends[:-1]])
            lines = line + np.searchsorted(newlines, starts)
            yield Records(text[:stop], ends, columns, lines, position)
            line += int(np.searchsorted(newlines, stop))
        if rest and (not data or len(rest) > LONGEST):
            raise DataError(f"{file} line {line}: a quote must be closed, got none that does")
        if not data:
            return


def _scan(
    text: UInt8[np.ndarray, " bytes"], dialect: Dialect
) -> tuple[
    Int64[np.ndarray, " records"], Int64[np.ndarray, " records"], Int64[np.ndarray, " newlines"]
]:
    """Find where records end, how many columns they have, and all newlines."""
    newline = text == NEWLINE
    separator = text == ord(dialect.separator)
    newlines = np.flatnonzero(newline)
    ends = newlines
    if dialect.quoted:
        quote = text == QUOTE
        if quote.any():
            # Between an odd and an even quote everything belongs to the value; a doubled
            # quote inside a value closes and opens it again, which changes nothing.
            outside = ~np.logical_xor.accumulate(quote)
            separator &= outside
            ends = np.flatnonzero(newline & outside)
    ends = ends + 1
    return ends, _count_columns(text, separator, ends), newlines


def _count_columns(
    text: UInt8[np.ndarray, " bytes"],
    separator: Bool[np.ndarray, " bytes"],
    ends: Int64[np.ndarray, " records"],
) -> Int64[np.ndarray, " records"]:
    places = np.concatenate([[0], np.searchsorted(np.flatnonzero(separator), ends)])
    columns = np.diff(places) + 1
    starts = np.concatenate([[0], ends])[:-1]
    sizes = ends - starts
    short = np.flatnonzero(sizes <= 2)
    blank = (sizes[short] == 1) | (text[starts[short]] == RETURN)
    columns[short[blank]] = 0
    return columns
