"""Reads a run directory of this package: its files are the contract, no model is built."""

import json
import re
import tomllib
from pathlib import Path

import numpy as np
from jaxtyping import Int
from torch import Tensor

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.cardinalities import split_rows
from multiembed.diagnosis.readers.layouts import field_aware
from multiembed.diagnosis.readers.table import Checkpoint, Skipped, StoredTensor, Table
from multiembed.diagnosis.readers.tensor_files import read_safetensors
from multiembed.runs.reliability import read_reliability

_EMBEDDING = "embedding.weight"
_FACTORED = "embedding.tables."
_CROSS = r"groups\.0\.interaction\.cross\.\d+\.weight"
_BLOCK_WEIGHT = r"groups\.0\.interaction\.cross\.\d+\.block_weight"


def is_run(path: Path) -> bool:
    """Say whether a directory is a training run rather than somebody else's checkpoint."""
    return (path / "config.toml").is_file() and (path / "schema.json").is_file()


def read_run(folder: Path) -> Checkpoint:
    """Return the tables of the best checkpoint, with the training counts of their rows.

    Raises:
        DataError: If a file is missing, or the files do not fit each other.
    """
    architecture, dim, sets = _model(folder / "config.toml")
    sizes = _field_sizes(folder / "schema.json")
    tensors = read_safetensors(_present(folder / "best.safetensors"))
    blocks = _blocks(tensors, sizes, folder)
    # Sets of different kinds have no one layer that all fields pass through.
    mixed = any(name.startswith("groups.1.") for name in tensors)
    cross = (
        [] if mixed else sorted((n for n in tensors if re.fullmatch(_CROSS, n)), key=_layer_number)
    )
    weights = [name for name in tensors if re.fullmatch(_BLOCK_WEIGHT, name)]
    factored = [name for name in tensors if name.startswith(_FACTORED)]
    used = {_EMBEDDING, *factored, *cross, *weights}
    tables = _tables(blocks, dim=dim, sets=sets)
    return Checkpoint(
        layout=f"multiembed {architecture}",
        tables=tables,
        field_aware=tables[0].sets > sets,
        skipped=tuple(
            Skipped(name, tensor.shape, "part of the model that is no table")
            for name, tensor in tensors.items()
            if name not in used
        ),
        counts=_row_counts(folder / "row_counts.npy", sizes),
        cross_layers=tuple(
            _weighted(tensors[name], tensors.get(name.replace(".weight", ".block_weight")))
            for name in cross
        ),
        reliability=read_reliability(folder / "reliability.json"),
    )


def _blocks(
    tensors: dict[str, StoredTensor], sizes: dict[str, int], folder: Path
) -> dict[str, StoredTensor]:
    """Return the rows of every field, those of a compressed run as what they stand for."""
    if _EMBEDDING in tensors:
        return split_rows(tensors[_EMBEDDING], sizes)
    if f"{_FACTORED}{len(sizes) - 1}.codes" not in tensors:
        raise DataError(f"{folder}/best.safetensors must hold '{_EMBEDDING}', got no such tensor")
    return {name: _expanded(tensors, f"{_FACTORED}{at}.") for at, name in enumerate(sizes)}


def _expanded(tensors: dict[str, StoredTensor], prefix: str) -> StoredTensor:
    codes = tensors[f"{prefix}codes"]
    if f"{prefix}basis" not in tensors:
        return codes
    basis, mean = (tensors[f"{prefix}{name}"].whole() for name in ("basis", "mean"))

    def read(start: int, stop: int) -> Tensor:
        return codes.read(start, stop) @ basis + mean

    return StoredTensor((codes.shape[0], len(mean)), codes.dtype, read)


def _tables(blocks: dict[str, StoredTensor], *, dim: int, sets: int) -> tuple[Table, ...]:
    """Take each set's embeddings out of its rows, which may end in a first-order weight."""
    width = next(iter(blocks.values())).shape[1] // sets
    if width == dim:
        return tuple(Table(name, (block,), sets=sets) for name, block in blocks.items())
    starts = [m * width + j * dim for m in range(sets) for j in range(width // dim)]
    parts = {n: [b.columns(start, start + dim) for start in starts] for n, b in blocks.items()}
    if len(starts) > sets:  # FFM: one embedding for each field that is met
        return tuple(field_aware(parts))
    return tuple(Table(name, tuple(columns), sets=sets) for name, columns in parts.items())


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


def _row_counts(path: Path, sizes: dict[str, int]) -> dict[str, Int[np.ndarray, " rows"]]:
    if not path.is_file():
        return {}
    try:
        counts = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: must be a NumPy array, got {error}") from error
    if counts.shape != (sum(sizes.values()),):
        raise DataError(f"{path}: must count {sum(sizes.values())} rows, got {counts.shape}")
    return dict(zip(sizes, np.split(counts, np.cumsum([*sizes.values()])[:-1]), strict=True))


def _field_sizes(path: Path) -> dict[str, int]:
    try:
        fields = json.loads(path.read_text())["fields"]
        return {field["name"]: int(field["cardinality"]) for field in fields}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: must list fields with name and cardinality") from error


def _model(path: Path) -> tuple[str, int, int]:
    """Return the architecture, dim and sets of a resolved configuration."""
    try:
        model = tomllib.loads(path.read_text(encoding="utf-8"))["model"]
        return str(model["architecture"]), int(model["dim"]), int(model["sets"])
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: must name model.architecture, model.dim and model.sets"
        ) from error


def _present(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"{path} must be present, got a run without a finished evaluation")
    return path
