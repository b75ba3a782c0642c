"""Reads arrays stored by name: safetensors, and NumPy's files."""

import json
import math
from io import BufferedIOBase
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.nested import contents_of, of_array
from multiembed.diagnosis.readers.pickles import first_line, load_stream
from multiembed.diagnosis.readers.table import Contents, Skipped, StoredTensor, Tensors

_DTYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8},
    **{"U8": torch.uint8, "BOOL": torch.bool},
}


def read_safetensors(path: Path) -> Tensors:
    """Name the tensors of a safetensors file; rows are read from the file when asked."""
    try:
        with safe_open(path, framework="pt"):  # which checks the whole header
            pass
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: must be a whole safetensors file, got {error}") from error
    header.pop("__metadata__", None)
    return {
        name: rows_of_file(
            path,
            tuple(entry["shape"]),
            _DTYPES.get(entry["dtype"], torch.int64),
            8 + length + entry["data_offsets"][0],
        )
        for name, entry in sorted(header.items(), key=lambda item: natural(item[0]))
    }


def rows_of_file(
    path: Path, shape: tuple[int, ...], dtype: torch.dtype, offset: int
) -> StoredTensor:
    """Read rows by position: pages of a mapped file would count as this process's memory."""
    row_bytes = dtype.itemsize * math.prod(shape[1:])

    def read(start: int, stop: int) -> Tensor:
        size = (stop - start) * row_bytes
        data = np.fromfile(path, np.uint8, count=size, offset=offset + start * row_bytes)
        return torch.from_numpy(data).view(dtype).reshape(stop - start, *shape[1:])

    return StoredTensor(shape, dtype, read)


def natural(name: str) -> list[tuple[int, str]]:
    """Sort `x.10` after `x.2`: the format keeps no order, and numbers often are one."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


def read_array(path: Path) -> Contents:
    """Read one array of NumPy; its rows stay in the file until they are asked for."""
    try:
        # Copy-on-write, because torch warns about arrays that cannot be written.
        if _of_objects(path):
            return _objects(path)
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except DataError:
        raise
    except Exception as error:  # NumPy fails in many ways on broken files
        raise DataError(f"{path}: must be one plain array of NumPy, got {_said(error)}") from error
    stored = of_array(array)
    if isinstance(stored, str):
        raise DataError(f"{path} must hold numbers, got {stored}")
    as_it_is = array.dtype.isnative and stored.dtype.itemsize == array.itemsize
    if array.flags.c_contiguous and as_it_is and array.nbytes:
        stored = rows_of_file(path, array.shape, stored.dtype, array.offset)
    return Contents(tensors={path.stem: stored}, tables=frozenset([path.stem]))


def _of_objects(path: Path) -> bool:
    with path.open("rb") as file:
        return _dtype_of(file).kind == "O"


def _dtype_of(file: BufferedIOBase) -> np.dtype:
    """Read the header of an array, to where its numbers begin."""
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0
    return (header if version == (1, 0) else np.lib.format.read_array_header_2_0)(file)[2]


def _objects(path: Path) -> Contents:
    """Read what `numpy.save` pickles, such as a dictionary of arrays, and run nothing of it."""
    with path.open("rb") as file:
        _dtype_of(file)
        return contents_of(load_stream(file), str(path))


def read_archive(path: Path) -> Contents:
    """Read the arrays of a NumPy archive, each by its name."""
    tensors, skipped = {}, []
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if {"indices", "indptr", "format"} <= {*archive.files}:
                raise DataError(
                    f"{path} must hold tables, got a sparse matrix of SciPy: write it by "
                    "numpy.save(file, matrix.toarray())"
                )
            for name in archive.files:
                stored = _of_archive(archive, name)
                if isinstance(stored, str):
                    skipped.append(Skipped(name, (), stored))
                else:
                    tensors[name] = stored
    except DataError:
        raise
    except Exception as error:  # NumPy and zipfile fail in many ways on broken files
        said = _said(error)
        raise DataError(f"{path}: must be a NumPy archive of plain arrays, got {said}") from error
    if not tensors:
        why = f"; {skipped[0].name}: {skipped[0].reason}" if skipped else ""
        raise DataError(f"{path} must hold arrays of numbers, got none{why}")
    return Contents(tensors=tensors, skipped=tuple(skipped))


def _of_archive(archive: np.lib.npyio.NpzFile, name: str) -> StoredTensor | str:
    try:
        return of_array(archive[name])
    except ValueError as error:
        if "allow_pickle" in str(error):
            return "an array of Python objects"
        raise


def _said(error: Exception) -> str:
    return "Python objects" if "allow_pickle" in str(error) else first_line(error)
