"""Tables with column names: Parquet as a source, and which columns are numbers."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from multiembed.base.errors import DataError
from multiembed.data.options import PrepareOptions
from multiembed.data.sources.source import START, Block, Column, Mark, Source, reading
from multiembed.data.store.schema import DateRule

PARQUET = (".parquet", ".pq")
ARROW = (".arrow", ".feather", ".ipc")
BLOCK_ROWS = 65_536
SAMPLE_ROWS = 10_000
CODES = 20
"""Whole numbers with no more distinct values than this are codes, not amounts."""
IDENTIFIER = re.compile(r"(^|[_\W])(id|ids|code|zip)$|[a-z](ID|Id)$", re.ASCII)


class ParquetSource(Source):
    """One Parquet or Arrow file."""

    def __init__(self, file: Path) -> None:
        self.files = (file,)
        self.label = ""
        self.columns: tuple[Column, ...] = ()
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
    def types(self) -> dict[str, str]:
        """The name of every column's type."""
        return {name: str(dtype) for name, dtype in self._schema.items()}

    def choose(self, label: str, columns: Sequence[Column], extra: str | None = None) -> None:
        """Say which of the file's columns is the label and which are fields."""
        self.label, self.columns, self.extra = label, tuple(columns), extra

    def blocks(self, start: Mark = START) -> Iterator[Block]:
        """Read the file, some row groups at a time."""
        lazy = self._lazy.select(self.wanted) if self.label else self._lazy
        lazy = lazy.slice(start.offset) if start.offset else lazy
        batches = lazy.collect_batches(chunk_size=BLOCK_ROWS, maintain_order=True, lazy=True)
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


def tell_columns(rows: pl.DataFrame, label: str, options: PrepareOptions) -> tuple[Column, ...]:
    """Tell numbers from categories by the first rows of a table.

    A column is numeric if every value is a number, and it is no identifier by its name, no
    code (few distinct whole numbers, or digits with a leading zero) and no whole number too
    large to be an amount. The options' column names overrule that.
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
    sample = rows.head(SAMPLE_ROWS)
    numeric = set(options.numeric_columns) | {
        name
        for name in rows.columns
        if name not in options.categorical_columns and _is_amount(sample, name)
    }
    columns: list[Column] = []
    for name in rows.columns:
        if name in options.dates:
            columns += date_columns(name, options.dates[name])
        elif name in options.multivalued:
            columns.append(Column(name, "multivalued", delimiter=options.multivalued[name]))
        elif name != label and name not in dropped:
            columns.append(Column(name, "numeric" if name in numeric else "categorical"))
    return tuple(columns)


def date_columns(name: str, format: str) -> list[Column]:
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
