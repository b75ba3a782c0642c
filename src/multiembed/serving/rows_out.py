"""Rows written as they come, in the format that the file's name ends in; whole or not at all."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from typing_extensions import override

from multiembed.base.errors import ConfigError, DataError


class RowWriter(ABC):
    """Appends frames of the same columns to a file."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    @abstractmethod
    def write(self, rows: pl.DataFrame) -> None:
        """Append rows."""

    def close(self) -> None:  # noqa: B027
        """Write what belongs behind the last row, while the file is still open."""


class DelimitedText(RowWriter):
    """Text with a header; missing values are empty."""

    def __init__(self, file: IO[bytes], separator: str) -> None:
        super().__init__(file)
        self._separator = separator
        self._header = True

    @override
    def write(self, rows: pl.DataFrame) -> None:
        rows.write_csv(self.file, separator=self._separator, include_header=self._header)
        self._header = False


class JsonLines(RowWriter):
    """One object a line."""

    @override
    def write(self, rows: pl.DataFrame) -> None:
        rows.write_ndjson(self.file)


class Columns(RowWriter):
    """Parquet or an Arrow file, one row group or batch per frame."""

    def __init__(self, file: IO[bytes], *, parquet: bool) -> None:
        super().__init__(file)
        self._parquet = parquet
        self._writer: pq.ParquetWriter | pa.RecordBatchFileWriter | None = None

    @override
    def write(self, rows: pl.DataFrame) -> None:
        # An Arrow file has one dictionary per column, but every frame would bring its own.
        rows = rows.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))
        table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
        if self._writer is None:
            opened = pq.ParquetWriter if self._parquet else pa.ipc.new_file
            self._writer = opened(self.file, table.schema)
        self._writer.write_table(table)

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


WRITERS = {
    ".csv": lambda file: DelimitedText(file, ","),
    ".tsv": lambda file: DelimitedText(file, "\t"),
    ".parquet": lambda file: Columns(file, parquet=True),
    ".arrow": lambda file: Columns(file, parquet=False),
    ".jsonl": JsonLines,
}


def check_out(out: Path) -> None:
    """Refuse a file whose format its name does not say.

    Raises:
        ConfigError: If the name ends in none of the known ways.
    """
    if out.suffix not in WRITERS:
        raise ConfigError(f"{out} must end in one of {', '.join(WRITERS)}, got '{out.suffix}'")


@contextmanager
def writing(out: Path) -> Iterator[RowWriter]:
    """Lend a writer of a file that gets the name `out` when all went well, else is deleted.

    Raises:
        DataError: If the file cannot be written.
    """
    check_out(out)
    partial = out.with_name(out.name + ".partial")
    try:
        with partial.open("wb") as file:
            writer = WRITERS[out.suffix](file)
            try:
                yield writer
            finally:
                writer.close()
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, out)
    except OSError as error:
        raise DataError(f"{out} must be writable, got: {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)
