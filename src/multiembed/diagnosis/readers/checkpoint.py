"""From a path, or from what is in memory, to everything a diagnosis needs."""

from dataclasses import replace
from pathlib import Path

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.asked import Asked, choose
from multiembed.diagnosis.readers.cardinalities import Cardinalities
from multiembed.diagnosis.readers.feature_map import in_order
from multiembed.diagnosis.readers.in_memory import from_memory
from multiembed.diagnosis.readers.layouts import recognise
from multiembed.diagnosis.readers.own_bundles import read_bundle
from multiembed.diagnosis.readers.own_runs import is_run, read_run
from multiembed.diagnosis.readers.table import Checkpoint
from multiembed.diagnosis.readers.tensor_files import open_tensors


def read_source(source: object, asked: Asked) -> Checkpoint:
    """Return the tables of a run, of a checkpoint, of a file of vectors, or of what is in memory.

    Args:
        source: A path, or a module, array, tensor, list, frame, or a mapping of them.
        asked: What a user says of it.

    Raises:
        ConfigError: If it is a run whose configuration is broken.
        DataError: If there is nothing readable, or no embedding tables.
    """
    if not isinstance(source, str | Path):
        return from_memory(source, asked)
    path = Path(source)
    own = read_run(path) if is_run(path) else None
    if own is None and (path / "manifest.json").is_file():
        own = read_bundle(path)
    if own is not None:
        if asked.cardinalities is not None:
            raise DataError(
                f"cardinalities must be of a foreign checkpoint, got {path}: it has them"
            )
        return choose(own, asked)
    contents = open_tensors(path)
    feature_map = (path if path.is_dir() else path.parent) / "feature_map.json"
    checkpoint = recognise(contents, asked)
    if checkpoint.layout == "FuxiCTR" and feature_map.is_file():
        tensors = in_order(contents.tensors, feature_map)
        checkpoint = recognise(replace(contents, tensors=tensors, ordered=True), asked)
    return checkpoint


def read_checkpoint(path: Path, *, cardinalities: Cardinalities | None = None) -> Checkpoint:
    """Return the tables of a run directory, a checkpoint file, or a directory with one checkpoint.

    Args:
        path: Where it is.
        cardinalities: Field sizes, where one table holds the rows of every field.

    Raises:
        ConfigError: If it is a run whose configuration is broken.
        DataError: If the path holds no readable checkpoint, or no embedding tables.
    """
    return read_source(path, Asked(cardinalities))
