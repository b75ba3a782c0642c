"""Compressed files, unpacked piece by piece: little can become very much."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

_KINDS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
_PIECE = 2**20


def is_compressed(head: bytes) -> bool:
    """Say whether a file that begins so is compressed by gzip, bzip2, xz or zlib."""
    return head.startswith(tuple(_KINDS)) or _is_zlib(head)


def _is_zlib(head: bytes) -> bool:
    """Say whether a file is a zlib stream, as joblib writes it."""
    return head[:1] == b"\x78" and int.from_bytes(head[:2], "big") % 31 == 0


def unpacked(path: Path, head: bytes) -> Iterator[bytes]:
    """Yield what is compressed, about a mebibyte at once.

    Raises:
        Exception: Of any kind, if it is broken.
    """
    if not _is_zlib(head):
        unpack = next(of for start, of in _KINDS.items() if head.startswith(start))
        with unpack(path, "rb") as file:
            yield from iter(partial(file.read, _PIECE), b"")
        return
    stream, content = zlib.decompressobj(), path.read_bytes()
    while not stream.eof:
        yield stream.decompress(content, _PIECE)
        content = stream.unconsumed_tail
        if not (content or stream.eof):
            raise EOFError("the file ends within what is compressed")
