"""Encoded rows on disk: Arrow files that memory-map into a label vector and an id matrix."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from jaxtyping import Int32, Integer, UInt8

from multiembed.base.errors import DataError
from multiembed.base.files import write_whole


class Shard(NamedTuple):
    """Rows of one file, mapped into memory without a copy."""

    ids: Int32[np.ndarray, "rows fields"]
    labels: UInt8[np.ndarray, " rows"]

    def take(self, rows: Integer[np.ndarray, " taken"]) -> "Shard":
        """Copy rows of these numbers, which must be there."""
        # Clipping instead of checking makes the copy about three times as fast.
        ids = np.take(self.ids, rows, axis=0, mode="clip")
        return Shard(ids, np.take(self.labels, rows, mode="clip"))


def shard_name(number: int) -> str:
    """Return the file name of a split's shard; names sort in the order of the rows."""
    return f"{number:05d}.arrow"


def write_shard(
    path: Path, ids: Int32[np.ndarray, "rows fields"], labels: UInt8[np.ndarray, " rows"]
) -> None:
    """Write one shard as a single record batch, so that it maps back as a single matrix."""
    fields = ids.shape[1]
    item = pa.field("item", pa.int32(), nullable=False)
    schema = pa.schema(
        [
            pa.field("label", pa.uint8(), nullable=False),
            pa.field("ids", pa.list_(item, fields), nullable=False),
        ]
    )
    flat = pa.array(np.ascontiguousarray(ids).reshape(-1))
    lists = pa.FixedSizeListArray.from_arrays(flat, type=schema.field("ids").type)
    write_batch(path, pa.record_batch([pa.array(labels), lists], schema=schema))


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


def map_shard(path: Path, fields: int) -> Shard:
    """Map a shard into memory.

    Raises:
        DataError: If the file is not a whole shard of that many fields.
    """
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        batch = reader.get_batch(0)
        lists = batch.column("ids")
        labels = _view(batch.column("label"), np.dtype(np.uint8))
        ids = _view(lists.flatten(), np.dtype(np.int32))
        width = lists.type.list_size
    except (pa.ArrowException, OSError, KeyError, AttributeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} must be a shard of an encoded dataset, got {reason}") from None
    if width != fields:
        raise DataError(f"{path} must have {fields} ids per row, got {width}")
    return Shard(ids.reshape(-1, fields), labels)


def _view(array: pa.Array, dtype: np.dtype) -> Integer[np.ndarray, " numbers"]:
    """View an array's memory as NumPy's.

    Arrow's own `to_numpy` imports pandas where it is installed, which takes 0.1 s and 42 MiB.

    Raises:
        ValueError: If these are other numbers, or one is missing.
    """
    if str(array.type) != dtype.name or array.null_count:
        raise ValueError(f"{array.type} with {array.null_count} missing in place of {dtype.name}")
    return np.frombuffer(array.buffers()[1], dtype, len(array), array.offset * dtype.itemsize)
