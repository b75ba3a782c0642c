"""Tables with column names: how their files are opened, and which columns are numbers."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from typing_extensions import override

from multiembed.base.errors import ConfigError, DataError
from multiembed.data.sources.formats import Choice, RawFormat
from multiembed.data.sources.read_options import ReadOptions
from multiembed.data.sources.records import JSON_LINES
from multiembed.data.sources.source import (
    START,
    Block,
    Column,
    FileReader,
    Mark,
    RowReader,
    reading,
)
from multiembed.data.sources.text import TextReader, check_names, read_header, read_keys
from multiembed.data.store.schema import DateRule

PARQUET = (".parquet", ".pq")
ARROW = (".arrow", ".feather", ".ipc")
COMPRESSED = (".gz", ".zst", ".zstd")
JSON = (".jsonl", ".ndjson", ".json")
TABBED = (".tsv", ".tab")
ROWS_PER_BLOCK = 65_536
KIND_ROWS = 10_000
CODES = 20
"""Whole numbers with no more distinct values than this are codes, not amounts."""
IDENTIFIER = re.compile(r"(^|[_\W])(id|ids|code|zip)$|[a-z](ID|Id)$", re.ASCII)


class ColumnarReader(FileReader):
    """One Parquet or Arrow file."""

    def __init__(self, file: Path) -> None:
        self.files = (file,)
        with reading([file]):
            scan = pl.scan_parquet if file.suffix in PARQUET else pl.scan_ipc
            self._lazy = scan(file, glob=False) if file.suffix in PARQUET else scan(file)
            self._schema = self._lazy.collect_schema()
            self._height = int(self._lazy.select(pl.len()).collect().item())
        self.names = tuple(self._schema.names())
        for name in self.names:
            if self._schema[name].is_nested() or self._schema[name] == pl.Binary:
                kind = self._schema[name]
                raise DataError(f"{file}: column {name!r} must hold plain values, got {kind}")

    @property
    @override
    def types(self) -> dict[str, str]:
        return {name: str(dtype) for name, dtype in self._schema.items()}

    @override
    def blocks(self, columns: Sequence[str], start: Mark = START) -> Iterator[Block]:
        # Some row groups at a time.
        lazy = self._lazy.select(columns)
        lazy = lazy.slice(start.offset) if start.offset else lazy
        batches = lazy.collect_batches(chunk_size=ROWS_PER_BLOCK, maintain_order=True, lazy=True)
        number, size = start.number, self.size
        while True:
            with reading(self.files):
                rows = next(batches, None)
            if rows is None:
                return
            numbers = number + np.arange(rows.height)
            number += rows.height
            after = start._replace(offset=start.offset + number - start.number, number=number)
            lines = numbers - after.number + after.offset + 1
            position = size * after.offset // max(1, self._height)
            yield Block(rows, numbers, lines, f"{self.files[0]} row", position, after)


class TableFormat(RawFormat):
    """Any file with column names, of which the user says what they are."""

    table_options = True

    @override
    def open_file(self, file: Path, options: ReadOptions) -> FileReader:
        return _open_table(file)

    @override
    def choose(self, reader: RowReader, options: ReadOptions) -> Choice:
        file, label = reader.files[0], options.label
        if label is None:
            raise ConfigError(f"label must name a column of {file}, got none")
        if label not in reader.names:
            raise DataError(
                f"label must be a column of {file} ({', '.join(reader.names)}), got {label!r}"
            )
        if len(reader.names) < 2:
            raise DataError(f"{file} must have columns beside the label, got {label!r} alone")
        columns = tell_columns(_first_rows(reader), label, options)
        if not columns:
            raise DataError(f"{file} must have columns beside the label, got none to learn from")
        twice = [c.name for at, c in enumerate(columns) if c.name in [d.name for d in columns[:at]]]
        if twice:
            raise DataError(
                f"{file} header: fields must have names of their own, got {twice[0]!r} twice"
            )
        return Choice(label, columns)


TABLE = TableFormat()


def tell_columns(rows: pl.DataFrame, label: str | None, options: ReadOptions) -> tuple[Column, ...]:
    """Tell numbers from categories by the first rows of a table.

    A column is numeric if every value is a number, and it is no identifier by its name, no
    code (few distinct whole numbers, or digits with a leading zero) and no whole number too
    large to be an amount. What the user says of columns overrules that.

    Args:
        rows: The first rows, all columns.
        label: The column that is no field, if there is one.
        options: What the user says of columns.

    Raises:
        DataError: If a wish is for a column that is not there, or two are for one.
    """
    kinds = (
        options.categorical_columns,
        options.numeric_columns,
        options.dates,
        options.multivalued,
    )
    named = {name for kind in kinds for name in kind}
    dropped = set() if options.split_by is None else {options.split_by} - named
    unknown = sorted(named - set(rows.columns) - {label})
    twice = sorted(name for name in named if sum(name in kind for kind in kinds) > 1)
    if unknown or label in named:
        known = ", ".join(name for name in rows.columns if name != label)
        raise DataError(f"a column must be one of {known}, got {(unknown or [label])[0]!r}")
    if twice:
        raise DataError(f"a column must be of one kind, got {twice[0]!r} as two")
    sample = rows.head(KIND_ROWS)
    numeric = set(options.numeric_columns) | {
        name
        for name in rows.columns
        if name not in options.categorical_columns and _is_amount(sample, name)
    }
    columns: list[Column] = []
    for name in rows.columns:
        if name in options.dates:
            columns += _date_columns(name, options.dates[name])
        elif name in options.multivalued:
            columns.append(Column(name, "multivalued", delimiter=options.multivalued[name]))
        elif name != label and name not in dropped:
            columns.append(Column(name, "numeric" if name in numeric else "categorical"))
    return tuple(columns)


def _open_table(file: Path) -> FileReader:
    """Open a file with column names: text, JSON lines, Parquet or Arrow, told by its suffix."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    kind = next((suffix for suffix in reversed(suffixes) if suffix not in COMPRESSED), "")
    if kind in PARQUET + ARROW:
        return ColumnarReader(file)
    if kind in JSON:
        return TextReader(file, JSON_LINES, read_keys(file), header=False)
    dialect, names = read_header(file, "\t" if kind in TABBED else None)
    check_names(file, names)
    return TextReader(file, dialect, names, header=True)


def _first_rows(reader: RowReader) -> pl.DataFrame:
    for block in reader.blocks(reader.names):
        if block.rows.height:
            return block.rows
        if block.bad:
            raise DataError(f"{block.place} {block.bad[0].line}: {block.bad[0].reason}")
    raise DataError(f"{reader.files[0]} must hold rows, got none that can be read")


def _date_columns(name: str, format: str) -> list[Column]:
    """Return the hour and the weekday of a column of moments."""
    parts: tuple[Literal["hour", "weekday"], ...] = ("hour", "weekday")
    return [
        Column(f"{name}_{part}", "categorical", DateRule(column=name, part=part, format=format))
        for part in parts
    ]


def _is_amount(sample: pl.DataFrame, name: str) -> bool:
    column, dtype = sample[name], sample.schema[name]
    if not (dtype == pl.String or dtype.is_numeric()) or IDENTIFIER.search(name):
        return False
    if dtype == pl.String:
        column = column.filter(~column.fill_null("").is_in(["", "nan", "NaN"]))
        if column.str.contains(r"^[+-]?0[0-9]").any():
            return False
    values = column.cast(pl.Float64, strict=False).fill_nan(None).drop_nulls()
    if len(values) == 0 or (dtype == pl.String and len(values) < len(column)):
        return False
    if values.is_infinite().any() or bool((values != values.floor()).any()):
        return True
    return values.n_unique() > CODES and bool((values.abs() < 2.0**53).all())
