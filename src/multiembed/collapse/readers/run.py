"""Reads a run directory of this package: its files are the contract, no model is built."""

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from multiembed.collapse.readers.cardinalities import split_rows
from multiembed.collapse.readers.files import read_safetensors
from multiembed.collapse.readers.table import Checkpoint, Skipped, Table
from multiembed.errors import DataError

_EMBEDDING = "embedding.weight"
_CROSS = "groups.0.interaction.cross."


def is_run(path: Path) -> bool:
    """Say whether a directory is a training run rather than somebody else's checkpoint."""
    return (path / "config.toml").is_file() and (path / "schema.json").is_file()


def read_run(folder: Path) -> Checkpoint:
    """Return the tables of the best checkpoint, with the training counts of their rows.

    Raises:
        DataError: If a file is missing, or the files do not fit each other.
    """
    model = _read_toml(folder / "config.toml").get("model", {})
    sizes = _field_sizes(folder / "schema.json")
    tensors = read_safetensors(_present(folder / "best.safetensors"))
    if _EMBEDDING not in tensors:
        raise DataError(f"{folder}/best.safetensors must hold '{_EMBEDDING}', got no such tensor")
    blocks = split_rows(tensors[_EMBEDDING], sizes)
    sets = int(model.get("sets", 1))
    layers = sorted(
        (int(name.removeprefix(_CROSS).removesuffix(".weight")), name)
        for name in tensors
        if name.startswith(_CROSS) and name.endswith(".weight")
    )
    used = {_EMBEDDING, *(name for _, name in layers)}
    return Checkpoint(
        layout=f"multiembed {model.get('architecture', 'run')}",
        tables=tuple(Table(name, (block,), sets=sets) for name, block in blocks.items()),
        skipped=tuple(
            Skipped(name, tensor.shape, "part of the model that is no table")
            for name, tensor in tensors.items()
            if name not in used
        ),
        counts=_row_counts(folder / "row_counts.npy", sizes),
        cross_layers=tuple(tensors[name] for _, name in layers),
    )


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


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: must be TOML, got {error}") from error


def _present(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"{path} must be present, got a run without a finished evaluation")
    return path
