"""Reads ONNX models: what a Gather looks rows up in is a table.

A model is a message of protocol buffers: numbered fields, each a number or so many bytes. Only
those few are looked at that name tensors and what becomes of them.
"""

import math
import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.array_files import rows_of_file
from multiembed.diagnosis.readers.nested import of_array
from multiembed.diagnosis.readers.pickled_arrays import is_shape
from multiembed.diagnosis.readers.table import Contents, Skipped, StoredTensor

_TYPES = {
    **{1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32},
    **{7: torch.int64, 10: torch.float16, 11: torch.float64, 16: torch.bfloat16},
}
_START = re.compile(rb"\x08[\x01-\x20](?:[\x12\x1a\x22\x2a\x32\x3a\x42]|\x28)", re.DOTALL)
_PASSING = frozenset(("Identity", "Cast", "DequantizeLinear"))
"""Operations between a table and its Gather that leave its rows where they are."""
_ROUTES = frozenset(("Gather", "GatherND"))
_GRAPH, _NODE, _INITIALISER = 7, 1, 5
_ATTRIBUTE, _TENSOR, _INNER, _INNERS = 5, 5, 6, 11
_DIMS, _KIND, _FLOATS, _NAME, _RAW, _DOUBLES, _OUTSIDE = 1, 2, 4, 8, 9, 10, 13


class _Node(NamedTuple):
    """One operation of a graph."""

    kind: str
    inputs: list[str]
    outputs: list[str]


def is_onnx(head: bytes) -> bool:
    """Say whether a file may be a model of ONNX: its version comes first."""
    return _START.match(head) is not None


def read_onnx(path: Path) -> Contents:
    """Name the tensors of a model; those that a Gather reads are its tables."""
    with path.open("rb") as file:
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    try:
        [graph] = [value for number, value in _fields(content) if number == _GRAPH]
        graphs = [*_graphs(graph)]
        held = (at for part in graphs for at in _of(part, _INITIALISER))
        initialisers = dict(_tensor(path, content, at) for at in held)
        messages = [message for part in graphs for message in _of(part, _NODE)]
        nodes = [_node(message) for message in messages]
        for node, message in zip(nodes, messages, strict=True):
            if node.kind == "Constant":  # where some exporters put weights
                for value in (at for of in _of(message, _ATTRIBUTE) for at in _of(of, _TENSOR)):
                    initialisers[node.outputs[0]] = _tensor(path, content, value)[1]
    except DataError:
        raise
    except (ValueError, ArithmeticError, LookupError, TypeError, RuntimeError) as error:
        raise DataError(f"{path}: must be a whole ONNX model, got a broken one") from error
    read = _gathered(nodes)
    tensors = {n: t for n, t in initialisers.items() if isinstance(t, StoredTensor) and t.shape}
    tables = frozenset(n for n in tensors if n in read and len(tensors[n].shape) == 2)
    reasons = {n: "no Gather reads rows of it" for n in tensors if n not in read}
    skipped = [Skipped(n, (), t) for n, t in initialisers.items() if isinstance(t, str)]
    return Contents(tensors=tensors, tables=tables, reasons=reasons, skipped=tuple(skipped))


def _gathered(nodes: list[_Node]) -> set[str]:
    """Return what is looked up in by ids, directly or through operations that keep rows."""
    made = {output: node for node in nodes for output in node.outputs}
    read = set()
    for node in nodes:
        source = node.inputs[0] if node.kind in _ROUTES and node.inputs else None
        while source in made and made[source].kind in _PASSING:
            source = made[source].inputs[0]
        if source is not None:
            read.add(source)
    return read


def _fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """Yield number and value of every field of a message: a whole number, or bytes."""
    at = 0
    while at < len(message):
        key, at = _number(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _number(message, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, at = message[at : at + size], at + size
        elif kind == 2:
            length, at = _number(message, at)
            if at + length > len(message):
                raise ValueError("a field ends beyond its message")
            value, at = message[at : at + length], at + length
        else:
            raise ValueError(f"no kind of field: {kind}")
        yield key >> 3, value


def _number(message: memoryview, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _of(message: memoryview, wanted: int) -> list[memoryview]:
    return [value for number, value in _fields(message) if number == wanted]


def _graphs(graph: memoryview) -> Iterator[memoryview]:
    """Yield a graph and those inside it, of loops and branches."""
    yield graph
    for node in _of(graph, _NODE):
        for attribute in _of(node, _ATTRIBUTE):
            for number, value in _fields(attribute):
                if number in (_INNER, _INNERS):
                    yield from _graphs(value)


def _node(message: memoryview) -> _Node:
    fields = list(_fields(message))
    text = {n: [str(v, "utf-8") for number, v in fields if number == n] for n in (1, 2, 4)}
    return _Node((text[4] or [""])[0], text[1], text[2])


def _tensor(path: Path, content: memoryview, message: memoryview) -> tuple[str, StoredTensor | str]:
    """Return a tensor's name, and the tensor or why it is not read."""
    found: dict[int, list[Any]] = {}
    for number, value in _fields(message):
        found.setdefault(number, []).append(value)
    name = str(found.get(_NAME, [b""])[0], "utf-8")
    shape = tuple(_wholes(found.get(_DIMS, [])))
    kind = found.get(_KIND, [0])[0]
    if kind not in _TYPES or not is_shape(shape):
        return name, f"of a type or shape that is not read ({kind})"
    dtype = _TYPES[kind]
    if _OUTSIDE in found:
        return name, _outside(path, shape, dtype, found[_OUTSIDE])
    for number, kind_of in ((_FLOATS, "<f4"), (_DOUBLES, "<f8")):
        if number in found:
            return name, of_array(np.frombuffer(b"".join(found[number]), kind_of).reshape(shape))
    data = found.get(_RAW, [b""])[0]
    if len(data) != math.prod(shape) * dtype.itemsize:
        return name, "not stored as plain bytes"
    a_row = math.prod(shape[1:]) * dtype.itemsize

    def read(start: int, stop: int) -> Tensor:
        rows = np.frombuffer(data[start * a_row : stop * a_row], np.uint8)
        return torch.from_numpy(rows.copy()).view(dtype).reshape(stop - start, *shape[1:])

    return name, StoredTensor(shape, dtype, read)


def _wholes(values: list[Any]) -> Iterator[int]:
    """Yield whole numbers that are written one by one, or packed."""
    for value in values:
        if isinstance(value, int):
            yield value
            continue
        at = 0
        while at < len(value):
            number, at = _number(value, at)
            yield number


def _outside(
    path: Path, shape: tuple[int, ...], dtype: torch.dtype, entries: list[Any]
) -> StoredTensor | str:
    """Return a tensor whose bytes lie in a file beside the model."""
    said = {}
    for entry in entries:
        fields = dict(_fields(entry))
        said[str(fields[1], "utf-8")] = str(fields.get(2, b""), "utf-8")
    place = (path.parent / said.get("location", "")).resolve()
    if place.parent != path.parent.resolve() or not place.is_file():
        return f"in a file that is not beside the model ({said.get('location', '')})"
    offset, size = int(said.get("offset", "0") or 0), math.prod(shape) * dtype.itemsize
    if offset < 0 or offset + size > place.stat().st_size:
        return f"beyond the end of {place.name}"
    return rows_of_file(place, shape, dtype, offset)
