"""From a path or a mapping of tables to everything a diagnosis needs."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.layouts import Cardinalities, recognise
from multiembed.diagnosis.readers.own_runs import is_run, read_run
from multiembed.diagnosis.readers.table import Checkpoint, StoredTensor, Table
from multiembed.diagnosis.readers.tensor_files import open_tensors


def read_checkpoint(path: Path, *, cardinalities: Cardinalities | None = None) -> Checkpoint:
    """Return the tables of a run, of a library's checkpoint, or of an unknown model's.

    Raises:
        DataError: If the path holds no readable checkpoint, or no embedding tables.
    """
    if is_run(path):
        return read_run(path)
    tensors, outside = open_tensors(path)
    feature_map = (path if path.is_dir() else path.parent) / "feature_map.json"
    ordered = path.is_file() and path.suffix != ".safetensors"
    checkpoint = recognise(tensors, cardinalities=cardinalities, ordered=ordered)
    if checkpoint.layout == "FuxiCTR" and feature_map.is_file():
        checkpoint = recognise(_in_order(tensors, feature_map), ordered=True)
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


def _in_order(tensors: dict[str, StoredTensor], feature_map: Path) -> dict[str, StoredTensor]:
    """Put the tables of a FuxiCTR model in the order its feature map gives, which models follow."""
    try:
        listed = json.loads(feature_map.read_text())["features"]
        features = {name: spec for entry in listed for name, spec in entry.items()}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise DataError(f"{feature_map}: must list features by name") from error
    order = {name: place for place, name in enumerate(features)}

    def place(name: str) -> int:
        return order.get(name.removesuffix(".weight").rpartition(".")[2], len(order))

    ordered = dict(sorted(tensors.items(), key=lambda item: place(item[0])))
    for name, tensor in ordered.items():
        field = name.removesuffix(".weight").rpartition(".")[2]
        expected = features.get(field, {}).get("vocab_size")
        if "embedding_layers" in name and expected not in (None, tensor.shape[0]):
            raise DataError(
                f"{feature_map}: size of '{field}' must be its table's {tensor.shape[0]} rows, "
                f"got {expected}"
            )
    return ordered
