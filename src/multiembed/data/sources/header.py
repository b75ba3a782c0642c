"""The first line of delimited text: its separator, its names, and whether it holds names at all."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl

from multiembed.base.errors import ConfigError, DataError
from multiembed.data.sources.contents import FileContents, read_text
from multiembed.data.sources.read_options import ReadOptions
from multiembed.data.sources.records import Dialect, Records, read_records
from multiembed.data.sources.scanning import BROKEN
from multiembed.data.sources.text import HINTS, MALFORMED, NOT_UTF8, SEPARATORS, TextReader

TABBED = (".tsv", ".tab")
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
_UNSEPARATED = re.compile(rb"::|[\x00-\x08\x0b-\x1f^~]|[^ ]+ +[^ ]+ +[^ ]")
_STEP = 1 << 20
SEEN = 1000
"""Rows below a header that are compared with it."""


class HeadedReader(TextReader):
    """Delimited text whose columns' names stand on its first line."""

    def __init__(self, file: Path, dialect: Dialect, names: tuple[str, ...]) -> None:
        super().__init__(file, dialect, names, header=True)
        self.asides = {"": "has no name"} if "" in names else {}


def open_delimited(file: Path, contents: FileContents, options: ReadOptions) -> TextReader:
    """Open delimited text with the names of its columns, or with those that the user gives.

    Raises:
        ConfigError: If columns have no names.
        DataError: If they have none of their own, or it cannot be read as asked.
    """
    dialect = _dialect(file, contents, options)
    if not options.no_header:
        names, rows = read_header(file, dialect)
        _check_names(file, names, rows, options.label)
        return HeadedReader(file, dialect, names)
    width = int(_first_record(file, dialect).columns[0])
    names = options.columns
    if width == len(names) - 1 and options.label in names:
        names = tuple(name for name in names if name != options.label)  # rows to score
    if width != len(names):
        raise ConfigError(
            f"columns must name the {width} columns of {file}, got {len(options.columns)} names"
        )
    if read_header(file, dialect)[0] == names:
        raise DataError(f"{file} line 1: must hold values, got column names (no_header is on)")
    return TextReader(file, dialect, names, header=False)


def read_header(file: Path, dialect: Dialect) -> tuple[tuple[str, ...], pl.DataFrame]:
    """Read the column names on the first line of a file, and some rows below it.

    Raises:
        DataError: If there is no header.
    """
    first = _first_record(file, dialect)
    place = f"{file} line {first.lines[0]}"
    byte = _undecodable(first.text)
    if byte is not None:
        raise DataError(f"{place}: {NOT_UTF8.format(byte)}")
    if b"\0" in first.text:
        raise DataError(f"{place}: text must hold no NUL, got one (encoding may be utf-16-le)")
    width = int(first.columns[0])
    rows = pl.DataFrame()
    if width != BROKEN:
        rows = TextReader(file, dialect, [str(n) for n in range(width)], header=False).head(SEEN)
    if not rows.height:
        raise DataError(f"{place}: {MALFORMED}{HINTS}")
    return tuple((name or "").rstrip("\r") for name in rows.row(0)), rows[1:]


def _dialect(file: Path, contents: FileContents, options: ReadOptions) -> Dialect:
    """Put together what the user says of a text, its name and its first bytes."""
    quote, escape = (
        "" if mark == "none" else mark for mark in (options.quote or '"', options.escape or "none")
    )
    marks = [mark[0] for mark in (options.separator, quote, escape) if mark]
    if len(set(marks)) < len(marks):
        raise ConfigError(f"separator, quote and escape must differ, got {marks[0]!r} twice")
    encoding = options.encoding or contents.encoding
    start, _ = next(read_text(file, encoding, step=_STEP), (b"", 0))
    dialect = Dialect(
        options.separator or ",",
        quote=quote,
        escape=escape,
        comment=options.comment or "",
        encoding=encoding,
        returns=b"\r" in start and b"\n" not in start,
    )
    if options.separator:
        return dialect
    if any(suffix in TABBED for suffix in Path(contents.name).suffixes):
        return dialect._replace(separator="\t")
    text = _first_record(file, dialect).text
    enclosed = re.escape(quote.encode())
    unquoted = re.sub(b"%b[^%b]*%b" % ((enclosed,) * 3), b"", text) if quote else text
    counts = {mark: unquoted.count(mark.encode()) for mark in SEPARATORS}
    one = not any(counts.values()) and b"\0" not in text and _undecodable(text) is None
    if one and _UNSEPARATED.search(unquoted):
        raise DataError(
            f"{file} line 1: columns must be separated by {', '.join(SEPARATORS.values())} or what "
            f"separator says, got {unquoted.decode(errors='replace').strip()[:60]!r}"
        )
    names = {m: [n.strip(b"\r\n" + quote.encode()) for n in text.split(m.encode())] for m in counts}
    label = (options.label or "").encode()
    return dialect._replace(separator=max(counts, key=lambda m: (label in names[m], counts[m])))


def _first_record(file: Path, dialect: Dialect) -> Records:
    for records in read_records(file, dialect, step=_STEP):
        filled = np.flatnonzero(records.columns)
        if len(filled):
            return records.cut(np.arange(len(records.ends)) == filled[0])
    raise DataError(f"{file} must hold column names and rows, got an empty file")


def _undecodable(text: bytes) -> int | None:
    """Return the first byte that is no UTF-8, if there is one."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return text[error.start]
    return None


def _check_names(file: Path, names: tuple[str, ...], rows: pl.DataFrame, label: str | None) -> None:
    """Refuse a first line that looks like the lines below it, and names that stand twice.

    A name that is a number above numbers, or that stands below itself, looks like a value; one
    that is no number above numbers, or is the label, like a name. One of these is enough.
    """
    named = [name for name in names if name]
    numbered = [str(place) for place in range(len(named) + 1)]
    known = label in names and not _NUMBER.fullmatch(label or "")
    if not (known or named in (numbered[:-1], numbered[1:])):
        looks = [_looks(name, rows[str(place)]) for place, name in enumerate(names)]
        if 2 * looks.count("value") >= len(looks) and "name" not in looks:
            raise DataError(
                f"{file} line 1: must hold column names, got what looks like values "
                f"({', '.join(names)[:60]}); --no-header --columns A,B,... names the columns"
            )
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        raise DataError(f"{file} header: column names must differ, got {twice[0]!r} twice")


def _looks(name: str, below: pl.Series) -> str:
    values = [value for value in below if value]
    numbers = bool(values) and all(map(_NUMBER.fullmatch, values))
    if name in values or (numbers and _NUMBER.fullmatch(name)):
        return "value"
    return "name" if numbers and name else ""
