"""Reads pickled checkpoints without ever running what they name.

A pickle is a program: it names functions and calls them. Here it may name the few that rebuild
tensors; every other name becomes an inert `Placeholder` that records what it was given. So a
checkpoint that carries the classes of a library that is not installed can still be read, and one
that tries to run a command builds a placeholder instead.
"""

import pickle
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from multiembed.base.errors import DataError

_REBUILDERS = {
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch", "Size"),
    ("torch", "device"),
    ("torch.storage", "UntypedStorage"),
}
_STORAGES = {
    f"{kind}Storage"
    for kind in (
        *("Double", "Float", "Half", "BFloat16", "Untyped"),
        *("Long", "Int", "Short", "Char", "Byte", "Bool"),
    )
}
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn),
        *(torch.float8_e5m2, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
        *(torch.bool, torch.complex64, torch.complex128),
    )
}
MOST_LEVELS = 64
"""Nesting beyond this is not a checkpoint (a pickle can even contain itself)."""


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


class _Unpickler(pickle.Unpickler):
    """Resolves tensor builders; turns every other name into a placeholder."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        """Return the named builder of tensors, or a new placeholder class."""
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) in _REBUILDERS or (module == "torch" and name in _STORAGES):
            return super().find_class(module, name)
        return type(name, (Placeholder,), {"__module__": module})


def _restricted_load(file: Any, encoding: str = "utf-8") -> object:  # noqa: ANN401
    return _Unpickler(file, encoding=encoding).load()


_PICKLE_MODULE = types.SimpleNamespace(
    __name__="restricted_pickle", Unpickler=_Unpickler, load=_restricted_load
)


def load_torch_file(path: Path) -> object:
    """Load what `torch.save` wrote: a state dict, a checkpoint around one, or a whole model."""
    mapped = zipfile.is_zipfile(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception:
        pass  # not tensors alone, or broken: the restricted reader tells which
    try:
        return torch.load(
            path, map_location="cpu", weights_only=False, mmap=mapped, pickle_module=_PICKLE_MODULE
        )
    except Exception as error:  # a broken pickle can fail in any way
        raise DataError(
            f"{path}: must be a file written by torch.save, got {_first_line(error)}"
        ) from error


def load_pickle(path: Path) -> object:
    """Load a plain pickle, placeholders standing for everything that is no tensor."""
    try:
        with path.open("rb") as file:
            return _restricted_load(file)
    except Exception as error:
        raise DataError(f"{path}: must be a pickle, got {_first_line(error)}") from error


def named_tensors(loaded: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor inside dictionaries, lists and pickled modules, by its dotted name."""
    if len(path) > MOST_LEVELS:
        raise DataError(f"a checkpoint must nest at most {MOST_LEVELS} levels, got more")
    if isinstance(loaded, Tensor):
        yield ".".join(path), loaded
        return
    for key, value in _children(loaded):
        yield from named_tensors(value, (*path, str(key)))


def _children(node: object) -> Iterator[tuple[object, object]]:
    if isinstance(node, Mapping):
        yield from node.items()
    elif isinstance(node, list | tuple):
        yield from enumerate(node)
    elif isinstance(node, Placeholder):
        for group in ("_parameters", "_buffers", "_modules"):
            members = node.__dict__.get(group)
            if isinstance(members, dict | OrderedDict):
                yield from members.items()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
