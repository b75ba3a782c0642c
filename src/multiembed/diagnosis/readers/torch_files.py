"""Reads what torch writes: state dicts, whole models, TorchScript, exported programs, packages.

No code in a file runs: everything goes through the restricted reader of pickles, with storages
mapped from the file, and not through `torch.load`, which builds what a process happens to allow.
"""

import io
import json
import pickle
import zipfile
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.nested import contents_of, holds_any
from multiembed.diagnosis.readers.pickled_tensors import Storage, storage_of, view_of
from multiembed.diagnosis.readers.pickles import first_line, load_legacy, mapped
from multiembed.diagnosis.readers.table import Contents
from multiembed.diagnosis.readers.unpickler import is_short, load_stream, most_built
from multiembed.diagnosis.readers.zip_files import open_zip

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
            with TorchArchive(file, name) as archive:
                return archive.load("data.pkl")
        if isinstance(file, io.BytesIO):
            return load_legacy(file, len(file.getbuffer()))
        with mapped(file) as content:
            return load_legacy(content, len(content))
    except DataError:
        raise
    except Exception as error:  # a broken pickle can fail in any way
        said = first_line(error)
        raise DataError(f"{name}: must be a file written by torch.save, got {said}") from error


class TorchArchive:
    """A zip file of torch: pickles, and the storages that they refer to."""

    def __init__(self, file: Path | io.BytesIO, name: str) -> None:
        self._zip = open_zip(file, name)
        self._path = file if isinstance(file, Path) else None
        first = self._zip.namelist()[0]
        self.root = first.split("/")[0] + "/" if "/" in first else ""
        self.names = frozenset(name.removeprefix(self.root) for name in self._zip.namelist())
        self._limit = most_built(sum(entry.file_size for entry in self._zip.infolist()))
        self._storages: dict[str, torch.UntypedStorage] = {}

    def __enter__(self) -> "TorchArchive":
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def read(self, name: str) -> bytes:
        """Return one entry."""
        return self._zip.read(self.root + name)

    def load(self, name: str) -> object:
        """Load one of its pickles."""
        content = io.BytesIO(self.read(name))
        return load_stream(content, storage=self._storage, encoding="utf-8", limit=self._limit)

    def numbers(self, name: str) -> torch.UntypedStorage:
        """Return one entry as numbers, mapped where it is stored as it is."""
        entry = self._zip.getinfo(self.root + name)
        if self._path is None or entry.compress_type != zipfile.ZIP_STORED:
            return storage_of(self._zip.read(entry))
        with self._path.open("rb") as file:
            file.seek(entry.header_offset + 26)  # lengths of the name and of what follows it
            extra = int.from_bytes(file.read(2), "little") + int.from_bytes(file.read(2), "little")
        start = entry.header_offset + 30 + extra
        if start + entry.file_size > self._whole.nbytes():
            raise pickle.UnpicklingError("an entry must lie within the file")
        return self._whole[start : start + entry.file_size]

    @cached_property
    def _whole(self) -> Any:  # noqa: ANN401
        """The file, mapped."""
        assert self._path is not None
        size = self._path.stat().st_size
        return torch.UntypedStorage.from_file(str(self._path), False, size)

    def _storage(self, kind: object, dtype: object, key: object, *_: object) -> Storage:
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not is_short(key):
            raise pickle.UnpicklingError("it refers to something else than storages")
        places = (f"data/{key}", f".data/{key}.storage", f"constants/{key}")
        name = next((place for place in places if place in self.names), None)
        if name is None:
            raise pickle.UnpicklingError("it refers to storages that are not there")
        if name not in self._storages:
            self._storages[name] = self._native(name, dtype)
        return Storage(self._storages[name], dtype)

    def _native(self, name: str, dtype: torch.dtype) -> torch.UntypedStorage:
        flat = self.numbers(name)
        if "byteorder" in self.names and self.read("byteorder") == b"big":
            flat = flat.clone()
            flat.byteswap(dtype)
        return flat


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
        with TorchArchive(path, str(path)) as archive:
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
