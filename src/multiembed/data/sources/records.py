"""Text, however it is written, cut into whole records with their line numbers."""

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from multiembed.base.errors import DataError
from multiembed.data.sources.contents import BYTE_ORDER_MARK, read_text
from multiembed.data.sources.json_scanning import scan_array
from multiembed.data.sources.scanning import scan_records, special_bytes
from multiembed.data.sources.source import START, Mark

BYTES_PER_READ = 1 << 24
"""Bytes read at once."""
LONGEST = 1 << 26
"""A record this long is a quote that nobody closed, or no row."""
MOST_LINES = 1 << 21
"""Lines cut at once, give or take: a few bytes each would need many times their memory."""


class Dialect(NamedTuple):
    """How one kind of text is written."""

    separator: str
    quote: str = '"'
    """What may enclose values, which then hold separators and newlines; empty for nothing."""
    escape: str = ""
    """What makes the quote, separator or newline behind it a character of the value."""
    comment: str = ""
    """How lines begin that are no rows."""
    encoding: str = ""
    """Empty for UTF-8."""
    returns: bool = False
    """Whether lines end in a lone carriage return."""
    json: Literal["", "lines", "array"] = ""
    """Whether it is JSON objects instead: one on every line, or one array of them."""

    @property
    def is_plain(self) -> bool:
        """Whether polars reads it as it is."""
        return self.quote in ("", '"') and not self.escape and len(self.separator.encode()) == 1

    @property
    def special(self) -> np.ndarray:
        """Which bytes may begin something."""
        return special_bytes(self.separator.encode(), self.quote.encode(), self.escape.encode())


JSON_LINES = Dialect("\0", quote="", json="lines")
"""A line is one record of one column: JSON escapes newlines and control characters."""


class Records(NamedTuple):
    """Some consecutive records."""

    text: bytes
    ends: Int64[np.ndarray, " records"]
    """Where every record ends in `text`, its newline included."""
    columns: Int64[np.ndarray, " records"]
    """How many columns every record has; 0 for a blank line, -1 where quotes are broken."""
    lines: Int64[np.ndarray, " records"]
    """The line of the file where every record begins, from 1."""
    position: int
    """Bytes of the file read so far."""
    after: Mark
    """Where the next record begins; its row number is not known here."""
    loose: bool = False
    """Whether there are quotes that enclose nothing."""

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


def read_records(
    file: Path, dialect: Dialect, start: Mark = START, *, step: int | None = None
) -> Iterator[Records]:
    """Read a file, some megabytes at a time, from its beginning or from a mark.

    Raises:
        DataError: If the file cannot be read, or ends inside a quoted value.
    """
    after, rest, cut = start, b"", _cutter(dialect, start)
    pieces = read_text(file, dialect.encoding, skipped=start.offset, step=step or BYTES_PER_READ)
    position = 0
    for data, read in chain(_in_few_lines(pieces), [(b"", 0)]):
        position = max(position, read)
        if after.offset == 0 and not rest and data.startswith(BYTE_ORDER_MARK):
            data = data.removeprefix(BYTE_ORDER_MARK)
            after = after._replace(offset=len(BYTE_ORDER_MARK))
        text = rest + (data.replace(b"\r", b"\n") if dialect.returns else data)
        if not read and text and not text.endswith(b"\n"):
            text += b"\n"
        records = cut(text, after)
        rest, after = text[len(records.text) :], records.after
        if len(records.ends):
            yield records._replace(position=position)
        if rest.strip() and (not read or len(rest) > LONGEST):
            line = b"\n" not in rest.rstrip(b"\n") and len(rest) > LONGEST
            reason = f"must be shorter than {LONGEST} bytes" if line else _unclosed(dialect)
            raise DataError(f"{file} line {after.line}: {reason}")


def _in_few_lines(pieces: Iterator[tuple[bytes, int]]) -> Iterator[tuple[bytes, int]]:
    for data, read in pieces:
        step = MOST_LINES if data.count(b"\n") > MOST_LINES else max(1, len(data))
        for begin in range(0, len(data), step):
            yield data[begin : begin + step], read


def _unclosed(dialect: Dialect) -> str:
    if dialect.json:
        return "a JSON array must be closed, got none that is"
    return "a quote must be closed, got none that does (quote none takes quotes as they are)"


def _cutter(dialect: Dialect, start: Mark) -> Callable[[bytes, Mark], Records]:
    """Return what cuts a text that begins at a mark, as far as its records are whole."""
    if dialect.json == "array":
        return _array_cutter(1 if start.offset else 0)
    special = dialect.special
    separator, comment = (
        np.frombuffer(text.encode(), np.uint8) for text in (dialect.separator, dialect.comment)
    )

    def cut(text: bytes, after: Mark) -> Records:
        found = np.empty((3, text.count(b"\n")), np.int64)
        content = np.frombuffer(text, np.uint8)
        count, line, loose = scan_records(content, special, separator, comment, after.line, found)
        return _whole(text, found[:, :count], after._replace(line=line), loose=loose)

    return cut


def _array_cutter(depth: int) -> Callable[[bytes, Mark], Records]:
    def cut(text: bytes, after: Mark) -> Records:
        nonlocal depth
        content = np.frombuffer(text, np.uint8).copy()
        found = np.empty((3, text.count(b",") + text.count(b"]")), np.int64)
        count, line, depth = scan_array(content, depth, after.line, found)
        return _whole(content.tobytes(), found[:, :count], after._replace(line=line), loose=False)

    return cut


def _whole(
    text: bytes, found: Int64[np.ndarray, "3 records"], after: Mark, *, loose: bool
) -> Records:
    ends, columns, lines = found
    stop = int(ends[-1]) if len(ends) else 0
    after = after._replace(offset=after.offset + stop)
    return Records(text[:stop], ends, columns, lines, 0, after, loose)
