"""Reads the weights of Keras models (.h5, .keras) and other arrays in HDF5, by h5py."""

import importlib
import importlib.util
import io
import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.nested import of_array
from multiembed.diagnosis.readers.pickles import first_line
from multiembed.diagnosis.readers.table import Contents, Skipped, StoredTensor

WEIGHTS = "model.weights.h5"
"""Where a `.keras` file, which is a zip, keeps its weights."""


def read_hdf5(path: Path) -> Contents:
    """Name the arrays of an HDF5 file."""
    return _read(path, path)


def read_keras(path: Path) -> Contents:
    """Name the weights of a `.keras` file."""
    with zipfile.ZipFile(path) as archive:
        contents = _read(io.BytesIO(archive.read(WEIGHTS)), path)
        try:
            layers = json.loads(archive.read("config.json"))["config"]["layers"]
            named = {_place(layers, at): str(of["config"]["name"]) for at, of in enumerate(layers)}
        except (KeyError, TypeError, ValueError, RecursionError):  # a model of a class of its own
            return contents
    tensors = {}
    for name, tensor in contents.tensors.items():
        start, layer, *rest = name.split("/")
        tensors["/".join((start, named.get(layer, layer), *rest))] = tensor
    return replace(contents, tensors=tensors)


def _place(layers: Any, at: int) -> str:  # noqa: ANN401
    """Return what weights are filed under: a layer's class and its number among those of it."""
    kinds = [of["class_name"] for of in layers[: at + 1]]
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", kinds[-1]).lower()
    return words if kinds.count(kinds[-1]) == 1 else f"{words}_{kinds.count(kinds[-1]) - 1}"


def _read(file: Path | io.BytesIO, path: Path) -> Contents:
    if importlib.util.find_spec("h5py") is None:
        raise DataError(
            f"{path}: reading HDF5 (Keras) needs the package h5py: pip install 'multiembed[keras]'"
        )
    h5py: Any = importlib.import_module("h5py")
    tensors: dict[str, StoredTensor] = {}
    skipped: list[Skipped] = []

    def visit(name: str, item: Any) -> None:  # noqa: ANN401
        if not isinstance(item, h5py.Dataset):
            return
        stored = of_array(item[()]) if item.dtype.kind in "fiub" and item.shape else "no numbers"
        if isinstance(stored, str):
            skipped.append(Skipped(name, tuple(item.shape or ()), stored))
        else:
            tensors[name] = stored

    try:
        with h5py.File(file, "r") as opened:
            opened.visititems(visit)
    except Exception as error:  # h5py fails in many ways on broken files
        raise DataError(f"{path}: must be a whole HDF5 file, got {first_line(error)}") from error
    if not tensors:
        raise DataError(f"{path} must hold arrays of numbers, got none")
    return Contents(tensors=tensors, skipped=tuple(skipped))
