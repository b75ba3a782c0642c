"""Rows of text: every record checked, then parsed by polars a block at a time."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int64
from typing_extensions import override

from multiembed.base.errors import DataError
from multiembed.data.sources.records import JSON_LINES, Dialect, Records, read_records
from multiembed.data.sources.source import BAD_ROWS_SHOWN, START, BadRow, Block, FileReader, Mark

SEPARATORS = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar"}
MALFORMED = "quotes must enclose a whole value, got one inside a value"
NO_OBJECT = "a line must be one JSON object, got something else"
QUOTED = re.compile(rb'"[^"]*"')
SAMPLE_LINES = 1000
"""JSON objects whose names are taken for columns."""
MOST_MALFORMED = 100
"""Malformed records are looked for one by one; a file with more of them is something else."""


class TextReader(FileReader):
    """One file of delimited text, or of JSON objects line by line."""

    def __init__(self, file: Path, dialect: Dialect, names: Sequence[str], *, header: bool) -> None:
        self.files = (file,)
        self.names = tuple(names)
        self._dialect = dialect
        self._malformed = NO_OBJECT if dialect.json else MALFORMED
        self._header = header

    @property
    @override
    def types(self) -> dict[str, str]:
        return dict.fromkeys(self.names, "String")

    @override
    def blocks(self, columns: Sequence[str], start: Mark = START) -> Iterator[Block]:
        # Blank lines are skipped and have no number.
        number, header = start.number, self._header and start.offset == 0
        for records in read_records(self.files[0], self._dialect, start):
            present = records.columns > 0
            if header and present.any():
                present[np.argmax(present)] = False
                header = False
            filled = records.cut(present)
            numbers = number + np.arange(len(filled.ends))
            number += len(numbers)
            after = records.after._replace(number=number)
            yield self._block(filled, numbers, columns)._replace(after=after)

    def _block(
        self, records: Records, numbers: Int64[np.ndarray, " records"], columns: Sequence[str]
    ) -> Block:
        whole = records.columns == (1 if self._dialect.json else len(self.names))
        rows, malformed = self._parse(records.cut(whole), columns)
        wrong = np.flatnonzero(~whole)
        separator = SEPARATORS.get(self._dialect.separator, "")
        expected = f"expected {len(self.names)} {separator}-separated columns, got"
        bad = [
            BadRow(int(records.lines[row]), f"{expected} {records.columns[row]}")
            for row in wrong[:BAD_ROWS_SHOWN]
        ]
        whole_lines, whole_numbers = records.lines[whole], numbers[whole]
        rule = self._malformed
        bad += [BadRow(int(whole_lines[row]), rule) for row in malformed[:BAD_ROWS_SHOWN]]
        return Block(
            rows=rows,
            numbers=np.delete(whole_numbers, malformed),
            lines=np.delete(whole_lines, malformed),
            place=f"{self.files[0]} line",
            position=records.position,
            bad_count=len(wrong) + len(malformed),
            bad=tuple(sorted(bad)[:BAD_ROWS_SHOWN]),
        )

    def _parse(self, records: Records, columns: Sequence[str]) -> tuple[pl.DataFrame, list[int]]:
        """Parse records and return the rows, and which records are malformed."""
        rows = self._try_parse(records, columns)
        if rows is not None:
            return rows, []
        _check_utf8(self.files[0], records)
        malformed: list[int] = []
        self._find_malformed(records, columns, 0, malformed)
        keep = np.ones(len(records.ends), bool)
        keep[malformed] = False
        rows = self._try_parse(records.cut(keep), columns)
        assert rows is not None, "records that parse one by one parse together"
        return rows, malformed

    def _find_malformed(
        self, records: Records, columns: Sequence[str], first: int, found: list[int]
    ) -> None:
        """Halve the records until those that polars refuses stand alone."""
        if self._try_parse(records, columns) is not None:
            return
        if len(records.ends) == 1:
            found.append(first)
            if len(found) > MOST_MALFORMED:
                raise DataError(
                    f"{self.files[0]} line {records.lines[0]}: {self._malformed} "
                    f"(more than {MOST_MALFORMED} such rows)"
                )
            return
        places = np.arange(len(records.ends))
        middle = len(places) // 2
        self._find_malformed(records.cut(places < middle), columns, first, found)
        self._find_malformed(records.cut(places >= middle), columns, first + middle, found)

    def _try_parse(self, records: Records, columns: Sequence[str]) -> pl.DataFrame | None:
        parse = _parse_json if self._dialect.json else _parse_delimited
        try:
            rows = parse(records.text, self._dialect, self.names, columns)
        except pl.exceptions.PolarsError:
            return None
        return rows if rows.height == len(records.ends) else None


def _parse_delimited(
    text: bytes, dialect: Dialect, names: Sequence[str], columns: Sequence[str]
) -> pl.DataFrame:
    # A header of our own keeps polars from taking a byte order mark off the first value.
    header = dialect.separator.join(str(place) for place in range(len(names))) + "\n"
    rows = pl.read_csv(
        header.encode() + text,
        separator=dialect.separator,
        quote_char='"' if dialect.quoted else None,
        infer_schema=False,
    )
    rows.columns = list(names)
    return rows.select(columns)


def _parse_json(
    text: bytes, dialect: Dialect, names: Sequence[str], columns: Sequence[str]
) -> pl.DataFrame:
    # An empty text is refused by polars.
    schema = dict.fromkeys(columns, pl.String)
    return pl.read_ndjson(text, schema=schema) if text else pl.DataFrame(schema=schema)


def read_keys(file: Path) -> tuple[str, ...]:
    """Read the names that the first lines of a file of JSON objects have, as they come.

    Raises:
        DataError: If there are none.
    """
    for records in read_records(file, JSON_LINES):
        lines = records.cut(records.columns > 0).text.splitlines()[:SAMPLE_LINES]
        names = dict.fromkeys(name for line in lines for name in _keys(line))
        if names:
            return tuple(names)
    raise DataError(f"{file} must hold JSON objects, one per line, got none")


def _keys(line: bytes) -> list[str]:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return []
    return list(content) if isinstance(content, dict) else []


def read_header(file: Path, separator: str | None) -> tuple[Dialect, tuple[str, ...]]:
    """Read the column names on the first line of a file, and tell its separator if not given.

    Raises:
        DataError: If there is no header.
    """
    if separator is None:
        unquoted = QUOTED.sub(b"", _first_record(file, Dialect(",", quoted=True)).text)
        separator = max(SEPARATORS, key=lambda mark: unquoted.count(mark.encode()))
    dialect = Dialect(separator, quoted=True)
    first = _first_record(file, dialect)
    _check_utf8(file, first)
    place = f"{file} line {first.lines[0]}"
    try:
        row = pl.read_csv(first.text, separator=separator, has_header=False, infer_schema=False)
    except pl.exceptions.PolarsError:
        raise DataError(f"{place}: {MALFORMED}") from None
    return dialect, tuple(name or "" for name in row.row(0))


def _first_record(file: Path, dialect: Dialect) -> Records:
    for records in read_records(file, dialect):
        filled = np.flatnonzero(records.columns > 0)
        if len(filled):
            return records.cut(np.arange(len(records.ends)) == filled[0])
    raise DataError(f"{file} must hold column names and rows, got an empty file")


def check_names(file: Path, names: tuple[str, ...]) -> None:
    """Refuse columns without a name and names that stand twice."""
    place = f"{file} header"
    if "" in names:
        raise DataError(
            f"{place}: every column must have a name, got none for column {names.index('') + 1}"
        )
    twice = [name for at, name in enumerate(names) if name in names[:at]]
    if twice:
        raise DataError(f"{place}: column names must differ, got {twice[0]!r} twice")


def _check_utf8(file: Path, records: Records) -> None:
    try:
        records.text.decode()
    except UnicodeDecodeError as error:
        row = int(np.searchsorted(records.ends, error.start, side="right"))
        raise DataError(
            f"{file} line {records.lines[row]}: text must be UTF-8, got byte "
            f"{records.text[error.start]:#04x}"
        ) from None
