"""Rows written as they come, in the format that the file's name ends in; whole or not at all."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from typing_extensions import override

from multiembed.base.files import whole
from multiembed.serving.output_formats import OUTPUTS, check_out


class RowWriter(ABC):
    """Appends frames of the same columns to a file."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    @abstractmethod
    def write(self, rows: pl.DataFrame) -> None:
        """Append rows."""

    def close(self) -> None:  # noqa: B027
        """Write what belongs behind the last row, while the file is still open."""


class CommaText(RowWriter):
    """Text with a header; missing values are empty, and lists are written as `[3, 17]`."""

    separator = ","

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self._header = True

    @override
    def write(self, rows: pl.DataFrame) -> None:
        lists = [name for name, kind in rows.schema.items() if kind.is_nested()]
        texts = (pl.col(name).cast(pl.List(pl.String)).list.join(", ") for name in lists)
        rows = rows.with_columns(pl.format("[{}]", text) for text in texts)
        rows.write_csv(self.file, separator=self.separator, include_header=self._header)
        self._header = False


class TabText(CommaText):
    """The same with tabs."""

    separator = "\t"


class JsonLines(RowWriter):
    """One object a line."""

    @override
    def write(self, rows: pl.DataFrame) -> None:
        rows.write_ndjson(self.file)


class ParquetFile(RowWriter):
    """One row group per frame."""

    opened: Callable = pq.ParquetWriter

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self._writer: pq.ParquetWriter | pa.RecordBatchFileWriter | None = None

    @override
    def write(self, rows: pl.DataFrame) -> None:
        # An Arrow file has one dictionary per column, but every frame would bring its own.
        rows = rows.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))
        table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
        writer = self._writer or type(self).opened(self.file, table.schema)
        self._writer = writer
        writer.write_table(table)

    @override
    def close(self) -> None:
        writer, self._writer = self._writer, None
        try:
            if writer is not None:
                writer.close()
        finally:
            # One that could not be closed would try again, and complain, when it is deleted.
            if isinstance(writer, pq.ParquetWriter):
                writer.is_open = False


class ArrowFile(ParquetFile):
    """One batch per frame."""

    opened = pa.ipc.new_file


@contextmanager
def writing(out: Path) -> Iterator[RowWriter]:
    """Lend a writer of a file that gets the name `out` when all went well, else is deleted.

    Raises:
        WriteError: If the file cannot be written.
    """
    check_out(out)
    with whole(out) as partial, partial.open("wb") as file:
        writer = OUTPUTS[out.suffix](file)
        try:
            yield writer
        finally:
            writer.close()
