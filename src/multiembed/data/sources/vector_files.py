"""Vectors of values in files: Parquet, NumPy's arrays, word2vec's text; block by block."""

import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32, Int64, Shaped

from multiembed.base.errors import DataError
from multiembed.data.sources.contents import look_into, read_text
from multiembed.data.sources.source import UNREADABLE, reading

ROWS = 1 << 14
"""Rows held at once."""
BYTES = 1 << 24
"""Of text."""
_HEADER = re.compile(rb"\s*(\d{1,18})\s+(\d{1,18})\s*")
_NUMBER = re.compile(rb"[-+]?(\d+\.\d*|\.\d+)([eE][-+]?\d+)?")
_TEXT, _NUMPY, _ZIP = "text", b"\x93NUMPY", b"PK\x03\x04"


class VectorBlock(NamedTuple):
    """Some of a file's values, and what reads the vectors of those that are wanted."""

    values: pl.Series
    take: Callable[[Int64[np.ndarray, " taken"]], Float32[np.ndarray, "taken width"]]


def vector_blocks(file: Path, field: str, values: Path | None = None) -> Iterator[VectorBlock]:
    """Read values and their vectors; the file's first bytes say what it is.

    Args:
        file: Parquet, .npz, .npy or word2vec's text, which may be compressed.
        field: Name of the field, by which a column of values may be called.
        values: For .npy: a value a line, or another .npy.

    Raises:
        DataError: If the file cannot be read, or holds anything else.
    """
    with reading([file] if values is None else [file, values]):
        with file.open("rb") as opened:
            first = opened.read(6)
        if values is not None and first != _NUMPY:
            raise DataError(f"{file} must be .npy where values lie in {values}, got another file")
        if first.startswith(b"PAR1"):
            yield from _of_parquet(file, field)
        elif first == _NUMPY:
            yield from _of_npy(file, values)
        elif first.startswith(_ZIP):
            yield from _of_npz(file)
        else:
            yield from _of_text(file)


def _of_parquet(file: Path, field: str) -> Iterator[VectorBlock]:
    opened = pq.ParquetFile(file.absolute())
    value, columns = _columns(opened.schema_arrow, field, file)
    width = None
    for batch in opened.iter_batches(ROWS, columns=[value, *columns]):
        frame = pl.DataFrame(pl.from_arrow(batch))
        arrays = [name for name in columns if isinstance(frame[name].dtype, pl.Array)]
        frame = frame.with_columns(pl.col(name).arr.to_list() for name in arrays)
        if frame.height:
            width = _check_lists(frame, columns, file, width)
            yield VectorBlock(frame[value], partial(_of_frame, frame, columns))


def _is_list(kind: pa.DataType) -> bool:
    of = pa.types
    return of.is_list(kind) or of.is_large_list(kind) or of.is_fixed_size_list(kind)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _columns(schema: pa.Schema, field: str, file: Path) -> tuple[str, list[str]]:
    """Return the column of values, and those of vectors: all lists, or else all others."""
    lists = [of.name for of in schema if _is_list(of.type)]
    others = [name for name in schema.names if name not in lists]
    plain = [name for name in others if lists or not _is_number(schema.field(name).type)]
    named = [name for name in (field, "value") if name in others]
    value = next(iter(named or (plain if len(plain) == 1 else [])), None)
    if value is None:
        raise DataError(f"{file} must have a column {field!r} or 'value', got {_listed(schema)}")
    columns = lists or [name for name in others if name != value]
    kinds = {n: k.value_type if _is_list(k := schema.field(n).type) else k for n in columns}
    if not columns or not all(map(_is_number, kinds.values())):
        raise DataError(f"{file} must have vectors of numbers, got columns {_listed(schema)}")
    return value, columns


def _listed(schema: pa.Schema) -> str:
    return ", ".join(f"{of.name} ({of.type})" for of in list(schema)[:5])


def _check_lists(frame: pl.DataFrame, columns: list[str], file: Path, width: int | None) -> int:
    """Return how many numbers a vector has, after a look at every list."""
    total = 0
    for name in columns:
        one = not isinstance(frame[name].dtype, pl.List)
        found = [1] if one else frame[name].list.len().unique().sort().to_list()
        if len(found) > 1 or not found[0]:
            got = ", ".join("none" if n is None else str(n) for n in found[:3])
            raise DataError(f"{file}: vectors of '{name}' must have one length, got {got}")
        total += found[0]
    if width not in (None, total):
        raise DataError(f"{file}: vectors must have one length, got {width} and {total}")
    return total


def _of_frame(
    frame: pl.DataFrame, columns: list[str], rows: Int64[np.ndarray, " taken"]
) -> Float32[np.ndarray, "taken width"]:
    parts = []
    for column in frame[rows][columns]:
        flat = column.explode() if isinstance(column.dtype, pl.List) else column
        parts.append(flat.cast(pl.Float32).to_numpy().reshape(len(rows), -1))
    return np.hstack(parts)


def _of_npy(file: Path, values: Path | None) -> Iterator[VectorBlock]:
    if values is None:
        raise DataError(f"{file} must come with values: FIELD={file.name},values=FILE; got none")
    matrix = _mapped(file)
    _check_matrix(matrix.shape, matrix.dtype, file)
    with values.open("rb") as opened:
        as_array = opened.read(6) == _NUMPY
    if as_array:
        known = _series(np.array(_mapped(values)), values)
    else:
        lines = [line for block in _line_blocks(values) for line in block]
        known = pl.Series("value", [line.decode(errors="replace").strip() for line in lines])
    _check_count(len(known), len(matrix), file)
    for start in range(0, len(matrix), ROWS):
        yield VectorBlock(known[start : start + ROWS], partial(_of_matrix, matrix[start:][:ROWS]))


def _of_matrix(
    matrix: Shaped[np.ndarray, "rows width"], rows: Int64[np.ndarray, " taken"]
) -> Float32[np.ndarray, "taken width"]:
    with np.errstate(over="ignore"):  # infinity is refused where it matters
        return matrix[rows].astype(np.float32)


def _mapped(file: Path) -> np.ndarray:
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise _no_array(file, str(error)) from None


def _no_array(file: Path, reason: str) -> DataError:
    reason = "Python objects" if "bject arrays" in reason else reason.splitlines()[0]
    return DataError(f"{file} must hold plain arrays, got: {reason}")


def _check_matrix(shape: tuple[int, ...], dtype: np.dtype, file: Path) -> None:
    if len(shape) != 2 or 0 in shape or dtype.kind not in "fiu":
        raise DataError(
            f"{file}: vectors must be a matrix of numbers, a row each, got {dtype} {list(shape)}"
        )


def _check_count(values: int, vectors: int, file: Path) -> None:
    if values != vectors:
        raise DataError(f"{file} must hold as many values as vectors, got {values} and {vectors}")


def _series(values: np.ndarray, file: Path) -> pl.Series:
    if values.ndim != 1 or values.dtype.kind not in "USbiufM":
        raise DataError(f"{file}: values must be a list of plain ones, got {values.dtype}")
    if values.dtype.kind == "S":
        return pl.Series("value", [text.decode(errors="replace") for text in values.tolist()])
    return pl.Series("value", values.tolist() if values.dtype.kind == "U" else values)


class _Member:
    """An array in an .npz, read from its beginning on."""

    def __init__(self, archive: zipfile.ZipFile, name: str, file: Path, opened: ExitStack) -> None:
        self.file = file
        try:
            stream = opened.enter_context(archive.open(f"{name}.npy"))
            self._stream: BinaryIO = stream  # pyright: ignore
            major, _ = np.lib.format.read_magic(self._stream)
            one = major == 1
            of = np.lib.format
            read = of.read_array_header_1_0 if one else of.read_array_header_2_0
            shape, self._turned, self.dtype = read(self._stream)
        except KeyError:
            names = ", ".join(of.removesuffix(".npy") for of in archive.namelist()[:5])
            raise DataError(
                f"{file} must hold the arrays values and vectors, got {names}"
            ) from None
        except ValueError as error:
            raise _no_array(file, str(error)) from None
        if self.dtype.hasobject:
            raise _no_array(file, "Python objects")
        self.shape: tuple[int, ...] = shape
        self._whole: np.ndarray | None = None

    def __len__(self) -> int:
        """Return the number of its rows."""
        return next(iter(self.shape), 0)

    def read(self, start: int, rows: int) -> np.ndarray:
        """Return the next rows; an array in Fortran's order is read whole for them."""
        if self._turned and len(self.shape) > 1:
            if self._whole is None:
                self._whole = self._numbers(self.shape[::-1]).T
            return self._whole[start : start + rows]
        return self._numbers((min(rows, len(self) - start), *self.shape[1:]))

    def _numbers(self, shape: tuple[int, ...]) -> np.ndarray:
        size = int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize
        data = self._stream.read(size)
        if len(data) < size:
            raise DataError(f"{self.file} must be whole, got a part of it")
        return np.frombuffer(data, self.dtype, count=-1 if size else 0).reshape(shape)


def _of_npz(file: Path) -> Iterator[VectorBlock]:
    with ExitStack() as opened:
        archive = opened.enter_context(zipfile.ZipFile(file))
        values, vectors = (_Member(archive, n, file, opened) for n in ("values", "vectors"))
        _check_matrix(vectors.shape, vectors.dtype, file)
        _check_count(len(values), vectors.shape[0], file)
        for start in range(0, vectors.shape[0], ROWS):
            known = _series(values.read(start, ROWS), file)
            yield VectorBlock(known, partial(_of_matrix, vectors.read(start, ROWS)))


def _line_blocks(file: Path) -> Iterator[list[bytes]]:
    """Yield the lines of a text some at a time."""
    contents, rest = look_into(file), b""
    if contents.kind != _TEXT:
        raise DataError(
            f"{file} must be Parquet, .npz, .npy or word2vec's text, got {contents.kind}"
        )
    for piece, _ in read_text(file, contents.encoding, step=BYTES):
        *lines, rest = (rest + piece).split(b"\n")
        yield lines
    if rest:
        yield [rest]


def _of_text(file: Path) -> Iterator[VectorBlock]:
    """Read a value and its numbers a line, behind a line of their counts or not."""
    width, promised, number, found = 0, None, 1, 0
    for lines in _line_blocks(file):
        if number == 1 and lines:
            header = _HEADER.fullmatch(lines[0])
            if header:
                promised, width = int(header[1]), int(header[2])
                lines[0] = b""
            else:
                width = len(lines[0].split()) - 1
            if width < 1:
                raise DataError(f"{file}: line 1 must be a value and numbers, got none")
        split = [_words(line, width, file, at) for at, line in enumerate(lines, start=number)]
        places = np.flatnonzero([word is not None for word in split])
        if len(places):
            values = pl.Series("value", [word for word in split if word is not None])
            take = partial(_numbers_of, lines, places, width, file, number)
            yield VectorBlock(values, take)
        number, found = number + len(lines), found + len(places)
    if promised is not None and found != promised:
        raise DataError(f"{file} must hold {promised} vectors, as line 1 says, got {found}")


def _words(line: bytes, width: int, file: Path, at: int) -> str | None:
    """Return the value of a line: what stands before its numbers, blanks included."""
    parts = line.rsplit(None, width)
    if not parts:
        return None
    *_, last = parts[0].split()
    if len(parts) <= width or (last != parts[0].strip() and _NUMBER.fullmatch(last)):
        raise DataError(
            f"{file}: line {at} must be a value and {width} numbers, got {len(line.split()) - 1}"
        )
    return parts[0].decode(errors="replace").strip()


def _numbers_of(
    lines: list[bytes],
    places: Int64[np.ndarray, " values"],
    width: int,
    file: Path,
    first: int,
    rows: Int64[np.ndarray, " taken"],
) -> Float32[np.ndarray, "taken width"]:
    texts = [b" ".join(lines[at].rsplit(None, width)[1:]) for at in places[rows]]
    schema = {str(column): pl.Float32 for column in range(width)}
    try:
        frame = pl.read_csv(
            b"\n".join(texts), separator=" ", has_header=False, schema=schema, quote_char=None
        )
        if frame.height == len(rows) and not any(column.null_count() for column in frame):
            return frame.to_numpy()
    except UNREADABLE:
        pass
    found = np.empty((len(rows), width), np.float32)
    for row, text in enumerate(texts):
        try:
            found[row] = [float(number) for number in text.split()]
        except ValueError:
            at = first + int(places[rows][row])
            raise DataError(f"{file}: line {at} must be a value and {width} numbers") from None
    return found
