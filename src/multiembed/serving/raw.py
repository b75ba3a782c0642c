"""Raw rows to score: every column as it is, the label there or not."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl

from multiembed.base.errors import DataError
from multiembed.data.sources.columnar import ParquetSource
from multiembed.data.sources.file_series import FileSeries, find_files
from multiembed.data.sources.flights import FIELDS, LABEL, Flights
from multiembed.data.sources.formats import open_table
from multiembed.data.sources.records import Dialect, read_records
from multiembed.data.sources.source import Block, Source, ahead
from multiembed.data.sources.text import TextSource
from multiembed.data.store.schema import Schema


class RawRows(NamedTuple):
    """Rows that can be read, and the names of their columns."""

    source: Source
    names: tuple[str, ...]


def open_rows(raw: Path | str, schema: Schema, downloads: Path) -> RawRows:
    """Open raw rows of the kind that a run was trained on; their label may be absent.

    Args:
        raw: A file, a directory, a pattern, a URL or the word `flights`.
        schema: Of the run.
        downloads: Directory for what comes from a URL.

    Raises:
        DataError: If there is no such file, or it lacks a field.
    """
    if str(raw) == "flights":
        rows = RawRows(Flights(), (LABEL, *FIELDS))
    else:
        files, splits, names = find_files(str(raw), downloads)
        series = FileSeries([_open(file, schema) for file in files], splits, names)
        rows = RawRows(series, series.names)
    for field in schema.fields:
        if field.column not in rows.names:
            known = ", ".join(rows.names[:20])
            raise DataError(f"{raw} must have a column {field.column!r}, got {known}")
    return rows


def whole_batches(source: Source, size: int) -> Iterator[tuple[pl.DataFrame, int]]:
    """Yield rows in order, in multiples of `size` but for the last, and the bytes read so far.

    Raises:
        DataError: If a row has a wrong number of columns.
    """
    rest = pl.DataFrame()
    for block in ahead(source.blocks()):
        _refuse_bad(block)
        rows = pl.concat([rest, block.rows]) if rest.width else block.rows
        whole = rows.height - rows.height % size
        rest = rows.slice(whole)
        if whole:
            yield rows.head(whole), block.position
    if rest.height:
        yield rest, source.size


def _open(file: Path, schema: Schema) -> TextSource | ParquetSource:
    if schema.options.get("format") != "criteo":
        return open_table(file)
    dialect = Dialect("\t", quoted=False)
    return TextSource(file, dialect, _criteo_names(file, schema), header=False)


def _criteo_names(file: Path, schema: Schema) -> tuple[str, ...]:
    """Return the columns, which no header names: the fields, after the label if there is one."""
    first = next(read_records(file, Dialect("\t", quoted=False)), None)
    labelled = first is None or len(schema.fields) != first.columns[0]
    return (schema.label, *schema.field_names) if labelled else schema.field_names


def _refuse_bad(block: Block) -> None:
    if block.bad_count:
        more = f" ({block.bad_count} such rows near by)" if block.bad_count > 1 else ""
        raise DataError(f"{block.place} {block.bad[0].line}: {block.bad[0].reason}{more}")
