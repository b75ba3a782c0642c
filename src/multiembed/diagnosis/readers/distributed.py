"""Reads PyTorch's distributed checkpoints (a directory of .distcp files) without a process group.

The directory's `.metadata` says which file holds which part of which tensor. It is a pickle, so
it goes through the restricted reader; every part is then a small file of tensors inside a larger
one, and only the parts that hold the rows asked for are in memory.
"""

import io
import itertools
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate
from operator import gt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.pickled_arrays import is_shape
from multiembed.diagnosis.readers.pickles import load_pickle
from multiembed.diagnosis.readers.table import StoredTensor
from multiembed.diagnosis.readers.torch_files import load_torch

_MOST_AXES = 8


@dataclass(frozen=True)
class _Part:
    """A rectangle of a tensor, and where its bytes lie."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    file: Path
    start: int
    length: int

    def load(self) -> Tensor:
        """Read the rectangle."""
        with self.file.open("rb") as file:
            file.seek(self.start)
            tensor = load_torch(io.BytesIO(file.read(self.length)), f"{self.file}, a part")
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != self.sizes:
            raise DataError(f"{self.file}: a part must be {self.sizes}, got another")
        return tensor


@dataclass
class _ShardedTensor:
    """Puts rows together from the parts that hold them, keeping those parts for the next rows."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    parts: list[_Part]
    held: dict[_Part, Tensor] = field(default_factory=dict)

    def read(self, start: int, stop: int) -> Tensor:
        """Return the rows from `start` to before `stop`."""
        rows = torch.empty((stop - start, *self.shape[1:]), dtype=self.dtype)
        needed = [
            p for p in self.parts if p.offsets[0] < stop and p.offsets[0] + p.sizes[0] > start
        ]
        self.held = {part: self.held[part] if part in self.held else part.load() for part in needed}
        for part, tensor in self.held.items():
            first, last = max(start, part.offsets[0]), min(stop, part.offsets[0] + part.sizes[0])
            others = [
                slice(offset, offset + size)
                for offset, size in zip(part.offsets[1:], part.sizes[1:], strict=True)
            ]
            target = rows[(slice(first - start, last - start), *others)]
            target.copy_(tensor[first - part.offsets[0] : last - part.offsets[0]])
        return rows


def read_distributed(folder: Path) -> dict[str, StoredTensor]:
    """Return every tensor of a distributed checkpoint, unread.

    Raises:
        DataError: If a tensor's parts do not make it whole, each row once.
    """
    metadata: Any = load_pickle(folder / ".metadata")
    try:
        files = {
            (index.fqn, _whole(index.offset)): info
            for index, info in _pairs(metadata.storage_data)
            if vars(index).get("offset") is not None  # else bytes of a Python object
        }
        return {
            name: _stored(folder, name, entry, files)
            for name, entry in _pairs(metadata.state_dict_metadata)
            if "chunks" in vars(entry) and len(entry.size) > 0
        }
    except DataError:
        raise
    except Exception as error:  # what a foreign pickle holds can lack anything
        raise DataError(f"{folder}/.metadata: must list tensors and their files") from error


def _pairs(mapping: object) -> Iterable[tuple[Any, Any]]:
    if not isinstance(mapping, dict):
        raise TypeError("a mapping must be one")
    return mapping.items()


def _whole(numbers: Any) -> tuple[int, ...]:  # noqa: ANN401
    if not is_shape(found := tuple(numbers)):
        raise TypeError("sizes must be whole numbers")
    return found


def _stored(folder: Path, name: str, entry: Any, files: dict[Any, Any]) -> StoredTensor:  # noqa: ANN401
    shape, parts = _whole(entry.size), []
    for chunk in entry.chunks:
        offsets, sizes = _whole(chunk.offsets), _whole(chunk.sizes)
        info = files.get((name, offsets))
        place = folder / ("" if info is None else info.relative_path)
        if info is None or place.parent != folder or not place.is_file():
            rows = f"rows {offsets[0]:,} to {offsets[0] + sizes[0] - 1:,}"
            raise DataError(
                f"{folder}: must hold all parts of '{name}', got one missing that holds {rows}"
            )
        start, length = _whole((info.offset, info.length))
        parts.append(_Part(offsets, sizes, place, start, length))
    problem = _untiled(shape, parts)
    if problem:
        raise DataError(f"{folder}: the parts of '{name}' must make up its {shape}, got {problem}")
    tensor = _ShardedTensor(shape, _dtype(entry.properties), parts)
    return StoredTensor(shape, tensor.dtype, tensor.read)


def _untiled(shape: tuple[int, ...], parts: list[_Part]) -> str:
    """Say what keeps parts from making up a tensor, each number once; nothing if they do.

    Where every row has as many numbers as it should, and every corner of a part is that of an even
    number of parts but for the tensor's own, no number is missing or in two parts.
    """
    if len(shape) > _MOST_AXES:
        return f"more than {_MOST_AXES} axes"
    changes: Counter[int] = Counter()
    corners: set[tuple[int, ...]] = set()
    for number, part in enumerate((None, *parts)):
        starts, sizes = ((0,) * len(shape), shape) if part is None else (part.offsets, part.sizes)
        stops = tuple(start + size for start, size in zip(starts, sizes, strict=True))
        if len(stops) != len(shape) or any(map(gt, stops, shape)):
            return f"one that reaches beyond it, at {list(starts)} of {list(sizes)}"
        area = math.prod(sizes[1:])
        changes[starts[0]] += area if number else -area
        changes[stops[0]] -= area if number else -area
        if 0 not in sizes:
            corners ^= set(itertools.product(*zip(starts, stops, strict=True)))
    rows = sorted(changes)
    for first, stop, level in zip(rows, rows[1:], accumulate(map(changes.get, rows)), strict=False):
        if level:
            said = "in two parts" if level > 0 else "not all in a part"
            return f"rows {first:,} to {stop - 1:,} {said}"
    return "parts that overlap" if corners else ""


def _dtype(properties: Any) -> torch.dtype:  # noqa: ANN401
    # the class writes its own state: a tuple whose first member is the dtype
    state = properties.state
    dtype = state[0] if isinstance(state, tuple) else state["dtype"]
    if not isinstance(dtype, torch.dtype):
        raise TypeError("a tensor must have a type of its numbers")
    return dtype
