"""From a path or a mapping of tables to everything a diagnosis needs."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.layouts import Cardinalities, in_order, recognise
from multiembed.diagnosis.readers.own_runs import is_run, read_run
from multiembed.diagnosis.readers.table import Checkpoint, StoredTensor, Table
from multiembed.diagnosis.readers.tensor_files import kind_of, open_tensors


def read_checkpoint(path: Path, *, cardinalities: Cardinalities | None = None) -> Checkpoint:
    """Return the tables of a run, of a library's checkpoint, or of an unknown model's.

    Args:
        path: A run directory, a checkpoint file, or a directory with one checkpoint.
        cardinalities: Field sizes, where one table holds the rows of every field.

    Raises:
        ConfigError: If it is a run whose configuration is broken.
        DataError: If the path holds no readable checkpoint, or no embedding tables.
    """
    if is_run(path):
        return read_run(path)
    tensors, outside = open_tensors(path)
    feature_map = (path if path.is_dir() else path.parent) / "feature_map.json"
    ordered = path.is_file() and kind_of(path).ordered
    checkpoint = recognise(tensors, cardinalities=cardinalities, ordered=ordered)
    if checkpoint.layout == "FuxiCTR" and feature_map.is_file():
        checkpoint = recognise(in_order(tensors, feature_map), ordered=True)
    return replace(checkpoint, skipped=(*checkpoint.skipped, *outside))


def from_mapping(tables: Mapping[str, np.ndarray | Tensor]) -> Checkpoint:
    """Take every matrix of a mapping for a table, whatever its name.

    Raises:
        DataError: If the mapping is empty, or one of its values is no real matrix.
    """
    if not tables:
        raise DataError("tables must name at least one table, got none")
    return Checkpoint(
        layout="tables",
        tables=tuple(Table(name, (_stored(name, matrix),)) for name, matrix in tables.items()),
    )


def _stored(name: str, matrix: np.ndarray | Tensor) -> StoredTensor:
    shape = tuple(matrix.shape)
    if len(shape) != 2 or 0 in shape:
        raise DataError(f"table '{name}' must have rows and columns, got shape {shape}")
    if isinstance(matrix, Tensor):
        return StoredTensor.of(matrix.detach())
    if matrix.dtype.kind not in "fiu":
        raise DataError(f"table '{name}' must hold real numbers, got {matrix.dtype}")

    def read(start: int, stop: int) -> Tensor:
        # A copy, because torch refuses byte orders and strides that NumPy can map.
        return torch.from_numpy(np.array(matrix[start:stop], dtype=np.float64))

    return StoredTensor(shape, torch.float64, read)
