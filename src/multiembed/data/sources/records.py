"""Delimited text cut into whole records, with their line numbers, in bounded memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from multiembed.base.errors import DataError
from multiembed.data.byte_loops import scan_records
from multiembed.data.sources.source import START, Mark, reading
from multiembed.data.sources.streams import ByteStream, open_bytes

CHUNK = 1 << 24
"""Bytes read at once."""
LONGEST = 1 << 26
"""A record this long is a quote that nobody closed."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Dialect(NamedTuple):
    """How one kind of delimited text is written."""

    separator: str
    quoted: bool
    """Whether values may stand in double quotes, and then hold separators and newlines."""
    json: bool = False
    """Whether every line is a JSON object instead."""


JSON_LINES = Dialect("\0", quoted=False, json=True)
"""A line is one record of one column: JSON escapes newlines and control characters."""


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
    after: Mark
    """Where the next record begins; its row number is not known here."""

    def cut(self, keep: Bool[np.ndarray, " records"]) -> "Records":
        """Return only some of the records."""
        if keep.all():
            return self
        sizes = np.diff(self.ends, prepend=0)
        text = np.frombuffer(self.text, np.uint8)[np.repeat(keep, sizes)].tobytes()
        ends = np.cumsum(sizes[keep])
        return self._replace(
            text=text, ends=ends, columns=self.columns[keep], lines=self.lines[keep]
        )


def read_records(file: Path, dialect: Dialect, start: Mark = START) -> Iterator[Records]:
    """Read a file, some megabytes at a time, from its beginning or from a mark.

    Raises:
        DataError: If the file cannot be read, or ends inside a quoted value.
    """
    with reading([file]), open_bytes(file) as stream:
        stream.skip(start.offset)
        yield from _split(stream, file, dialect, start)


def _split(stream: ByteStream, file: Path, dialect: Dialect, start: Mark) -> Iterator[Records]:
    after, rest = start, b""
    while True:
        data = stream.read(CHUNK)
        if after.offset == 0 and not rest and data.startswith(BYTE_ORDER_MARK):
            data = data.removeprefix(BYTE_ORDER_MARK)
            after = after._replace(offset=len(BYTE_ORDER_MARK))
        text = rest + data
        if not data and text and not text.endswith(b"\n"):
            text += b"\n"
        ends, columns, lines, line = _scan(text, dialect, after.line)
        stop = int(ends[-1]) if len(ends) else 0
        rest = text[stop:]
        after = after._replace(offset=after.offset + stop, line=line)
        if len(ends):
            yield Records(text[:stop], ends, columns, lines, stream.position, after)
        if rest and (not data or len(rest) > LONGEST):
            raise DataError(f"{file} line {line}: a quote must be closed, got none that does")
        if not data:
            return


def _scan(
    text: bytes, dialect: Dialect, line: int
) -> tuple[
    Int64[np.ndarray, " records"],
    Int64[np.ndarray, " records"],
    Int64[np.ndarray, " records"],
    int,
]:
    """Find ends, numbers of columns and first lines of records, and the line after them."""
    found = np.empty((3, text.count(b"\n")), np.int64)
    content = np.frombuffer(text, np.uint8)
    separator, places = ord(dialect.separator), (found[0], found[1], found[2])
    records, line = scan_records(content, separator, dialect.quoted, line, places)
    ends, columns, lines = found[:, :records]
    return ends, columns, lines, line
