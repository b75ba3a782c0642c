"""Opens a file or a directory and names the tensors in it; nothing is read before it is needed."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.distributed import read_distributed
from multiembed.diagnosis.readers.pickles import load_torch_file, named_tensors
from multiembed.diagnosis.readers.table import Skipped, StoredTensor, Tensors

_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net")
"""Where training scripts put a model's weights inside a larger dictionary."""
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


class FileKind(NamedTuple):
    """One kind of checkpoint file."""

    read: Callable[[Path], tuple[Tensors, list[Skipped]]]
    """Names the tensors of a file, and what beside the model's weights it holds."""
    suffixes: tuple[str, ...]
    ordered: bool = True
    """Whether tensors keep the order in which they were written, the model's."""


def open_tensors(path: Path) -> tuple[Tensors, list[Skipped]]:
    """Return the named tensors of a checkpoint, and what beside the model's weights it holds."""
    if not path.exists():
        raise DataError(f"{path} must be a file or a directory, got nothing there")
    if path.is_dir():
        return _open_folder(path)
    if path.stat().st_size == 0:
        raise DataError(f"{path} must be a checkpoint, got an empty file")
    return kind_of(path).read(path)


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
        name: _rows_of_file(
            path,
            tuple(entry["shape"]),
            _DTYPES.get(entry["dtype"], torch.int64),
            8 + length + entry["data_offsets"][0],
        )
        for name, entry in sorted(header.items(), key=lambda item: _natural(item[0]))
    }


def _rows_of_file(
    path: Path, shape: tuple[int, ...], dtype: torch.dtype, offset: int
) -> StoredTensor:
    """Read rows by position: pages of a mapped file would count as this process's memory."""
    row_bytes = dtype.itemsize * math.prod(shape[1:])

    def read(start: int, stop: int) -> Tensor:
        size = (stop - start) * row_bytes
        data = np.fromfile(path, np.uint8, count=size, offset=offset + start * row_bytes)
        return torch.from_numpy(data).view(dtype).reshape(stop - start, *shape[1:])

    return StoredTensor(shape, dtype, read)


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort `x.10` after `x.2`: the format keeps no order, and numbers often are one."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


def _read_numpy(path: Path) -> tuple[Tensors, list[Skipped]]:
    try:
        if path.suffix == ".npy":
            # Copy-on-write, because torch warns about arrays that cannot be written.
            array = np.load(path, mmap_mode="c", allow_pickle=False)
            return {path.stem: _mapped(array, path)}, []
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # NumPy and zipfile fail in many ways on broken files
        raise DataError(f"{path}: must be a NumPy file of plain arrays, got {error}") from error
    return {
        name: StoredTensor.of(torch.from_numpy(array))
        for name, array in arrays.items()
        if array.dtype.kind in "fiu" and array.dtype.itemsize <= 8
    }, []


def _mapped(array: np.memmap, path: Path) -> StoredTensor:
    tensor = torch.from_numpy(array)
    if not array.flags.c_contiguous:
        return StoredTensor.of(tensor)
    return _rows_of_file(path, array.shape, tensor.dtype, array.offset)


def _read_torch(path: Path) -> tuple[Tensors, list[Skipped]]:
    loaded = load_torch_file(path)
    outside: list[Skipped] = []
    if isinstance(loaded, dict):
        wrapper = next((key for key in _WRAPPERS if _holds_tensors(loaded.get(key))), None)
        if wrapper is not None:
            rest = {key: value for key, value in loaded.items() if key != wrapper}
            reason = f"beside the model's weights, which are under '{wrapper}'"
            outside = [Skipped(n, tuple(t.shape), reason) for n, t in named_tensors(rest)]
            loaded = loaded[wrapper]
    tensors = {name: StoredTensor.of(tensor.detach()) for name, tensor in named_tensors(loaded)}
    if not tensors:
        raise DataError(f"{path} must hold tensors, got none")
    return tensors, outside


def _holds_tensors(value: object) -> bool:
    return value is not None and next(iter(named_tensors(value)), None) is not None


FILE_KINDS: dict[str, FileKind] = {
    # The format sorts its tensors by their type and name.
    "safetensors": FileKind(
        lambda path: (read_safetensors(path), []), (".safetensors",), ordered=False
    ),
    "torch": FileKind(
        _read_torch, (".pt", ".pth", ".bin", ".ckpt", ".model", ".h5", ".tar", ".pkl")
    ),
    "NumPy archive": FileKind(_read_numpy, (".npz",)),
    "NumPy array": FileKind(_read_numpy, (".npy",)),
}
"""Files by kind; of several kinds in one directory, the first is read."""


def kind_of(path: Path) -> FileKind:
    """Return the kind of a file by its suffix; others are taken for what `torch.save` wrote."""
    known = (kind for kind in FILE_KINDS.values() if path.suffix in kind.suffixes)
    return next(known, FILE_KINDS["torch"])


def _open_folder(folder: Path) -> tuple[Tensors, list[Skipped]]:
    if (folder / ".metadata").is_file():
        return read_distributed(folder), []
    files = _checkpoint_files(folder)
    if not files:
        suffixes = ", ".join(suffix for kind in FILE_KINDS.values() for suffix in kind.suffixes)
        raise DataError(
            f"{folder} must hold a checkpoint ({suffixes}, .distcp), got a directory without one"
        )
    tensors: dict[str, StoredTensor] = {}
    skipped: list[Skipped] = []
    for file in files:
        more, outside = open_tensors(file)
        clash = sorted(tensors.keys() & more.keys())
        if clash:
            raise DataError(f"{folder} must hold one checkpoint, got '{clash[0]}' in two files")
        tensors.update(more)
        skipped += outside
    return tensors, skipped


def _checkpoint_files(folder: Path) -> list[Path]:
    """Return the files of the one checkpoint in a directory; safetensors win over pickles."""
    for index in sorted(folder.glob("*.index.json")):
        return [folder / name for name in _shards(index)]
    files = sorted(folder.iterdir(), key=lambda file: file.name)
    of_kinds = ([f for f in files if f.suffix in of.suffixes] for of in FILE_KINDS.values())
    return next((found for found in of_kinds if found), [])


def _shards(index: Path) -> list[str]:
    try:
        return sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise DataError(f"{index}: must map names of weights to files") from error
