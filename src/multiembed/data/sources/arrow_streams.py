"""Arrow streams, read batch by batch; and what a schema of Arrow says of its columns."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from typing_extensions import override

from multiembed.data.sources.source import START, Block, FileReader, Mark, reading


class StreamReader(FileReader):
    """One file that holds a stream of Arrow's record batches."""

    def __init__(self, file: Path) -> None:
        self.files = (file,)
        with reading([file]), pa.ipc.open_stream(pa.OSFile(str(file))) as batches:
            arrow = batches.schema
        self._schema = _frame(arrow.empty_table()).schema
        self.names = tuple(self._schema.names())
        self.asides = pandas_index(arrow)
        self.nested = nested_columns(self._schema)

    @property
    @override
    def types(self) -> dict[str, str]:
        return {name: str(dtype) for name, dtype in self._schema.items()}

    @override
    def blocks(self, columns: Sequence[str], start: Mark = START) -> Iterator[Block]:
        row, number, skipped = start.offset, start.number, start.offset
        with reading(self.files), pa.OSFile(str(self.files[0])) as file:
            for batch in pa.ipc.open_stream(file):
                rows = _frame(batch.select(columns))[skipped:]
                skipped -= batch.num_rows - rows.height
                if not rows.height:
                    continue
                numbers = number + np.arange(rows.height)
                lines = row + 1 + np.arange(rows.height)
                row, number = row + rows.height, number + rows.height
                after = start._replace(offset=row, number=number)
                yield Block(rows, numbers, lines, f"{self.files[0]} row", file.tell(), after)


def _frame(batch: pa.RecordBatch | pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(batch)
    assert isinstance(frame, pl.DataFrame)
    return frame


def pandas_index(schema: pa.Schema) -> dict[str, str]:
    """Return the columns that pandas wrote for the index of a frame, as it says in the schema."""
    with suppress(ValueError, KeyError, TypeError):
        kept = json.loads((schema.metadata or {})[b"pandas"])["index_columns"]
        names = [name for name in kept if isinstance(name, str)]  # a range is no column
        return dict.fromkeys(names, "is the index of a frame of pandas")
    return {}


def nested_columns(types: Mapping[str, object]) -> dict[str, str]:
    """Return the columns of a schema that hold neither plain values nor lists of these."""
    found: dict[str, str] = {}
    for name, kind in types.items():
        item = kind.inner if isinstance(kind, pl.List | pl.Array) else kind
        if kind == pl.Object or (isinstance(item, pl.DataType) and item.is_nested()):
            found[name] = str(kind)
    return found
