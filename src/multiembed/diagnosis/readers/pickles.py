"""Reads pickles without ever running what they name.

A pickle is a program: it names functions and calls them. Here it gets stand-ins for the few that
rebuild tensors and arrays, which take plain numbers and bytes; every other name becomes an inert
`Placeholder` that records what it was given. Nothing that a pickle names is imported. So objects
of a library that is not installed can still be read, and a pickle that tries to run a command
builds a placeholder instead.
"""

import mmap
import pickle
from collections import OrderedDict
from collections.abc import Callable
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import Any, ClassVar

import torch

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.pickled_arrays import (
    JoblibArray,
    NumpyType,
    PickledArray,
    array_of_buffer,
)
from multiembed.diagnosis.readers.pickled_tensors import (
    DTYPES,
    STORAGES,
    TENSOR_BUILDERS,
    Storage,
    storage_of,
)


class Placeholder:
    """Stands for an object whose class was not loaded; holds its arguments and its state."""

    def __new__(cls, *_: object) -> "Placeholder":
        """Accept whatever the pickled class was built from."""
        return super().__new__(cls)

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments
        self.items: list[tuple[object, object]] = []

    def __setstate__(self, state: object) -> None:
        self.state = state
        if isinstance(state, dict):
            self.__dict__.update({key: state[key] for key in state if isinstance(key, str)})

    def __setitem__(self, key: object, value: object) -> None:
        self.__dict__.setdefault("items", []).append((key, value))

    def append(self, value: object) -> None:
        """Take an element, where the pickled class was a kind of list."""
        self.__dict__.setdefault("items", []).append((None, value))


class _Builder:
    """A function that a pickle may call, and do nothing else with."""

    __slots__ = ("_build",)

    def __init__(self, build: Callable[..., object]) -> None:
        self._build = build

    def __call__(self, *arguments: object) -> object:
        return self._build(*arguments)

    def __setstate__(self, _: object) -> None:
        raise pickle.UnpicklingError("a pickle may not change the functions that it names")


def _encoded(text: object, _: object = "latin1") -> bytes:
    """Return the bytes that protocols below 3 write as text."""
    return str(text).encode("latin1")


def _reconstructed(kind: object, *_: object) -> object:
    """Build an object as protocols below 2 do: of its class, without arguments."""
    return kind() if isinstance(kind, type) and issubclass(kind, Placeholder) else Placeholder()


def _storage_of_bytes(data: object) -> object:
    """Read a storage that is a small file of `torch.save`, as in plain pickles of tensors."""
    if not isinstance(data, bytes):
        raise pickle.UnpicklingError("a storage must be bytes")
    return load_legacy(BytesIO(data), len(data))


def _attribute(_: object, name: object) -> type:
    """Return what stands for a class inside another object."""
    return type(str(name), (Placeholder,), {})


_BUILDERS: dict[tuple[str, str], Callable[..., object]] = {
    ("builtins", "getattr"): _attribute,
    ("__builtin__", "getattr"): _attribute,
    ("_codecs", "encode"): _encoded,
    ("copyreg", "_reconstructor"): _reconstructed,
    ("copy_reg", "_reconstructor"): _reconstructed,
    ("torch", "Size"): lambda sizes=(): tuple(sizes),
    ("torch.storage", "_load_from_bytes"): _storage_of_bytes,
    **TENSOR_BUILDERS,
    **{
        (f"numpy.{core}.{module}", name): build
        for core in ("core", "_core")
        for module, name, build in (
            ("multiarray", "_reconstruct", lambda *_: PickledArray()),
            ("numeric", "_frombuffer", array_of_buffer),
        )
    },
}


_CLASSES: dict[tuple[str, str], type] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "dtype"): NumpyType,
    ("joblib.numpy_pickle", "NumpyArrayWrapper"): JoblibArray,
}


class _Restricted:
    """Resolves builders of tensors and arrays; turns every other name into a placeholder."""

    storage: Callable[..., object] | None = None
    """Finds the storage that a pickle of `torch.save` refers to."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        """Return a stand-in for what is named, which is never the thing itself."""
        if (module, name) in _BUILDERS:
            return _Builder(_BUILDERS[module, name])
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if module in ("torch", "torch.storage") and name in STORAGES:
            return STORAGES[name]
        # A class of its own each time, because a pickle may also set attributes of a class.
        return type(name, (_CLASSES.get((module, name), Placeholder),), {"__module__": module})

    def persistent_load(self, pid: Any) -> object:  # noqa: ANN401
        """Return what a pickle refers to beside itself."""
        if self.storage is None:
            raise pickle.UnpicklingError("it refers to storages that are not there")
        return self.storage(*pid)


class _Unpickler(_Restricted, pickle.Unpickler):
    """The restricted reader, in C."""


_PickleInPython: Any = pickle._Unpickler
"""Python's own reader of pickles that is not in C; joblib builds on it, too."""


class _JoblibUnpickler(_Restricted, _PickleInPython):
    """The restricted reader, in Python: joblib puts an array's bytes amid the pickle's own."""

    def __init__(self, file: BufferedIOBase, *, encoding: str = "ASCII") -> None:
        _PickleInPython.__init__(self, file, encoding=encoding)
        self._bytes = file

    dispatch: ClassVar[dict[int, Any]] = dict(_PickleInPython.dispatch)

    def load_build(self) -> None:
        """Read the array that follows its description."""
        _PickleInPython.load_build(self)
        built = self.stack[-1]
        if isinstance(built, JoblibArray):
            self.stack[-1] = built.read(self._bytes, lambda: load_stream(self._bytes))

    dispatch[pickle.BUILD[0]] = load_build


def load_stream(
    file: BufferedIOBase,
    *,
    storage: Callable[..., object] | None = None,
    joblib: bool = False,
    encoding: str = "latin1",
) -> object:
    """Load one pickle from where a file stands.

    Args:
        file: Open for reading bytes.
        storage: Finds what the pickle of `torch.save` refers to.
        joblib: Whether arrays follow their descriptions in the file.
        encoding: Of text that Python 2 wrote.

    Raises:
        Exception: Of any kind, if it is broken.
    """
    kind: Any = _JoblibUnpickler if joblib else _Unpickler
    reader = kind(file, encoding=encoding)
    reader.storage = storage
    return reader.load()


LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How files of `torch.save` before torch 1.6 begin: a pickled magic number."""


def load_legacy(file: BufferedIOBase, size: int) -> object:
    """Load the format before torch 1.6: a pickle, then the storages it refers to, in order.

    Raises:
        Exception: Of any kind, if it is broken.
    """
    storages: dict[str, Storage] = {}

    def storage(kind: object, dtype: Any, key: object, *rest: Any) -> Any:  # noqa: ANN401
        if kind == "module":  # a class and its source, which nobody looks at
            return dtype
        _, count, view = rest
        if not isinstance(dtype, torch.dtype) or not 0 <= count * dtype.itemsize <= size:
            raise pickle.UnpicklingError("a storage must fit in the file")
        if view is not None:
            raise pickle.UnpicklingError("views of storages are not read")
        empty = Storage(torch.UntypedStorage(count * dtype.itemsize), dtype)
        return storages.setdefault(str(key), empty)

    if file.read(len(LEGACY)) != LEGACY:
        raise pickle.UnpicklingError("another beginning")
    for _ in ("protocol", "system"):
        load_stream(file)
    loaded = load_stream(file, storage=storage)
    keys: Any = load_stream(file)
    for key in keys:
        _fill(storages[key], file)
    return loaded


def _fill(storage: Storage, file: BufferedIOBase) -> None:
    """Read the numbers of a storage, behind their number."""
    size = storage.flat.nbytes()
    if int.from_bytes(file.read(8), "little") * storage.dtype.itemsize != size:
        raise pickle.UnpicklingError("a storage must be as long as it says")
    data = file.read(size)
    if len(data) < size:
        raise pickle.UnpicklingError("the file ends within a storage")
    storage.flat.copy_(storage_of(data))


def load_pickle(path: Path) -> object:
    """Load a plain pickle or a file of joblib.

    Raises:
        DataError: If it is broken.
    """
    try:
        with path.open("rb") as file:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                joblib = content.find(b"joblib.numpy_pickle") >= 0
            return load_stream(file, joblib=joblib)
    except DataError:
        raise
    except Exception as error:  # a broken pickle can fail in any way
        raise DataError(f"{path}: must be a whole pickle, got {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """Return what an error says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def is_pickle(head: bytes) -> bool:
    """Say whether a file that begins so is a pickle: by its protocol, or as text."""
    return (head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05") or head[:2] in _TEXT_STARTS


_TEXT_STARTS = (b"(d", b"(l", b"cc", b"cn", b"(i")
"""How pickles of protocol 0 begin: a dictionary, a list, a name."""
