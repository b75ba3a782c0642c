"""Reads the vectors of flat FAISS indexes; others keep only codes of them."""

import struct
from pathlib import Path

import torch

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.array_files import rows_of_file
from multiembed.diagnosis.readers.table import Contents

FLAT = (b"IxFI", b"IxF2", b"IxFl")
"""How flat indexes begin: by inner product, by distance, by another measure."""
_MAPPED = (b"IxMp", b"IxM2")
_OTHERS = tuple(b"Iv Iw IxP IxS IxT IxR IHN INS INN IxH IxL Im".split())


def is_index(head: bytes) -> bool:
    """Say whether a file that begins so is an index of FAISS."""
    other = head[:4].isalnum() and head.startswith(_OTHERS) and 0 in head[4:8]
    return head[:4] in (*FLAT, *_MAPPED) or other


def read_index(path: Path) -> Contents:
    """Read the vectors of a flat index, also of one that gives them ids."""
    try:
        with path.open("rb") as file:
            kind = file.read(4)
            if kind in _MAPPED:
                _header(file)
                kind = file.read(4)
            if kind not in FLAT:
                raise DataError(
                    f"{path} must be a flat FAISS index, got one of kind {kind!r}: write its "
                    "vectors by numpy.save(file, index.reconstruct_n(0, index.ntotal))"
                )
            dim, count = _header(file)
            [numbers] = struct.unpack("<Q", file.read(8))
            start = file.tell()
    except struct.error as error:
        raise DataError(f"{path}: must be a whole FAISS index, got a broken one") from error
    if dim < 0 or numbers != dim * count or start + 4 * numbers > path.stat().st_size:
        raise DataError(f"{path}: must hold {count} vectors of {dim}, got {numbers} numbers")
    matrix = rows_of_file(path, (count, dim), torch.float32, start)
    return Contents(tensors={path.stem: matrix}, tables=frozenset([path.stem]))


def _header(file) -> tuple[int, int]:  # noqa: ANN001
    """Read how many numbers a vector has, and how many vectors there are."""
    dim, count, _, _, _, metric = struct.unpack("<iqqq?i", file.read(33))
    if metric > 1:
        file.read(4)  # the metric's argument
    return dim, count
