"""Reads vectors of words: word2vec and GloVe, as text and binary, and fastText's models."""

import mmap
import re
import struct
from io import BufferedReader
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.array_files import rows_of_file
from multiembed.diagnosis.readers.frame_files import check_cells
from multiembed.diagnosis.readers.nested import of_array
from multiembed.diagnosis.readers.table import Contents, StoredTensor

HEADER = re.compile(rb"(\d+) (\d+)\s*\n")
FASTTEXT = struct.pack("<i", 793712314)
"""How a model of fastText begins."""
_FLOATS = rb"(?:\s+[-+]?(?:\d+\.?\d*|\.\d+|nan|inf)(?:[eE][-+]?\d+)?){2,}\s*"
_WORD_LINE = re.compile(rb"\S+" + _FLOATS + rb"$")


def is_word_text(head: bytes) -> bool:
    """Say whether a file that begins so is text: after a heading or not, a word and its vector."""
    lines = head.split(b"\n")
    first = lines[1] if HEADER.match(head) and len(lines) > 1 else lines[0]
    return b"," not in first and _WORD_LINE.match(first) is not None


def is_word_binary(head: bytes) -> bool:
    """Say whether a file that begins so is word2vec's binary form."""
    return HEADER.match(head) is not None and not is_word_text(head)


def read_word_text(path: Path) -> Contents:
    """Read a word and its numbers a line."""
    with path.open("rb") as file:
        header = HEADER.match(file.readline(100))
    check_cells(path, " ")
    try:
        frame = pl.read_csv(
            path.read_bytes(),
            separator=" ",
            quote_char=None,
            has_header=False,
            skip_rows=1 if header else 0,
            infer_schema_length=None,
        )
        frame = frame[[c for c in frame.columns if frame[c].null_count() < frame.height]]
        matrix = frame[:, 1:].cast(pl.Float64).to_numpy() if frame.width > 2 else None
        first = frame.to_series(0)
        if matrix is not None and not header and first.dtype.is_float():
            matrix = frame.to_numpy()  # no words: numbers alone, as NumPy writes them
        if matrix is None or np.isnan(matrix).any():
            matrix = _slowly(path, header)
    except Exception:  # polars fails in many ways on words with spaces in them
        matrix = _slowly(path, header)
    if header and matrix.shape != (int(header[1]), int(header[2])):
        raise DataError(
            f"{path} must hold {int(header[1])} vectors of {int(header[2])} numbers, as its first "
            f"line says, got {matrix.shape[0]} of {matrix.shape[1]}"
        )
    return _one(path, of_array(matrix))


def _slowly(path: Path, header: re.Match[bytes] | None) -> np.ndarray:
    """Split every line from its end: what is left is the word."""
    with path.open("rb") as file:
        lines = file.read().split(b"\n")
    rows, dim = [], 0
    for number, line in enumerate(lines[1 if header else 0 :], start=2 if header else 1):
        if not line.strip():
            continue
        dim = dim or (int(header[2]) if header else len(line.split()) - 1)
        numbers = line.split()[-dim:]
        try:
            rows.append(np.array(numbers, dtype=np.float64))
        except ValueError as error:
            raise DataError(f"{path}: line {number} must be a word and {dim} numbers") from error
        if len(numbers) < dim:
            raise DataError(f"{path}: line {number} must be a word and {dim} numbers")
    return np.array(rows)


def read_word_binary(path: Path) -> Contents:
    """Read word2vec's binary form; vectors stay in the file until they are asked for."""
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    header = HEADER.match(content[:100])
    assert header is not None, "the kind of file was told by its heading"
    count, dim = int(header[1]), int(header[2])
    if not count or not dim:
        raise DataError(f"{path} must hold vectors, got {count} of {dim} numbers")
    size, at = 4 * dim, header.end()
    starts = []
    for word in range(count):
        space = content.find(b" ", at)
        if space < 0 or space + 1 + size > len(content):
            raise DataError(f"{path} must hold {count} vectors of {dim} numbers, got {word}")
        starts.append(space + 1)
        at = space + 1 + size

    def read(start: int, stop: int) -> Tensor:
        data = b"".join(content[s : s + size] for s in starts[start:stop])
        return torch.from_numpy(np.frombuffer(data, "<f4").reshape(-1, dim).copy())

    return _one(path, StoredTensor((count, dim), torch.float32, read))


def read_fasttext(path: Path) -> Contents:
    """Read the words' rows and those of character n-grams from a model of fastText."""
    try:
        with path.open("rb") as file:
            _, version = struct.unpack("<ii", file.read(8))
            file.read(12 * 4 + 8)  # its arguments: twelve whole numbers and a float64
            size, words, _, _, pruned = struct.unpack("<iiiqq", file.read(28))
            _skip_words(file, size)
            file.seek(8 * max(0, pruned), 1)
            if file.read(1) != b"\0":
                raise DataError(f"{path} must be a full model, got a quantised one (.ftz)")
            rows, dim = struct.unpack("<qq", file.read(16))
            start = file.tell()
    except DataError:
        raise
    except (struct.error, OSError, ValueError) as error:
        raise DataError(f"{path}: must be a whole model of fastText, got a broken one") from error
    if version != 12 or not (0 < words <= rows and dim > 0):
        raise DataError(f"{path}: must be a whole model of fastText, version 12")
    matrix = rows_of_file(path, (rows, dim), torch.float32, start)
    tensors = {"words": matrix.block(0, words)}
    if rows > words:
        tensors["ngrams"] = matrix.block(words, rows)
    return Contents(tensors=tensors, tables=frozenset(tensors))


def _skip_words(file: BufferedReader, size: int) -> None:
    """Go on behind so many words, each of which ends in a zero, a count and a kind."""
    for _ in range(size):
        while (byte := file.read(1)) != b"\0":
            if not byte:
                raise ValueError("the file ends within its words")
        file.read(9)


def _one(path: Path, stored: StoredTensor | str) -> Contents:
    if isinstance(stored, str):
        raise DataError(f"{path} must hold numbers, got {stored}")
    return Contents(tensors={path.stem: stored}, tables=frozenset([path.stem]))
