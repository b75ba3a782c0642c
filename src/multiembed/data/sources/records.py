"""Delimited text, compressed or not, cut into whole records with their line numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple, no_type_check

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int64

from multiembed.base.errors import DataError
from multiembed.base.loops import compiled
from multiembed.data.sources.source import START, Mark, reading

BYTES_PER_READ = 1 << 24
"""Bytes read at once."""
LONGEST = 1 << 26
"""A record this long is a quote that nobody closed."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
"""How compressed files begin."""
SKIPPED = 1 << 24
NEWLINE, RETURN, QUOTE = ord("\n"), ord("\r"), ord('"')


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


@contextmanager
def _open_bytes(file: Path, skipped: int) -> Iterator[tuple[IO[bytes], IO[bytes] | pa.NativeFile]]:
    """Open a file as it lies there and as text, from which so many bytes are left out.

    It is read through gzip or zstd if its first bytes say so.
    """
    with file.open("rb") as raw:
        first = raw.read(4)
        raw.seek(0)
        kind = next((kind for magic, kind in MAGIC.items() if first.startswith(magic)), None)
        if kind is None:
            raw.seek(skipped)
            yield raw, raw
            return
        with pa.CompressedInputStream(pa.PythonFile(raw, "r"), kind) as text:
            while skipped > 0:
                skipped -= len(text.read(min(skipped, SKIPPED))) or skipped
            yield raw, text


def read_records(file: Path, dialect: Dialect, start: Mark = START) -> Iterator[Records]:
    """Read a file, some megabytes at a time, from its beginning or from a mark.

    Raises:
        DataError: If the file cannot be read, or ends inside a quoted value.
    """
    with reading([file]), _open_bytes(file, start.offset) as (raw, stream):
        for records in _split(stream, file, dialect, start):
            yield records._replace(position=raw.tell())


def _split(
    stream: IO[bytes] | pa.NativeFile, file: Path, dialect: Dialect, start: Mark
) -> Iterator[Records]:
    after, rest = start, b""
    while True:
        data = stream.read(BYTES_PER_READ)
        if after.offset == 0 and not rest and data.startswith(BYTE_ORDER_MARK):
            data = data.removeprefix(BYTE_ORDER_MARK)
            after = after._replace(offset=len(BYTE_ORDER_MARK))
        text = rest + data
        if not data and text and not text.endswith(b"\n"):
            text += b"\n"
        found = np.empty((3, text.count(b"\n")), np.int64)
        content, separator = np.frombuffer(text, np.uint8), ord(dialect.separator)
        count, line = _scan_records(content, separator, dialect.quoted, after.line, found)
        ends, columns, lines = found[:, :count]
        stop = int(ends[-1]) if len(ends) else 0
        rest = text[stop:]
        after = after._replace(offset=after.offset + stop, line=line)
        if len(ends):
            yield Records(text[:stop], ends, columns, lines, 0, after)
        if rest and (not data or len(rest) > LONGEST):
            raise DataError(f"{file} line {line}: a quote must be closed, got none that does")
        if not data:
            return


@compiled
@no_type_check
def _scan_records(text, separator, quoted, line, found):  # noqa: ANN001, ANN202
    """Find where records end, how many columns they have, and the line where each begins.

    Blank lines have 0 columns. Between an odd and an even quote everything belongs to the value;
    a doubled quote inside a value closes and opens it again, which changes nothing. Returns the
    number of records and the line after the last of them.
    """
    ends, columns, lines = found[0], found[1], found[2]
    records, begin, count, first, inside = 0, 0, 1, line, False
    for place in range(len(text)):
        byte = text[place]
        if byte == NEWLINE:
            line += 1
            if inside:
                continue
            size = place - begin
            blank = size == 0 or (size == 1 and text[begin] == RETURN)
            ends[records] = place + 1
            columns[records] = 0 if blank else count
            lines[records] = first
            records += 1
            begin, count, first = place + 1, 1, line
        elif byte == separator:
            count += not inside
        elif byte == QUOTE and quoted:
            inside = not inside
    return records, first
