"""Names the tensors and arrays inside what a file held: dictionaries, lists, modules, objects."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.pickled_arrays import PickledArray
from multiembed.diagnosis.readers.roles import is_like_a_table, told_by_modules
from multiembed.diagnosis.readers.table import Contents, Skipped, StoredTensor
from multiembed.diagnosis.readers.unpickler import Placeholder

MOST_LEVELS = 64
"""Nesting beyond this is not a checkpoint."""
_LONGEST_NAME = 1000
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net")
"""Where training scripts put a model's weights inside a larger dictionary."""
_OPTIMIZER = re.compile("optim|scheduler|scaler", re.IGNORECASE)
_OWN = frozenset(("arguments", "items", "state"))
"""What a placeholder has of itself, beside the attributes of the object that it stands for."""
_MODULE = ("_parameters", "_buffers", "_modules")


class _Found:
    """A tensor or array, where it was found."""

    def __init__(self, name: str, value: object, owner: str) -> None:
        self.name, self.value, self.owner = name, value, owner


def contents_of(loaded: object, source: str) -> Contents:
    """Return the tensors and arrays inside what was loaded, a model's weights apart from the rest.

    Raises:
        DataError: If there are none, or it is nested too deep; the message names the `source`.
    """
    weights, beside = _unwrapped(loaded)
    found = [(of, read_value(of.value)) for of in _walk(weights)]
    if not found:
        raise DataError(f"{source} must hold tensors, got none")
    tensors = {of.name: value for of, value in found if isinstance(value, StoredTensor)}
    tables, reasons = told_by_modules({of.name: of.owner for of, _ in found})
    return Contents(
        tensors=tensors,
        beside={
            of.name: value
            for part in beside
            for of in _walk(part)
            if isinstance(value := read_value(of.value), StoredTensor)
        },
        tables=frozenset(n for n in tables & tensors.keys() if tensors[n].shape[1:] != (1,)),
        reasons=reasons,
        same=_repeated(found),
        skipped=tuple(
            Skipped(of.name, _shape(of.value), value)
            for of, value in found
            if isinstance(value, str)
        ),
    )


def _unwrapped(loaded: object) -> tuple[object, list[object]]:
    """Take a model's weights out of what a training script saved around them.

    They are under a name that such scripts use, or are all that there is beside an optimizer's.
    """
    beside: list[object] = []
    seen: set[int] = set()
    while isinstance(loaded, Mapping) and id(loaded) not in seen:
        seen.add(id(loaded))
        held = {key: value for key, value in loaded.items() if holds_any(value)}
        nested = [key for key, value in held.items() if isinstance(value, Mapping | Placeholder)]
        wrapper = next((key for key in _WRAPPERS if key in nested), None)
        if wrapper is None:
            models = [key for key in held if not _OPTIMIZER.search(str(key))]
            alone = len(models) == 1 and models[0] in nested
            wrapper = models[0] if alone and _stacked(held[models[0]]) is None else None
        if wrapper is None:
            break
        beside.append({key: held[key] for key in held if key != wrapper})
        loaded = loaded[wrapper]
    return loaded, beside


def holds_any(value: object) -> bool:
    """Say whether there is a tensor or array inside an object."""
    return next(_walk(value), None) is not None


def _walk(loaded: object) -> Iterator[_Found]:
    """Yield every tensor and array inside an object, by its dotted name; each object once."""
    seen: set[int] = set()

    def inside(node: object, path: tuple[str, ...], owner: str) -> Iterator[_Found]:
        if len(path) > MOST_LEVELS:
            raise DataError(f"a checkpoint must nest at most {MOST_LEVELS} levels, got more")
        if isinstance(node, PickledArray) and any(map(_is_nest, node.objects or ())):
            node = node.objects if node.shape else (node.objects or [None])[0]
        if isinstance(node, Tensor | PickledArray | np.ndarray):
            yield _Found(".".join(path) or "array", node, owner)
        elif (vectors := _stacked(node)) is not None:
            yield _Found(".".join(path) or "vectors", vectors, owner)
        elif isinstance(node, Mapping | list | tuple | Placeholder) and id(node) not in seen:
            seen.add(id(node))
            name = type(node).__name__ if isinstance(node, Placeholder) else owner
            for key, value in _children(node):
                yield from inside(value, (*path, _named(key)) if key != "" else path, name)

    return inside(loaded, (), "")


def _named(key: object) -> str:
    if len(name := str(key)) > _LONGEST_NAME:
        raise DataError(f"a name must have at most {_LONGEST_NAME} letters, got '{name[:40]}…'")
    return name


def is_of_pandas(value: object) -> bool:
    """Say whether an object is one of pandas, whose blocks of numbers lie across."""
    return str(type(value).__module__).partition(".")[0] == "pandas"


def _is_nest(value: object) -> bool:
    """Whether an object in an array is a table, or holds some."""
    return isinstance(value, Mapping | Tensor) or (
        isinstance(value, PickledArray) and len(value.shape) == 2
    )


def _children(node: Any) -> Iterator[tuple[object, object]]:  # noqa: ANN401
    if isinstance(node, Mapping):
        yield from node.items()
    elif isinstance(node, list | tuple):
        yield from enumerate(node)
    elif any(isinstance(node.__dict__.get(group), Mapping) for group in _MODULE):
        for group in _MODULE:
            members = node.__dict__.get(group)
            if isinstance(members, Mapping):
                yield from members.items()
    elif not is_of_pandas(node):
        yield from ((k, v) for k, v in node.__dict__.items() if k not in _OWN)
        if not isinstance(node.__dict__.get("state"), Mapping):
            yield ("", node.__dict__.get("state"))


def _stacked(node: Any) -> np.ndarray | None:  # noqa: ANN401
    """Return vectors of one length, in a list or by the values they are of, as a matrix."""
    held = list(node.values()) if isinstance(node, Mapping) else node
    if not isinstance(held, list | tuple) or len(held) < 2 or len({*map(id, held)}) < len(held):
        return None  # one list many times over is no matrix, and can be of any size
    rows: list[Any] = [row.array if isinstance(row, PickledArray) else row for row in held]
    length = len(rows[0]) if isinstance(rows[0], list | tuple | np.ndarray) else 0
    if length < 2 or not all(_is_vector(row, length) for row in rows):
        return None
    return np.array(rows, dtype=np.float64)


def _is_vector(row: Any, length: int) -> bool:  # noqa: ANN401
    if isinstance(row, np.ndarray):
        return row.shape == (length,) and row.dtype.kind == "f"
    if not isinstance(row, list | tuple) or len(row) != length:
        return False
    return all(isinstance(number, int | float) for number in row)


def read_value(value: object) -> StoredTensor | str:
    """Return a tensor or array as one that is read by rows, or say why it is not."""
    if isinstance(value, PickledArray):
        if value.array is None:
            return value.reason
        value = value.array
    if isinstance(value, np.ndarray):
        return of_array(value)
    if not isinstance(value, Tensor):
        return "no tensor"
    return of_tensor(value)


def of_array(array: np.ndarray) -> StoredTensor | str:
    """Return an array as a stored tensor, in whatever order its bytes and rows lie."""
    if array.dtype.kind == "O":
        return "an array of Python objects"
    if array.dtype.kind == "c":
        return "complex numbers"
    if array.dtype.kind not in "fiub":
        return f"of type {array.dtype}"
    exact = (array.dtype.kind in "fib" and array.dtype.itemsize <= 8) or array.dtype == np.uint8
    kind = array.dtype.newbyteorder("=") if exact else np.dtype(np.float64)
    dtype = torch.from_numpy(np.zeros(1, dtype=kind)).dtype
    # A copy, because torch refuses byte orders and strides that NumPy can map.
    shape = tuple(array.shape)
    return StoredTensor(
        shape,
        dtype,
        lambda start, stop: torch.from_numpy(np.array(array[start:stop] if shape else array, kind)),
    )


def of_tensor(tensor: Tensor, *, overlapping: bool = False) -> StoredTensor | str:
    """Return a tensor as a stored one, or say why it has no rows to read.

    A file of a kilobyte can describe a table of a terabyte by numbers that `overlapping` rows
    share; in memory that is somebody's wish.
    """
    shards: Any = getattr(tensor, "local_shards", None)
    if shards is not None:  # TorchRec's
        return "one process's part of a tensor: gather it, or diagnose a distributed checkpoint"
    tensor = _whole(tensor.detach())
    if tensor.is_complex():
        return "complex numbers"
    if tensor.is_quantized:
        return StoredTensor.of(tensor.dequantize())  # of one that has a scale a row, no part can be
    if tensor.is_meta or tensor.is_nested or tensor.layout != torch.strided:
        what = "on no device" if tensor.is_meta else "sparse or nested: store it dense"
        return f"a tensor that is {what}"
    if not overlapping and tensor.untyped_storage().nbytes() < tensor.numel() * tensor.itemsize:
        return "a tensor whose numbers overlap"
    return StoredTensor.of(tensor)


def _shape(value: Any) -> tuple[int, ...]:  # noqa: ANN401
    try:
        return tuple(value.shape)
    except RuntimeError:  # a nested tensor has none
        return ()


def _whole(tensor: Any) -> Tensor:  # noqa: ANN401
    """Return a tensor that is spread over processes as the whole of it (DTensor)."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def _repeated(found: list[tuple[_Found, StoredTensor | str]]) -> dict[str, str]:
    """Return the other names of tensors that have several, each with the one to keep."""
    names: dict[tuple[object, ...], list[str]] = {}
    for of, value in found:
        if isinstance(of.value, Tensor) and isinstance(value, StoredTensor) and of.value.numel():
            where = (of.value.data_ptr(), tuple(of.value.shape), of.value.stride())
            names.setdefault(where, []).append(of.name)
    again = {}
    for same in names.values():
        kept = next((name for name in same if is_like_a_table(name)), same[0])
        again |= {name: kept for name in same if name != kept}
    return again
