"""Reads TensorFlow's checkpoints where TensorFlow is installed, or says how to convert them."""

import importlib
import importlib.util
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


def read_tensorflow(path: Path) -> Contents:
    """Name the variables of a checkpoint, given its index or its directory."""
    if importlib.util.find_spec("tensorflow") is None:
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
