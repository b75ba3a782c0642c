"""Reads a run directory of this package, without building its model."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Int
from torch import Tensor

from multiembed.base.errors import DataError
from multiembed.config import read_config
from multiembed.data.store.dataset import open_dataset
from multiembed.data.store.schema import Schema
from multiembed.diagnosis.readers.array_files import read_safetensors
from multiembed.diagnosis.readers.cardinalities import rows_by_field
from multiembed.diagnosis.readers.layouts import field_aware
from multiembed.diagnosis.readers.table import Checkpoint, Skipped, StoredTensor, Table, Tensors
from multiembed.models.click_model import ClickModel, common_row
from multiembed.models.embedding import Row
from multiembed.runs.directory import RunDirectory
from multiembed.runs.metrics import read_reliability
from multiembed.runs.run import check_dataset

_EMBEDDING = "embedding.weight"
_FACTORED = "embedding.tables."
_CROSS = r"groups\.0\.interaction\.cross\.\d+\.weight"
_BLOCK_WEIGHT = r"groups\.0\.interaction\.cross\.\d+\.block_weight"


def is_run(path: Path) -> bool:
    """Say whether a directory is a training run rather than somebody else's checkpoint."""
    run = RunDirectory(path)
    return run.config.is_file() and run.schema.is_file()


def read_run(folder: Path) -> Checkpoint:
    """Return the tables of the best checkpoint, with the training counts of their rows.

    Raises:
        ConfigError: If its configuration is broken.
        DataError: If a file is missing, or the files do not fit each other.
    """
    run = RunDirectory(folder)
    model = read_config(run.config).model
    dim, sets = model.shape()
    schema = Schema.load(run.schema)
    row = common_row(model.built(), len(schema.fields))
    if not run.best.is_file():
        raise DataError(f"{run.best} must be present, got a run without a finished evaluation")
    tensors = read_safetensors(run.best)
    blocks = _blocks(tensors, schema, run)
    columns = next(iter(blocks.values())).shape[1]
    if columns != sets * row.width(dim):
        raise DataError(
            f"{run.best}: tables must have {sets * row.width(dim)} columns, as {run.config.name} "
            f"says, got {columns}"
        )
    counts = _row_counts(run, schema)
    return replace(
        own_checkpoint(tensors, blocks, row, dim=dim, sets=sets),
        layout=f"multiembed {model.architecture}",
        counts=counts,
        counts_from=f"{run.row_counts.name} of the run" if counts else None,
        reliability=read_reliability(run.reliability),
    )


def check_dataset_of(folder: Path) -> None:
    """Refuse a run beside whose dataset another one took its name; none there is no reason to.

    Raises:
        ConfigError: If the run's configuration is broken.
        DataError: If the dataset's vocabularies or rows are others than the run's schema says.
    """
    run = RunDirectory(folder)
    dataset = read_config(run.config).dataset
    if dataset is not None and (Path(dataset) / run.schema.name).is_file():
        check_dataset(open_dataset(dataset), Schema.load(run.schema), folder)


def of_model(model: ClickModel) -> Checkpoint:
    """Return the tables of a live model of this package, whose fields have numbers for names."""
    tensors = {name: StoredTensor.of(tensor) for name, tensor in model.state_dict().items()}
    blocks = {str(at): StoredTensor.of(rows) for at, rows in enumerate(model.embedding.by_field())}
    of = model.embedding
    return own_checkpoint(tensors, blocks, of.row, dim=of.dim, sets=of.sets)


def own_checkpoint(
    tensors: Tensors, blocks: dict[str, StoredTensor], row: Row, *, dim: int, sets: int
) -> Checkpoint:
    """Return the tables of a model of this package, and its cross layers.

    Args:
        tensors: Its weights by name.
        blocks: The rows of every field, `(rows, sets * width)`.
        row: What one id has in one set.
        dim: Columns of one set's embedding.
        sets: Number of embedding sets.
    """
    # Sets of different kinds have no one layer that all fields pass through.
    mixed = any(name.startswith("groups.1.") for name in tensors)
    cross = (
        [] if mixed else sorted((n for n in tensors if re.fullmatch(_CROSS, n)), key=_layer_number)
    )
    weights = [name for name in tensors if re.fullmatch(_BLOCK_WEIGHT, name)]
    factored = [name for name in tensors if name.startswith(_FACTORED)]
    used = {_EMBEDDING, *factored, *cross, *weights}
    return Checkpoint(
        layout="multiembed",
        tables=tuple(_tables(blocks, row, dim=dim, sets=sets)),
        field_aware=row.blocks > 1,
        skipped=tuple(
            Skipped(name, tensor.shape, "part of the model that is no table")
            for name, tensor in tensors.items()
            if name not in used
        ),
        cross_layers=tuple(
            _weighted(tensors[name], tensors.get(name.replace(".weight", ".block_weight")))
            for name in cross
        ),
    )


def _blocks(tensors: Tensors, schema: Schema, run: RunDirectory) -> dict[str, StoredTensor]:
    """Return the rows of every field, those of a compressed run as what they stand for."""
    names = schema.field_names
    if _EMBEDDING in tensors:
        return rows_by_field(
            tensors[_EMBEDDING], dict(zip(names, schema.cardinalities, strict=True))
        )
    if f"{_FACTORED}{len(names) - 1}.codes" not in tensors:
        raise DataError(f"{run.best} must hold '{_EMBEDDING}', got no such tensor")
    return {name: _expanded(tensors, f"{_FACTORED}{at}.") for at, name in enumerate(names)}


def _expanded(tensors: Tensors, prefix: str) -> StoredTensor:
    codes = tensors[f"{prefix}codes"]
    if f"{prefix}basis" not in tensors:
        return codes
    basis, mean = (tensors[f"{prefix}{name}"].whole() for name in ("basis", "mean"))

    def read(start: int, stop: int) -> Tensor:
        return codes.read(start, stop) @ basis + mean

    return StoredTensor((codes.shape[0], len(mean)), codes.dtype, read)


def _tables(blocks: dict[str, StoredTensor], row: Row, *, dim: int, sets: int) -> list[Table]:
    """Take each set's embeddings out of its rows, which may end in a first-order weight."""
    width = row.width(dim)
    if width == dim:
        return [Table(name, (block,), sets=sets) for name, block in blocks.items()]
    starts = [m * width + j * dim for m in range(sets) for j in range(row.blocks)]
    parts = {n: [b.columns(start, start + dim) for start in starts] for n, b in blocks.items()}
    if row.blocks == len(blocks):  # FFM: one embedding for each field that is met, and for itself
        return field_aware(parts)
    return [Table(name, tuple(columns), sets=len(columns)) for name, columns in parts.items()]


def _weighted(projection: StoredTensor, weights: StoredTensor | None) -> StoredTensor:
    """Multiply every block of a cross layer by its weight, where the model has such weights."""
    if weights is None:
        return projection

    def read(start: int, stop: int) -> Tensor:
        factors = weights.read(start, stop)
        dim = projection.shape[1] // factors.shape[1]
        return projection.read(start, stop) * factors.repeat_interleave(
            dim, dim=1
        ).repeat_interleave(dim, dim=2)

    return StoredTensor(projection.shape, projection.dtype, read)


def _layer_number(name: str) -> int:
    return int(name.split(".")[-2])


def _row_counts(run: RunDirectory, schema: Schema) -> dict[str, Int[np.ndarray, " rows"]]:
    if not run.row_counts.is_file():
        return {}
    counts = run.read_row_counts(schema.cardinalities)
    return dict(zip(schema.field_names, counts, strict=True))
