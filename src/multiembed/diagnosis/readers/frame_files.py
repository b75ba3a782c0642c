"""Reads files of rows: CSV and its kin, JSON, Parquet, Arrow."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from multiembed.base.errors import DataError
from multiembed.data.sources.arrow_sizes import unpacked_sizes
from multiembed.data.sources.source import MOST_COLUMNS
from multiembed.diagnosis.readers.nested import contents_of
from multiembed.diagnosis.readers.pickles import first_line
from multiembed.diagnosis.readers.table import Contents
from multiembed.diagnosis.readers.vector_columns import contents_of_frame
from multiembed.diagnosis.readers.zip_files import check_unpacked

_SEPARATORS = ",\t;|"


def read_parquet(path: Path) -> Contents:
    """Read the vectors of a Parquet file."""
    try:
        said = pq.read_metadata(path)
        _check_columns(path, said.num_columns)
        groups = [said.row_group(at) for at in range(said.num_row_groups)]
        values = (of.column(at).num_values for of in groups for at in range(of.num_columns))
        check_unpacked(str(path), 8 * sum(values), path.stat().st_size)
    except (pa.ArrowException, OSError) as error:
        said = first_line(error)
        raise DataError(f"{path}: must be a whole Parquet file, got {said}") from error
    return _framed(path, "a whole Parquet file", lambda file: _checked(pq.read_table(file)))


def read_arrow(path: Path) -> Contents:
    """Read the vectors of an Arrow file (Feather, too) or stream."""
    check_unpacked(str(path), sum(unpacked_sizes(path)), path.stat().st_size)
    with path.open("rb") as file:
        stream = file.read(6) != b"ARROW1"
    opened = pa.ipc.open_stream if stream else pa.ipc.open_file
    what = "a whole Arrow stream" if stream else "a whole Arrow file"
    return _framed(path, what, lambda file: _checked(_narrow(path, opened(file)).read_all()))


def _narrow(
    path: Path, opened: pa.RecordBatchFileReader | pa.RecordBatchStreamReader
) -> pa.RecordBatchFileReader | pa.RecordBatchStreamReader:
    _check_columns(path, len(opened.schema))
    return opened


def _check_columns(path: Path, found: int) -> None:
    if found > MOST_COLUMNS:
        raise DataError(f"{path} must have at most {MOST_COLUMNS:,} columns, got {found:,}")


def _checked(table: pa.Table) -> pl.DataFrame:
    """Check every offset: polars trusts them, and prints what goes wrong."""
    table.validate(full=True)
    return pl.DataFrame(table)


def _framed(path: Path, what: str, read: Callable[[BinaryIO], pl.DataFrame]) -> Contents:
    try:
        with path.open("rb") as file:  # polars takes names for patterns
            frame = read(file)
    except DataError:
        raise
    except (Exception, pl.exceptions.PanicException) as error:  # of files that are broken
        raise DataError(f"{path}: must be {what}, got {first_line(error)}") from error
    if frame.height == 0:
        raise DataError(f"{path} must hold rows, got none")
    try:
        return contents_of_frame(frame, path.stem)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def separator_of(line: str) -> str | None:
    """Return what stands between the cells of a line; `None` if nothing of the usual does."""
    found = max(_SEPARATORS, key=line.count)
    return found if found in line else None


def check_cells(path: Path, separator: str) -> None:
    """Refuse text of few long lines and many short ones: each would get all columns.

    Raises:
        DataError: If it is.
    """
    most, lines, mark = 0, 0, separator.encode()
    with path.open("rb") as file:
        for line in file:
            most, lines = max(most, line.count(mark)), lines + 1
    _check_columns(path, most + 1)
    check_unpacked(str(path), 8 * most * lines, path.stat().st_size)


def read_csv(path: Path) -> Contents:
    """Read the vectors of a file of delimited text, with or without a heading."""
    first = _first_line_of(path)
    separator = separator_of(first) or ","
    check_cells(path, separator)
    headed = _is_heading([cell.strip().strip('"') for cell in first.strip("\r\n").split(separator)])
    return _framed(
        path,
        "a whole file of delimited text",
        lambda file: pl.read_csv(
            file, separator=separator, has_header=headed, infer_schema_length=None
        ).pipe(_without_ids, headed=headed),
    )


def _is_heading(cells: list[str]) -> bool:
    """Say whether the first line names columns, also by numbers as pandas does (`,0,1,2`).

    A first cell that is a name beside other numbers is what the vector is of.
    """
    rest = cells if _is_number(cells[0]) else cells[1:]
    counted = [str(number) for number in range(len(rest) + 1)]
    if len(rest) > 1 and rest in (counted[:-1], counted[1:]):
        return True
    return not (rest and all(map(_is_number, rest)))


def _without_ids(frame: pl.DataFrame, *, headed: bool) -> pl.DataFrame:
    """Leave out a first column of numbers that nobody named and that are all different wholes."""
    first = frame.to_series(0)
    counting = first.dtype.is_integer() and first.n_unique() == frame.height > 1
    others = frame.width > 2 and any(dtype.is_float() for dtype in frame.dtypes[1:])
    return frame.rename({frame.columns[0]: "id"}) if counting and others and not headed else frame


def read_json(path: Path) -> Contents:
    """Read vectors of JSON: rows, one value of them all, or one value a line."""
    try:
        text = path.read_text(encoding="utf-8")
        try:
            loaded = json.loads(text)
        except ValueError:
            loaded = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: must be JSON, got {first_line(error)}") from error
    if isinstance(loaded, list) and loaded and isinstance(loaded[0], dict):
        keys = {key for row in loaded if isinstance(row, dict) for key in row}
        _check_columns(path, len(keys))
        check_unpacked(str(path), 8 * len(keys) * len(loaded), len(text))
        return _framed(
            path, "rows of one form", lambda _: pl.DataFrame(loaded, infer_schema_length=None)
        )
    contents = contents_of({path.stem: loaded} if isinstance(loaded, list) else loaded, str(path))
    tensors = {path.stem if n == "vectors" else n: of for n, of in contents.tensors.items()}
    return Contents(tensors=tensors, tables=frozenset(tensors), skipped=contents.skipped)


def _first_line_of(path: Path) -> str:
    with path.open("rb") as file:
        return file.readline(2**20).decode("utf-8-sig", errors="replace")


def _is_number(cell: str) -> bool:
    try:
        float(cell.strip().strip('"'))
    except ValueError:
        return False
    return True
