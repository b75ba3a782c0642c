"""Reads the weights of Keras models (.h5, .keras) and other arrays in HDF5, by h5py."""

import importlib
import importlib.util
import io
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.nested import of_array
from multiembed.diagnosis.readers.pickles import first_line
from multiembed.diagnosis.readers.table import Contents, Skipped, StoredTensor
from multiembed.diagnosis.readers.zip_files import check_unpacked, open_zip

WEIGHTS = "model.weights.h5"
"""Where a `.keras` file, which is a zip, keeps its weights."""


def read_hdf5(path: Path) -> Contents:
    """Name the arrays of an HDF5 file."""
    return _read(path, path)


def read_keras(path: Path) -> Contents:
    """Name the weights of a `.keras` file."""
    with open_zip(path, str(path)) as archive:
        contents = _read(io.BytesIO(archive.read(WEIGHTS)), path)
        try:
            layers = json.loads(archive.read("config.json"))["config"]["layers"]
            named = _places(layers)
        except (KeyError, TypeError, ValueError, RecursionError):  # a model of a class of its own
            return contents
    tensors = {}
    for name, tensor in contents.tensors.items():
        start, *rest = name.split("/")
        tensors["/".join((start, *(named.get(of, of) for of in rest[:1]), *rest[1:]))] = tensor
    return replace(contents, tensors=tensors)


def _places(layers: Any) -> dict[str, str]:  # noqa: ANN401
    """Return layers' names by what weights are filed under: a class, and a number among its kin."""
    named, counts = {}, Counter()
    for of in layers:
        kind = of["class_name"]
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", kind).lower()
        named[words if not counts[kind] else f"{words}_{counts[kind]}"] = str(of["config"]["name"])
        counts[kind] += 1
    return named


def _read(file: Path | io.BytesIO, path: Path) -> Contents:
    if importlib.util.find_spec("h5py") is None:
        raise DataError(
            f"{path}: reading HDF5 (Keras) needs the package h5py: pip install 'multiembed[keras]'"
        )
    h5py: Any = importlib.import_module("h5py")
    tensors: dict[str, StoredTensor] = {}
    skipped: list[Skipped] = []

    def visit(name: str, item: Any) -> None:  # noqa: ANN401
        if isinstance(item, h5py.Dataset):
            stored = _dataset(item, f"{path}: {name}")
            if isinstance(stored, str):
                skipped.append(Skipped(name, tuple(item.shape or ()), stored))
            else:
                tensors[name] = stored

    try:
        with h5py.File(file, "r") as opened:
            opened.visititems(visit)
    except DataError:
        raise
    except Exception as error:  # h5py fails in many ways on broken files
        raise DataError(f"{path}: must be a whole HDF5 file, got {first_line(error)}") from error
    if not tensors:
        raise DataError(f"{path} must hold arrays of numbers, got none")
    return Contents(tensors=tensors, skipped=tuple(skipped))


def _dataset(item: Any, name: str) -> StoredTensor | str:  # noqa: ANN401
    """Return an array of HDF5, or say why it is not read."""
    if item.dtype.kind not in "fiub" or not item.shape:
        return "no numbers"
    if item.external or item.is_virtual:
        return "kept in another file"
    check_unpacked(name, item.nbytes, item.id.get_storage_size())
    return of_array(item[()])
