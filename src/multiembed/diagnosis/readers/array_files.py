"""Reads arrays stored by name: safetensors, and NumPy's files."""

import json
import math
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.nested import contents_of, of_array
from multiembed.diagnosis.readers.pickled_arrays import is_shape
from multiembed.diagnosis.readers.pickles import first_line, mapped
from multiembed.diagnosis.readers.table import Contents, Skipped, StoredTensor, Tensors
from multiembed.diagnosis.readers.unpickler import load_stream
from multiembed.diagnosis.readers.zip_files import open_zip

_DTYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8},
    **{"U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8},
    **{"BOOL": torch.bool, "C64": torch.complex64},
}


def read_safetensors(path: Path) -> Tensors:
    """Name the tensors of a safetensors file; rows are read from the file when asked.

    Raises:
        DataError: If it is no whole file of the format.
    """
    try:
        with safe_open(path, framework="pt"):  # which checks the whole header
            pass
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        return {
            name: rows_of_file(
                path,
                tuple(entry["shape"]),
                _DTYPES[entry["dtype"]],
                8 + length + entry["data_offsets"][0],
            )
            for name, entry in sorted(header.items(), key=lambda item: natural(item[0]))
        }
    except KeyError as error:
        raise DataError(f"{path}: must hold numbers of a known type, got {error}") from error
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        said = error if isinstance(error, DataError) else first_line(error)
        raise DataError(f"{path}: must be a whole safetensors file, got {said}") from error


def rows_of_file(
    path: Path, shape: tuple[int, ...], dtype: torch.dtype, offset: int
) -> StoredTensor:
    """Read rows by position: pages of a mapped file would count as this process's memory.

    Raises:
        DataError: If the file ends before the last row does.
    """
    whole = is_shape(shape) and offset + dtype.itemsize * math.prod(shape) <= path.stat().st_size
    if not whole:
        raise DataError(f"{path} must be a whole file, got a tensor that is not within it")
    row_bytes = dtype.itemsize * math.prod(shape[1:])

    def read(start: int, stop: int) -> Tensor:
        size = (stop - start) * row_bytes
        data = np.fromfile(path, np.uint8, count=size, offset=offset + start * row_bytes)
        return torch.from_numpy(data).view(dtype).reshape(stop - start, *shape[1:])

    return StoredTensor(shape, dtype, read)


def natural(name: str) -> list[tuple[int, str]]:
    """Sort `x.10` after `x.2`: the format keeps no order, and numbers often are one."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


class _Header(NamedTuple):
    """What NumPy writes before an array's numbers."""

    shape: tuple[int, ...]
    columns_first: bool
    dtype: np.dtype


def _header_of(file: Any) -> _Header:  # noqa: ANN401
    """Read the header of an array, to where its numbers begin.

    Raises:
        Exception: Of any kind, if it is broken.
    """
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0
    found = _Header(*(header if version == (1, 0) else np.lib.format.read_array_header_2_0)(file))
    if not is_shape(found.shape):
        raise ValueError("an array must have a shape")
    return found


def map_array(path: Path) -> np.ndarray | None:
    """Map one array of NumPy; `None` if it is one of Python objects.

    Raises:
        DataError: If it is not whole.
    """
    try:
        with path.open("rb") as file:
            header, start = _header_of(file), file.tell()
        if header.dtype.hasobject:
            return None
        if start + math.prod(header.shape) * header.dtype.itemsize > path.stat().st_size:
            raise ValueError("one that is not within the file")
        # Copy-on-write, because torch warns about arrays that cannot be written.
        return np.load(path, mmap_mode="c", allow_pickle=False)
    except Exception as error:  # NumPy fails in many ways on broken files
        said = first_line(error)
        raise DataError(f"{path}: must be one plain array of NumPy, got {said}") from error


def read_array(path: Path) -> Contents:
    """Read one array of NumPy; its rows stay in the file until they are asked for."""
    array = map_array(path)
    if array is None:
        return _objects(path)
    stored = of_array(array)
    if isinstance(stored, str):
        raise DataError(f"{path} must hold numbers, got {stored}")
    as_it_is = array.dtype.isnative and stored.dtype.itemsize == array.itemsize
    if array.flags.c_contiguous and as_it_is and isinstance(array, np.memmap):
        stored = rows_of_file(path, array.shape, stored.dtype, array.offset)
    return Contents(tensors={path.stem: stored}, tables=frozenset([path.stem]))


def _objects(path: Path) -> Contents:
    """Read what `numpy.save` pickles, such as a dictionary of arrays, and run nothing of it."""
    try:
        with path.open("rb") as file, mapped(path) as content:
            _header_of(file)
            content.seek(file.tell())
            loaded = load_stream(content)
    except Exception as error:  # a broken pickle can fail in any way
        said = first_line(error)
        raise DataError(f"{path}: must be a whole array of objects, got {said}") from error
    return contents_of(loaded, str(path))


def read_archive(path: Path) -> Contents:
    """Read the arrays of a NumPy archive, each by its name."""
    tensors, skipped = {}, []
    try:
        with open_zip(path, str(path)) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            if {"indices", "indptr", "format"} <= {*names}:
                raise DataError(
                    f"{path} must hold tables, got a sparse matrix of SciPy: write it by "
                    "numpy.save(file, matrix.toarray())"
                )
            for name, entry in zip(names, archive.infolist(), strict=True):
                stored = _of_archive(archive, entry)
                if isinstance(stored, str):
                    skipped.append(Skipped(name, (), stored))
                else:
                    tensors[name] = stored
    except DataError:
        raise
    except Exception as error:  # NumPy and zipfile fail in many ways on broken files
        said = first_line(error)
        raise DataError(f"{path}: must be a NumPy archive of plain arrays, got {said}") from error
    if not tensors:
        why = f"; {skipped[0].name}: {skipped[0].reason}" if skipped else ""
        raise DataError(f"{path} must hold arrays of numbers, got none{why}")
    return Contents(tensors=tensors, skipped=tuple(skipped))


def _of_archive(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> StoredTensor | str:
    with archive.open(entry) as file:
        header = _header_of(file)
        if header.dtype.hasobject:
            return "an array of Python objects"
        size = math.prod(header.shape) * header.dtype.itemsize
        if size > entry.file_size:
            raise ValueError("an array that is not within its entry")
        flat = np.frombuffer(bytearray(file.read(size)), header.dtype)
    return of_array(flat.reshape(header.shape, order="F" if header.columns_first else "C"))
