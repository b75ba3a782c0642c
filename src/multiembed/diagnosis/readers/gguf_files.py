"""Reads the tensors of GGUF files.

Of packed ones, blocks of eight bits; token embeddings in other packings by the package gguf, where
it is installed.
"""

import importlib
import importlib.util
import struct
from io import BufferedIOBase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.array_files import rows_of_file
from multiembed.diagnosis.readers.table import Contents, Skipped, StoredTensor

_PLAIN = {0: torch.float32, 1: torch.float16, 28: torch.float64, 30: torch.bfloat16}
_EIGHT_BITS = 8
_BLOCK = np.dtype([("scale", "<f2"), ("codes", "i1", 32)])
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of the values of metadata, by their kind."""
_TEXT, _LIST = 8, 9
_TOKENS = "token_embd.weight"
_MOST_AXES = 4


def read_gguf(path: Path) -> Contents:
    """Name the tensors of a GGUF file; token embeddings are the table."""
    try:
        with path.open("rb") as file:
            listed, start = _header(path, file)
    except (struct.error, KeyError, ValueError, MemoryError, OverflowError, OSError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: must be a whole GGUF file, got a broken one") from error
    tensors: dict[str, StoredTensor] = {}
    skipped = []
    for name, shape, kind, offset in listed:
        if kind in _PLAIN:
            tensors[name] = rows_of_file(path, shape, _PLAIN[kind], start + offset)
        elif kind == _EIGHT_BITS and len(shape) == 2:
            tensors[name] = _blocks(path, shape, start + offset)
        elif name == _TOKENS and importlib.util.find_spec("gguf") is not None:
            tensors[name] = _unpacked(path, shape, kind, start + offset)
        else:
            skipped.append(Skipped(name, shape, f"packed in a way that is not read (kind {kind})"))
    tables = frozenset(name for name in tensors if name == _TOKENS)
    if not tables and any(item.name == _TOKENS for item in skipped):
        raise DataError(
            f"{path}: token embeddings must be F32, F16, BF16 or Q8_0, got another packing: "
            "pip install gguf reads it, llama-quantize --token-embedding-type f16 converts it"
        )
    return Contents(tensors=tensors, tables=tables, skipped=tuple(skipped))


class _Listed(NamedTuple):
    """A tensor as the header describes it."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


def _header(path: Path, file: BufferedIOBase) -> tuple[list[_Listed], int]:
    """Return name, shape, kind and place of every tensor, and where their numbers begin."""
    _, version, tensors, values = struct.unpack("<4sIQQ", file.read(24))
    if version not in (2, 3):
        raise DataError(f"{path}: GGUF must be of version 2 or 3, got {version}")
    alignment = 32
    for _ in range(values):
        key = _text(file)
        value = _value(file, *struct.unpack("<I", file.read(4)))
        if key == b"general.alignment" and isinstance(value, int) and value > 0:
            alignment = value
    listed = []
    for _ in range(tensors):
        name = _text(file).decode("utf-8", errors="replace")
        [axes] = struct.unpack("<I", file.read(4))
        if axes > _MOST_AXES:
            raise ValueError("too many axes")
        shape = struct.unpack(f"<{axes}Q", file.read(8 * axes))[::-1]
        kind, offset = struct.unpack("<IQ", file.read(12))
        listed.append(_Listed(name, shape, kind, offset))
    return listed, -(-file.tell() // alignment) * alignment


def _text(file: BufferedIOBase) -> bytes:
    [length] = struct.unpack("<Q", file.read(8))
    return file.read(length)


def _value(file: BufferedIOBase, kind: int) -> object:
    if kind == _TEXT:
        return _text(file)
    if kind == _LIST:
        inner, count = struct.unpack("<IQ", file.read(12))
        if inner == _TEXT:
            for _ in range(count):
                _text(file)
        else:
            file.seek(count * _SIZES[inner], 1)
        return None
    return int.from_bytes(file.read(_SIZES[kind]), "little")


def _blocks(path: Path, shape: tuple[int, ...], offset: int) -> StoredTensor:
    """Read rows of blocks of 32 numbers, each a code of eight bits times the block's scale."""
    a_row, left = divmod(shape[1], 32)
    end = offset + shape[0] * a_row * _BLOCK.itemsize
    if left or end > path.stat().st_size:
        raise DataError(f"{path} must be a whole file, got a tensor that is not within it")

    def read(start: int, stop: int) -> Tensor:
        place = offset + start * a_row * _BLOCK.itemsize
        blocks = np.fromfile(path, _BLOCK, count=(stop - start) * a_row, offset=place)
        rows = blocks["codes"] * blocks["scale"].astype(np.float32)[:, None]
        return torch.from_numpy(rows.reshape(stop - start, shape[1]))

    return StoredTensor(shape, torch.float32, read)


def _unpacked(path: Path, shape: tuple[int, ...], kind: int, offset: int) -> StoredTensor:
    """Read rows of a packing that the package gguf knows."""
    gguf: Any = importlib.import_module("gguf")
    packing = gguf.GGMLQuantizationType(kind)
    numbers, size = gguf.GGML_QUANT_SIZES[packing]
    a_row = shape[1] // numbers * size

    def read(start: int, stop: int) -> Tensor:
        place = offset + start * a_row
        data = np.fromfile(path, np.uint8, count=(stop - start) * a_row, offset=place)
        rows = gguf.quants.dequantize(data.reshape(stop - start, a_row), packing)
        return torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32))

    return StoredTensor(shape, torch.float32, read)
