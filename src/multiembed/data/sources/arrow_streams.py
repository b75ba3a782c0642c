"""Files of Arrow, and Parquet with types that polars has not, batch by batch; what schemas say."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from typing_extensions import override

from multiembed.base.errors import DataError
from multiembed.base.memory import available_memory
from multiembed.data.encoding.frames import from_arrow
from multiembed.data.encoding.typed import LIBRARY_ERRORS, about_column
from multiembed.data.sources.arrow_sizes import unpacked_sizes
from multiembed.data.sources.source import (
    SAMPLE_PLACES,
    START,
    Block,
    FileReader,
    Mark,
    reading,
)

ROWS_PER_BLOCK = 65_536
PANDAS_INDEX = "is the index of a frame of pandas"


class BatchReader(FileReader):
    """One file of record batches.

    Args:
        file: Of Arrow or Parquet.
        kind: `stream`, `arrow` or `parquet`.

    Raises:
        DataError: If it cannot be read, or two columns have one name.
    """

    def __init__(self, file: Path, kind: str) -> None:
        self.files = (file,)
        self._kind = kind
        with reading([file]):
            if kind == "parquet":
                arrow = pq.read_schema(file.absolute())
            else:
                arrow = _schema_of(
                    file, pa.ipc.open_stream if kind == "stream" else pa.ipc.open_file
                )
            most = max(unpacked_sizes(file), default=0) if kind != "parquet" else 0
        if most > available_memory():
            raise DataError(f"{file} must hold batches that fit into memory, got {most:,} bytes")
        if len(set(arrow.names)) < len(arrow.names):
            raise DataError(f"{file}: column names must differ, got {', '.join(arrow.names)}")
        self.names = tuple(arrow.names)
        self.asides = pandas_index(arrow)
        self._types, odd = {}, {}
        for field in arrow:
            unknown = (field.metadata or {}).get(b"ARROW:extension:name", b"").decode()
            try:
                self._types[field.name] = from_arrow(pa.chunked_array([], field.type)).dtype
            except LIBRARY_ERRORS:
                unknown = str(field.type)
            if unknown:
                odd[field.name] = unknown
        self.nested = nested_columns(self._types) | odd

    @property
    @override
    def types(self) -> dict[str, str]:
        return {name: str(dtype) for name, dtype in self._types.items()}

    @override
    def blocks(self, columns: Sequence[str], start: Mark = START) -> Iterator[Block]:
        row = 0
        for batch, share in self._batches(columns):
            for begin in range(0, batch.num_rows, ROWS_PER_BLOCK):
                part = batch.slice(begin, ROWS_PER_BLOCK)
                skipped = min(part.num_rows, max(0, start.offset - row))
                places = np.arange(row + skipped, row + part.num_rows)
                row += part.num_rows
                if not len(places):
                    continue
                number = start.number - start.offset
                after = start._replace(offset=row, number=row + number)
                place, position = f"{self.files[0]} row", round(share * self.size)
                rows = _frame(part.slice(skipped))
                yield Block(rows, places + number, places + 1, place, position, after)

    @override
    def sample(self, rows: int) -> pl.DataFrame:
        if self._kind == "stream":
            return super().sample(rows)
        names = [name for name in self.names if name not in self.nested]
        size = -(-rows // SAMPLE_PLACES)
        found = [
            _frame(batch.slice(begin, min(size, end - begin)))
            for batch, _ in self._batches(names, most=SAMPLE_PLACES)
            for begin, end in evenly(batch.num_rows, size)
        ]
        every = pl.concat(found) if found else pl.DataFrame(schema=dict.fromkeys(names))
        return every.gather_every(max(1, every.height // rows))

    def _batches(
        self, columns: Sequence[str], *, most: int | None = None
    ) -> Iterator[tuple[pa.RecordBatch, float]]:
        """Yield batches, or those of so many places, and the share of the file that is read."""
        file, columns = str(self.files[0]), [name for name in columns if name not in self.nested]
        with reading(self.files):
            if self._kind == "stream":
                with pa.OSFile(file) as content:
                    for batch in pa.ipc.open_stream(content):
                        yield _checked(batch.select(columns)), content.tell() / self.size
                return
            pieces = self._pieces(columns)
            chosen = np.linspace(0, len(pieces) - 1, most or len(pieces)).astype(int)
            for place in np.unique(chosen).tolist() if pieces else ():
                for batch in pieces[place]():
                    yield _checked(batch.select(columns)), (place + 1) / len(pieces)

    def _pieces(self, columns: list[str]) -> list[Callable[[], Iterable[pa.RecordBatch]]]:
        file = str(self.files[0].absolute())
        if self._kind == "arrow":
            arrow = pa.ipc.open_file(pa.memory_map(file))
            return [
                lambda place=place: [arrow.get_batch(place)]
                for place in range(arrow.num_record_batches)
            ]
        parquet = pq.ParquetFile(file)
        return [
            partial(parquet.iter_batches, ROWS_PER_BLOCK, [place], columns)
            for place in range(parquet.num_row_groups)
        ]


def _schema_of(file: Path, opened: Callable) -> pa.Schema:
    try:
        return opened(pa.OSFile(str(file))).schema
    except TypeError:  # where pandas is loaded, its types do not expect to be those of categories
        raise DataError(
            f"{file}: columns must hold plain values, got categories of pandas' intervals or "
            "periods; .astype(str) makes text of them"
        ) from None


def evenly(rows: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield where a few parts of so many rows begin and may end, the last of them at the end."""
    begins = np.unique(np.linspace(0, max(0, rows - size), SAMPLE_PLACES).astype(int)).tolist()
    return zip(begins, [*begins[1:], rows], strict=True)


def _checked(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Check every offset and text of a batch: who reads them later trusts them, and crashes."""
    batch.validate(full=True)
    return batch


def _frame(batch: pa.RecordBatch) -> pl.DataFrame:
    columns: list[pl.Series] = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        with about_column(name):
            columns.append(from_arrow(pa.chunked_array([column])).alias(name))
    return pl.DataFrame(columns)


def pandas_index(schema: pa.Schema) -> dict[str, str]:
    """Return the columns that pandas wrote for the index of a frame, as it says in the schema."""
    with suppress(ValueError, KeyError, TypeError):
        kept = json.loads((schema.metadata or {})[b"pandas"])["index_columns"]
        names = [name for name in kept if isinstance(name, str)]  # a range is no column
        return dict.fromkeys(names, PANDAS_INDEX)
    return {}


def nested_columns(types: Mapping[str, object]) -> dict[str, str]:
    """Return the columns of a schema that hold neither plain values nor lists of these."""
    found: dict[str, str] = {}
    for name, kind in types.items():
        several = isinstance(kind, pl.List | pl.Array)
        item = kind.inner if several else kind
        odd = several and item in (pl.Binary, pl.Duration, pl.Object)
        if odd or kind == pl.Object or (isinstance(item, pl.DataType) and item.is_nested()):
            found[name] = str(kind)
    return found
