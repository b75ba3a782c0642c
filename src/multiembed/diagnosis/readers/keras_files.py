"""Reads the weights of Keras models (.h5, .keras) and other arrays in HDF5, by h5py."""

import importlib
import importlib.util
import io
import zipfile
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
        return _read(io.BytesIO(archive.read(WEIGHTS)), path)


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
