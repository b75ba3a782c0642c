"""Reads a run directory of this package, without building its model."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Int
from torch import Tensor

from multiembed.base.errors import DataError
from multiembed.base.number_kinds import NumericKind
from multiembed.config import read_config
from multiembed.data.store.dataset import open_dataset
from multiembed.data.store.schema import Schema
from multiembed.diagnosis.readers.array_files import read_safetensors
from multiembed.diagnosis.readers.cardinalities import rows_by_field
from multiembed.diagnosis.readers.layouts import field_aware
from multiembed.diagnosis.readers.table import Checkpoint, Skipped, StoredTensor, Table, Tensors
from multiembed.models.click_model import ClickModel, common_row
from multiembed.models.embedding import Row
from multiembed.models.value_vectors import ValueVectors, checked_places
from multiembed.runs.directory import RunDirectory
from multiembed.runs.metrics import read_reliability
from multiembed.runs.run import check_dataset

_EMBEDDING = "embedding.weight"
_NUMERIC = r"embedding\.numeric\.\w+\.rows"
_FACTORED = "embedding.tables."
_VECTORS = "embedding.pretrained."
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
    kinds = model.numeric_kinds(schema.kept_numbers) or (None,) * len(schema.tables)
    blocks = _blocks(tensors, schema, kinds, run)
    columns = next(iter(blocks.values())).shape[1]
    if columns != sets * row.width(dim):
        raise DataError(
            f"{run.best}: tables must have {sets * row.width(dim)} columns, as {run.config.name} "
            f"says, got {columns}"
        )
    for at, of in checked_places(model.pretrained or {}, len(schema.tables)).items():
        name, rows = schema.field_names[at], schema.cardinalities[at]
        vectors = ValueVectors(of, rows=rows, sets=sets, columns=row.blocks * dim)
        _load(vectors, tensors, f"{_VECTORS}{at}.", run)
        blocks[name] = _beside(blocks[name], vectors)
    counts = _row_counts(run, schema, kinds)
    return replace(
        own_checkpoint(tensors, blocks, row, dim=dim, sets=sets, histories=len(schema.shares)),
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
    histories = of.fields - len(blocks)
    return own_checkpoint(tensors, blocks, of.row, dim=of.dim, sets=of.sets, histories=histories)


def own_checkpoint(
    tensors: Tensors,
    blocks: dict[str, StoredTensor],
    row: Row,
    *,
    dim: int,
    sets: int,
    histories: int = 0,
) -> Checkpoint:
    """Return the tables of a model of this package, and its cross layers.

    Args:
        tensors: Its weights by name.
        blocks: The rows of every field, `(rows, sets * width)`.
        row: What one id has in one set.
        dim: Columns of one set's embedding.
        sets: Number of embedding sets.
        histories: Number of fields, behind the others, that have no table of their own: what is
            only theirs is left out.
    """
    # Sets of different kinds have no one layer that all fields pass through.
    mixed = any(name.startswith("groups.1.") for name in tensors)
    cross = (
        [] if mixed else sorted((n for n in tensors if re.fullmatch(_CROSS, n)), key=_layer_number)
    )
    weights = [name for name in tensors if re.fullmatch(_BLOCK_WEIGHT, name)]
    layers = [_weighted(tensors[name], tensors.get(_weights_of(name))) for name in cross]
    own = [name for name in tensors if name.startswith((_FACTORED, _VECTORS))]
    numeric = [name for name in tensors if re.fullmatch(_NUMERIC, name)]
    used = {_EMBEDDING, *numeric, *own, *cross, *weights}
    return Checkpoint(
        layout="multiembed",
        tables=tuple(_tables(blocks, row, dim=dim, sets=sets, histories=histories)),
        field_aware=row.blocks > 1,
        skipped=tuple(
            Skipped(name, tensor.shape, "part of the model that is no table")
            for name, tensor in tensors.items()
            if name not in used
        ),
        cross_layers=tuple(_among_tables(layer, dim * len(blocks)) for layer in layers),
    )


def _blocks(
    tensors: Tensors, schema: Schema, kinds: Sequence[NumericKind | None], run: RunDirectory
) -> dict[str, StoredTensor]:
    """Return the rows of every field, those of a compressed run as what they stand for."""
    cardinalities = dict(zip(schema.field_names, schema.cardinalities, strict=True))
    if _EMBEDDING in tensors:
        return own_blocks(tensors, cardinalities, kinds)
    kind_of = dict(zip(cardinalities, kinds, strict=True))
    with_table = [name for name, kind in kind_of.items() if kind is None]
    if f"{_FACTORED}{len(with_table) - 1}.codes" not in tensors:
        raise DataError(f"{run.best} must hold '{_EMBEDDING}', got no such tensor")
    numbers = {name: size for name, size in cardinalities.items() if kind_of[name]}
    found = own_blocks(tensors, numbers, [kind_of[name] for name in numbers])
    for at, name in enumerate(with_table):
        found[name] = _expanded(tensors, f"{_FACTORED}{at}.")
    return {name: found[name] for name in cardinalities}


def own_blocks(
    tensors: Tensors, cardinalities: Mapping[str, int], kinds: Sequence[NumericKind | None]
) -> dict[str, StoredTensor]:
    """Return the rows of every field of a model of this package, as its tensors hold them.

    Args:
        tensors: Its weights by name.
        cardinalities: Number of ids of every field.
        kinds: How every field's numbers are embedded; None where it has a table of ids.

    Raises:
        DataError: If a tensor is not there, or has not as many rows as that.
    """
    blocks: dict[str, StoredTensor] = {}
    for kind in dict.fromkeys(kinds):
        name = _EMBEDDING if kind is None else f"embedding.numeric.{kind}.rows"
        own = [field for field, of in zip(cardinalities, kinds, strict=True) if of == kind]
        if name not in tensors:
            raise DataError(f"a model must hold '{name}', got no such tensor")
        rows = len(own) and tensors[name].shape[0] // len(own)
        sizes = {field: cardinalities[field] if kind is None else rows for field in own}
        blocks |= rows_by_field(tensors[name], sizes)
    return {field: blocks[field] for field in cardinalities}


def _expanded(tensors: Tensors, prefix: str) -> StoredTensor:
    codes = tensors[f"{prefix}codes"]
    if f"{prefix}basis" not in tensors:
        return codes
    basis, mean = (tensors[f"{prefix}{name}"].whole() for name in ("basis", "mean"))

    def read(start: int, stop: int) -> Tensor:
        return codes.read(start, stop) @ basis + mean

    return StoredTensor((codes.shape[0], len(mean)), codes.dtype, read)


def _load(vectors: ValueVectors, tensors: Tensors, prefix: str, run: RunDirectory) -> None:
    """Give vectors what a run's weights hold of them."""
    try:
        vectors.load_state_dict({n: tensors[prefix + n].whole() for n in vectors.state_dict()})
    except (KeyError, RuntimeError):
        raise DataError(f"{run.best} must hold '{prefix}*' as {run.config.name} says") from None
    vectors.check(run.best)


def _beside(block: StoredTensor, vectors: ValueVectors) -> StoredTensor:
    """Return the rows of a field as its model looks them up."""

    def read(start: int, stop: int) -> Tensor:
        return vectors.beside(block.read(start, stop), start)

    return StoredTensor(block.shape, block.dtype, read)


def _tables(
    blocks: dict[str, StoredTensor], row: Row, *, dim: int, sets: int, histories: int
) -> list[Table]:
    """Take each set's embeddings out of its rows, which may end in a first-order weight."""
    width = row.width(dim)
    if width == dim:
        return [Table(name, (block,), sets=sets) for name, block in blocks.items()]
    read = row.blocks - histories if row.blocks > 1 else 1
    starts = [m * width + j * dim for m in range(sets) for j in range(read)]
    parts = {n: [b.columns(start, start + dim) for start in starts] for n, b in blocks.items()}
    if read == len(blocks):  # FFM: one embedding for each field that is met, and for itself
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


def _weights_of(layer: str) -> str:
    return layer.replace(".weight", ".block_weight")


def _among_tables(layer: StoredTensor, numbers: int) -> StoredTensor:
    """Leave histories out of a cross layer: they come last, and have no table of their own."""
    sets, outputs, _ = layer.shape
    if outputs == numbers:
        return layer

    def read(start: int, stop: int) -> Tensor:
        return layer.read(start, stop)[:, :numbers, :numbers]

    return StoredTensor((sets, numbers, numbers), layer.dtype, read)


def _layer_number(name: str) -> int:
    return int(name.split(".")[-2])


def _row_counts(
    run: RunDirectory, schema: Schema, kinds: Sequence[NumericKind | None]
) -> dict[str, Int[np.ndarray, " rows"]]:
    """Return how often training had each id, of fields that have a table of them."""
    if not run.row_counts.is_file():
        return {}
    counts = run.read_row_counts(schema.cardinalities)
    of_fields = zip(schema.field_names, counts, kinds, strict=True)
    return {name: of_field for name, of_field, kind in of_fields if kind is None}
