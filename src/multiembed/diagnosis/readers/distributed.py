"""Reads PyTorch's distributed checkpoints (a directory of .distcp files) without a process group.

The directory's `.metadata` says which file holds which part of which tensor. It is a pickle, so
it goes through the restricted reader; every part is then a small file of tensors inside a larger
one, and only the parts that hold the rows asked for are in memory.
"""

import io
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.pickles import load_pickle
from multiembed.diagnosis.readers.table import StoredTensor
from multiembed.diagnosis.readers.torch_files import load_torch


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
    """Return every tensor of a distributed checkpoint, unread."""
    metadata: Any = load_pickle(folder / ".metadata")
    try:
        files = {
            (index.fqn, tuple(index.offset)): info
            for index, info in metadata.storage_data.items()
            if vars(index).get("offset") is not None  # else bytes of a Python object
        }
        return {
            name: _stored(folder, name, entry, files)
            for name, entry in metadata.state_dict_metadata.items()
            if "chunks" in vars(entry) and len(entry.size) > 0
        }
    except (AttributeError, TypeError) as error:
        raise DataError(f"{folder}/.metadata: must list tensors and their files") from error


def _stored(folder: Path, name: str, entry: Any, files: dict[Any, Any]) -> StoredTensor:  # noqa: ANN401
    parts = []
    for chunk in entry.chunks:
        info = files.get((name, tuple(chunk.offsets)))
        if info is None or not (folder / info.relative_path).is_file():
            raise DataError(f"{folder}: must hold all parts of '{name}', got one missing")
        place = folder / info.relative_path
        part = _Part(tuple(chunk.offsets), tuple(chunk.sizes), place, info.offset, info.length)
        parts.append(part)
    shape = tuple(entry.size)
    if sum(math.prod(part.sizes) for part in parts) < math.prod(shape):
        raise DataError(f"{folder}: the parts of '{name}' must cover its {shape}, got less")
    tensor = _ShardedTensor(shape, _dtype(entry.properties), parts)
    return StoredTensor(shape, tensor.dtype, tensor.read)


def _dtype(properties: Any) -> torch.dtype:  # noqa: ANN401
    # the class writes its own state: a tuple whose first member is the dtype
    state = properties.state
    return state[0] if isinstance(state, tuple) else state["dtype"]
