"""Encoded rows: columns in memory, and the Arrow files that memory-map into them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from jaxtyping import Float32, Int32, Integer, Shaped, UInt8

from multiembed.base.errors import DataError
from multiembed.base.files import write_whole

_Column = Shaped[np.ndarray, "rows ..."]


class Batch(NamedTuple):
    """Rows to train on or to score, or those of a file, mapped into memory without a copy."""

    ids: Int32[np.ndarray, "rows columns"]
    """One column per field, or as many as a multi-valued one has slots."""
    labels: UInt8[np.ndarray, " rows"]
    weights: Float32[np.ndarray, " rows"] | None = None
    """What every row counts, where rows count differently."""
    numbers: Float32[np.ndarray, "rows numbers"] | None = None
    """Values of the fields that are kept as numbers, in their order, if there are any."""

    def map(self, change: Callable[[_Column], _Column]) -> "Batch":
        """Return what a function makes of every column that is there."""
        return Batch._make(None if column is None else change(column) for column in self)

    def take(self, rows: Integer[np.ndarray, " taken"]) -> "Batch":
        """Copy rows of these numbers, which must be there."""
        # Clipping instead of checking makes the copy about three times as fast.
        return self.map(lambda column: np.take(column, rows, axis=0, mode="clip"))

    @staticmethod
    def joined(parts: Sequence["Batch"]) -> "Batch":
        """Copy the rows of several, one after the other."""
        columns = zip(*parts, strict=True)
        return Batch._make(None if of[0] is None else np.concatenate(of) for of in columns)


def shard_name(number: int) -> str:
    """Return the file name of a split's shard; names sort in the order of the rows."""
    return f"{number:05d}.arrow"


def write_shard(path: Path, rows: Batch) -> None:
    """Write one shard as a single record batch, so that it maps back as it is."""
    columns = {"label": pa.array(rows.labels), "ids": _lists(rows.ids)}
    if rows.weights is not None:
        columns["weight"] = pa.array(rows.weights)
    if rows.numbers is not None:
        columns["numbers"] = _lists(rows.numbers)
    fields = [pa.field(name, of.type, nullable=False) for name, of in columns.items()]
    write_batch(path, pa.record_batch(list(columns.values()), schema=pa.schema(fields)))


def _lists(matrix: Shaped[np.ndarray, "rows columns"]) -> pa.FixedSizeListArray:
    flat = pa.array(np.ascontiguousarray(matrix).reshape(-1))
    item = pa.field("item", flat.type, nullable=False)
    return pa.FixedSizeListArray.from_arrays(flat, type=pa.list_(item, matrix.shape[1]))


def write_batch(path: Path, batch: pa.RecordBatch) -> None:
    """Write an Arrow file of one record batch, whole or not at all."""

    def write(to: Path) -> None:
        with pa.OSFile(str(to), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)

    write_whole(path, write)


def write_frame(path: Path, frame: pl.DataFrame) -> None:
    """Write a Parquet file whose name stands for itself: polars knows patterns and a home `~`."""
    with path.open("wb") as file:
        frame.write_parquet(file, compression="zstd")


def read_frame(path: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """Read a Parquet file whose name stands for itself.

    Raises:
        OSError: Or one of polars' errors, if it cannot be read.
    """
    with path.open("rb") as file:
        return pl.read_parquet(file, columns=columns)


def map_shard(path: Path, *, columns: int, weighted: bool = False, numbers: int = 0) -> Batch:
    """Map a shard into memory.

    Args:
        path: Its file.
        columns: Ids of every row.
        weighted: Whether rows have weights.
        numbers: Numbers of every row.

    Raises:
        DataError: If the file is not a whole shard of such rows.
    """
    try:
        batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
        labels = _view(batch.column("label"), np.dtype(np.uint8))
        ids = _matrix(batch.column("ids"), np.dtype(np.int32))
        weights = _view(batch.column("weight"), np.dtype(np.float32)) if weighted else None
        kept = _matrix(batch.column("numbers"), np.dtype(np.float32)) if numbers else None
    except (pa.ArrowException, OSError, KeyError, AttributeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} must be a shard of an encoded dataset, got {reason}") from None
    if ids.shape[1] != columns:
        raise DataError(f"{path} must have {columns} ids per row, got {ids.shape[1]}")
    if kept is not None and kept.shape[1] != numbers:
        raise DataError(f"{path} must have {numbers} numbers per row, got {kept.shape[1]}")
    return Batch(ids, labels, weights, kept)


def _matrix(lists: pa.Array, dtype: np.dtype) -> Shaped[np.ndarray, "rows columns"]:
    return _view(lists.flatten(), dtype).reshape(-1, lists.type.list_size)


def _view(array: pa.Array, dtype: np.dtype) -> Shaped[np.ndarray, " numbers"]:
    """View an array's memory as NumPy's.

    Arrow's own `to_numpy` imports pandas where it is installed, which takes 0.1 s and 42 MiB.

    Raises:
        ValueError: If these are other numbers, or one is missing.
    """
    if array.type != pa.from_numpy_dtype(dtype) or array.null_count:
        raise ValueError(f"{array.type} with {array.null_count} missing in place of {dtype.name}")
    return np.frombuffer(array.buffers()[1], dtype, len(array), array.offset * dtype.itemsize)
