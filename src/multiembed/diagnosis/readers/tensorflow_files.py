"""Reads TensorFlow's checkpoints where TensorFlow is installed, or says how to convert them."""

import importlib
import importlib.util
import re
from pathlib import Path
from typing import Any

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.nested import of_array
from multiembed.diagnosis.readers.pickles import first_line
from multiembed.diagnosis.readers.table import Contents, Skipped, StoredTensor

_INDEX_END = bytes.fromhex("57fb808b247547db")
"""How the index of a checkpoint ends, as all of LevelDB's tables do."""
_VARIABLE = "/.ATTRIBUTES/VARIABLE_VALUE"


def is_index_of_checkpoint(path: Path) -> bool:
    """Say whether a file is the index of a TensorFlow checkpoint."""
    if path.stat().st_size < 48:
        return False
    with path.open("rb") as file:
        file.seek(-8, 2)
        return file.read() == _INDEX_END


def checkpoint_of(path: Path) -> Path:
    """Return the index of the checkpoint that a path leads to; the path, if it is of no other.

    TensorFlow names a checkpoint by what its files begin with; a SavedModel has one inside.
    """
    if path.name == "saved_model.pb":
        path = path.parent
    stem = re.sub(r"\.(?:data-\d+-of-\d+|meta)$", "", path.name)
    inside = path / "variables" / "variables.index"
    index = inside if inside.is_file() and is_installed() else path.with_name(f"{stem}.index")
    return index if index.is_file() and is_index_of_checkpoint(index) else path


def is_installed() -> bool:
    """Say whether TensorFlow is there to read with."""
    return importlib.util.find_spec("tensorflow") is not None


def read_tensorflow(path: Path) -> Contents:
    """Name the variables of a checkpoint, given its index or its directory."""
    if path.is_dir() and not (path / "checkpoint").is_file():  # which says which is the latest
        path = max(path.glob("*.index"), key=lambda file: file.stat().st_mtime)
    if not is_installed():
        raise DataError(
            f"{path}: a TensorFlow checkpoint is read where tensorflow is installed; without it, "
            "write its tables by numpy.savez from tf.train.load_checkpoint(…).get_tensor(name)"
        )
    tf: Any = importlib.import_module("tensorflow")
    prefix = str(path if path.is_dir() else path.with_suffix(""))
    tensors: dict[str, StoredTensor] = {}
    skipped: list[Skipped] = []
    try:
        reader = tf.train.load_checkpoint(prefix)
        for name, shape in reader.get_variable_to_shape_map().items():
            stored = of_array(reader.get_tensor(name)) if shape else "no matrix"
            if isinstance(stored, str):
                skipped.append(Skipped(name, tuple(shape), stored))
            else:
                tensors[name.removesuffix(_VARIABLE)] = stored
    except Exception as error:  # TensorFlow fails in many ways on broken files
        raise DataError(f"{path}: must be a whole checkpoint, got {first_line(error)}") from error
    return Contents(tensors=tensors, skipped=tuple(skipped), ordered=False)
