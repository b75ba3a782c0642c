"""Reads what torch writes: state dicts, whole models, TorchScript, exported programs, packages.

No code in a file runs: everything goes through the restricted reader of pickles, with storages
mapped from the file, and not through `torch.load`, which builds what a process happens to allow.
"""

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.nested import contents_of, holds_any
from multiembed.diagnosis.readers.pickled_tensors import Storage, storage_of, view_of
from multiembed.diagnosis.readers.pickles import first_line, load_legacy, load_stream
from multiembed.diagnosis.readers.table import Contents

_EXPORTED_TYPES = {
    **{1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64},
    **{6: torch.float16, 7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16},
}
"""Types of numbers by their codes in an exported program."""


def read_torch(path: Path) -> Contents:
    """Name the tensors of a file that `torch.save` wrote."""
    return contents_of(load_torch(path, str(path)), str(path))


def load_torch(file: Path | io.BytesIO, name: str) -> object:
    """Load what `torch.save` wrote, placeholders standing for everything that is no tensor.

    Raises:
        DataError: If it is broken; `name` is what the message calls it.
    """
    try:
        if zipfile.is_zipfile(file):
            with TorchArchive(file) as archive:
                return archive.load("data.pkl")
        if isinstance(file, io.BytesIO):
            return load_legacy(file, len(file.getbuffer()))
        with file.open("rb") as opened:
            return load_legacy(opened, file.stat().st_size)
    except Exception as error:  # a broken pickle can fail in any way
        said = first_line(error)
        raise DataError(f"{name}: must be a file written by torch.save, got {said}") from error


class TorchArchive:
    """A zip file of torch: pickles, and the storages that they refer to."""

    def __init__(self, file: Path | io.BytesIO) -> None:
        self._zip = zipfile.ZipFile(file)
        self._path = file if isinstance(file, Path) else None
        first = self._zip.namelist()[0]
        self.root = first.split("/")[0] + "/" if "/" in first else ""
        self.names = [name.removeprefix(self.root) for name in self._zip.namelist()]

    def __enter__(self) -> "TorchArchive":
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def read(self, name: str) -> bytes:
        """Return one entry."""
        return self._zip.read(self.root + name)

    def load(self, name: str) -> object:
        """Load one of its pickles."""
        return load_stream(io.BytesIO(self.read(name)), storage=self._storage, encoding="utf-8")

    def numbers(self, name: str) -> torch.UntypedStorage:
        """Return one entry as numbers, mapped where it is stored as it is."""
        entry = self._zip.getinfo(self.root + name)
        if self._path is None or entry.compress_type != zipfile.ZIP_STORED:
            return storage_of(self._zip.read(entry))
        with self._path.open("rb") as file:
            file.seek(entry.header_offset + 26)  # lengths of the name and of what follows it
            extra = int.from_bytes(file.read(2), "little") + int.from_bytes(file.read(2), "little")
        start = entry.header_offset + 30 + extra
        size = self._path.stat().st_size
        whole: Any = torch.UntypedStorage.from_file(str(self._path), False, size)
        return whole[start : start + entry.file_size]

    def _storage(self, kind: object, dtype: object, key: object, *_: object) -> Storage:
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError("it refers to something else than storages")
        places = (f"data/{key}", f".data/{key}.storage", f"constants/{key}")
        flat = self.numbers(next(n for n in places if n in self.names))
        if "byteorder" in self.names and self.read("byteorder") == b"big":
            flat = flat.clone()
            flat.byteswap(dtype)
        return Storage(flat, dtype)


def read_script(path: Path) -> Contents:
    """Name the tensors of a TorchScript archive; none of its code is loaded."""

    def load(archive: TorchArchive) -> object:
        held = archive.load("data.pkl")  # a frozen program has its weights among the constants
        return held if holds_any(held) else {"constants": archive.load("constants.pkl")}

    return _of_archive(path, load, "a TorchScript archive")


def read_package(path: Path) -> Contents:
    """Name the tensors of the models that `torch.package` wrote."""

    def load(archive: TorchArchive) -> object:
        names = [n for n in archive.names if n.endswith(".pkl") and not n.startswith(".data/")]
        loaded = {n.removesuffix(".pkl").rpartition("/")[2]: archive.load(n) for n in names}
        return next(iter(loaded.values())) if len(loaded) == 1 else loaded

    return _of_archive(path, load, "a package of torch")


def read_exported(path: Path) -> Contents:
    """Name the weights of a program of `torch.export`."""
    return _of_archive(path, _exported, "a program of torch.export")


def _of_archive(path: Path, load: Any, what: str) -> Contents:  # noqa: ANN401
    try:
        with TorchArchive(path) as archive:
            loaded = load(archive)
    except DataError:
        raise
    except Exception as error:  # a broken archive can fail in any way
        raise DataError(f"{path}: must be {what}, got {first_line(error)}") from error
    return contents_of(loaded, str(path))


def _exported(archive: TorchArchive) -> object:
    old = next((n for n in archive.names if n.endswith("serialized_state_dict.pt")), None)
    if old is not None:
        return load_torch(io.BytesIO(archive.read(old)), old)
    listed = json.loads(archive.read("data/weights/model_weights_config.json"))["config"]
    return {name: _weight(archive, of) for name, of in listed.items()}


def _weight(archive: TorchArchive, of: Any) -> Tensor:  # noqa: ANN401
    place = f"data/weights/{of['path_name']}"
    if of.get("use_pickle"):
        loaded = load_torch(io.BytesIO(archive.read(place)), place)
        if isinstance(loaded, Tensor):
            return loaded
        raise pickle.UnpicklingError("a weight that is no tensor")
    meta = of["tensor_meta"]
    dtype = _EXPORTED_TYPES[meta["dtype"]]
    sizes, strides = ([n["as_int"] for n in meta[key]] for key in ("sizes", "strides"))
    storage = Storage(archive.numbers(place), dtype)
    return view_of(storage, meta["storage_offset"]["as_int"], sizes, strides, dtype)
