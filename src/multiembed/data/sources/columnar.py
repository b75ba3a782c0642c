"""Tables with column names: how their files are opened, and what the user says of them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from typing_extensions import override

from multiembed.base.errors import ConfigError, DataError
from multiembed.data.encoding.frames import polars_reads
from multiembed.data.sources.arrow_streams import (
    ROWS_PER_BLOCK,
    BatchReader,
    evenly,
    nested_columns,
    pandas_index,
)
from multiembed.data.sources.column_kinds import KIND_ROWS, tell_columns
from multiembed.data.sources.contents import look_into
from multiembed.data.sources.formats import Choice, RawFormat
from multiembed.data.sources.header import open_delimited
from multiembed.data.sources.json_text import open_json
from multiembed.data.sources.read_options import ReadOptions
from multiembed.data.sources.source import (
    MOST_COLUMNS,
    SAMPLE_PLACES,
    START,
    UNREADABLE,
    Block,
    FileReader,
    Mark,
    RowReader,
    reading,
)

JSON = (".jsonl", ".ndjson", ".json")


class ColumnarReader(FileReader):
    """One Parquet file."""

    def __init__(self, file: Path, arrow: pa.Schema | None) -> None:
        self.files = (file,)
        with reading([file]):
            whole = file.absolute()  # `~` is a home to polars and pyarrow, where it stands first
            self._lazy = pl.scan_parquet(whole, glob=False, hive_partitioning=False)
            self._schema = self._lazy.collect_schema()
            self._height = int(self._lazy.select(pl.len()).collect().item())
        self.names = tuple(self._schema.names())
        self.asides = {} if arrow is None else pandas_index(arrow)
        self.nested = nested_columns(self._schema)

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
                break
            numbers = number + np.arange(rows.height)
            number += rows.height
            after = start._replace(offset=start.offset + number - start.number, number=number)
            lines = numbers - after.number + after.offset + 1
            position = size * after.offset // max(1, self._height)
            yield Block(rows, numbers, lines, f"{self.files[0]} row", position, after)
        read = number - start.number + start.offset
        if read != self._height:  # polars ends batches without a word where a thread of its panics
            raise DataError(
                f"{self.files[0]} must be readable, got {read} of its {self._height} rows"
            )

    @override
    def sample(self, rows: int) -> pl.DataFrame:
        size = -(-rows // SAMPLE_PLACES)
        with reading(self.files):
            return pl.concat(
                self._lazy.slice(begin, min(size, end - begin)).collect()
                for begin, end in evenly(self._height, size)
            )


class TableFormat(RawFormat):
    """Any file with column names, of which the user says what they are."""

    numeric_rule = "quantiles"
    table_options = True

    @override
    def open_file(self, file: Path, options: ReadOptions) -> FileReader:
        return _open_table(file, options)

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
        if len(reader.names) > MOST_COLUMNS:
            raise DataError(
                f"{file} must have at most {MOST_COLUMNS:,} columns, got {len(reader.names):,}; "
                "--columns and --drop choose"
            )
        rows = reader.sample(KIND_ROWS).drop(reader.unlearned)
        if not rows.height:
            raise DataError(_first_bad(reader))
        columns = tell_columns(rows, label, options)
        if not columns:
            raise DataError(f"{file} must have columns beside the label, got none to learn from")
        twice = [name for name, count in Counter(c.name for c in columns).items() if count > 1]
        if twice:
            raise DataError(
                f"{file} header: fields must have names of their own, got {twice[0]!r} twice"
            )
        return Choice(label, columns)


TABLE = TableFormat()


def _first_bad(reader: RowReader) -> str:
    """Say why no row can be read: by the first bad one, if there is one."""
    for block in reader.blocks(reader.names):
        if block.bad:
            return f"{block.place} {block.bad[0].line}: {block.bad[0].reason}"
    return f"{reader.files[0]} must hold rows, got none that can be read"


def _open_table(file: Path, options: ReadOptions) -> FileReader:
    """Open a file with column names; its name only tells one kind of text from another."""
    contents = look_into(file)
    if contents.kind in ("stream", "arrow"):
        return BatchReader(file, contents.kind)
    if contents.kind == "parquet":
        arrow = None
        with suppress(*UNREADABLE):  # what is wrong with it, polars says
            arrow = pq.read_schema(file.absolute())
        read = arrow is None or all(map(polars_reads, arrow.types))
        return ColumnarReader(file, arrow) if read else BatchReader(file, "parquet")
    delimited = options.no_header or options.separator  # a first value may be an object
    named = any(suffix in JSON for suffix in Path(contents.name).suffixes)
    if named or (contents.kind == "json" and not delimited):
        return open_json(file, contents, options)
    return open_delimited(file, contents, options)
