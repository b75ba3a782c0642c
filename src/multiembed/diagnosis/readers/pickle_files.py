"""Reads pickles and files of joblib: objects of any library that hold arrays or tensors."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.array_files import map_array
from multiembed.diagnosis.readers.nested import MOST_LEVELS, contents_of, is_of_pandas
from multiembed.diagnosis.readers.pickles import load_pickle
from multiembed.diagnosis.readers.table import Contents, StoredTensor
from multiembed.diagnosis.readers.unpickler import Placeholder


def read_pickle(path: Path) -> Contents:
    """Name the arrays and tensors inside whatever object a pickle holds; nothing of it runs."""
    loaded = load_pickle(path)
    if is_of_pandas(loaded):
        raise DataError(
            f"{path} must hold arrays, got a frame of pandas: write it by frame.to_parquet(file)"
        )
    _take_arrays_beside(loaded, str(path), set())
    contents = contents_of(loaded, str(path))
    return replace(contents, tensors={n: _upright(n, t) for n, t in contents.tensors.items()})


def _upright(name: str, tensor: StoredTensor) -> StoredTensor:
    """Turn the factors of scikit-learn's decompositions, which have items for columns."""
    if not name.endswith("components_") or len(tensor.shape) != 2:
        return tensor
    return StoredTensor.of(tensor.whole().T)


def _take_arrays_beside(node: object, prefix: str, seen: set[int]) -> None:
    """Give an object of gensim the arrays that it keeps in files of their own.

    Its pickle names them: `__numpys` are in `FILE.NAME.npy`, and objects in `__recursive_saveloads`
    have theirs under `FILE.NAME`.
    """
    if not isinstance(node, Placeholder) or id(node) in seen or len(seen) > MOST_LEVELS:
        return
    seen.add(id(node))
    held = node.__dict__
    for name in _texts(held.get("__numpys")):
        file = Path(f"{prefix}.{name}.npy")
        if file.is_file():
            held[name] = map_array(file)
    for name in _texts(held.get("__recursive_saveloads")):
        _take_arrays_beside(held.get(name), f"{prefix}.{name}", seen)


def _texts(names: object) -> list[str]:
    if isinstance(names, Mapping) or not isinstance(names, list | tuple | Placeholder):
        return []
    listed = [one for _, one in names.items] if isinstance(names, Placeholder) else names
    return [name for name in listed if isinstance(name, str) and name.isidentifier()]
