"""The bytes of a file, decompressed where it is compressed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pyarrow as pa

MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
"""How compressed files begin."""
SKIPPED = 1 << 24


class ByteStream:
    """Bytes in order, and how far into the file they reach."""

    def __init__(self, raw: IO[bytes], content: IO[bytes] | pa.NativeFile) -> None:
        self._raw = raw
        self._content = content

    @property
    def position(self) -> int:
        """Bytes of the file read so far, as they lie on disk."""
        return self._raw.tell()

    def read(self, size: int) -> bytes:
        """Return the next bytes, fewer only at the end."""
        return self._content.read(size)

    def skip(self, size: int) -> None:
        """Leave out so many bytes; compressed ones must be read for that."""
        if self._content is self._raw:
            self._raw.seek(size)
            return
        while size > 0:
            size -= len(self.read(min(size, SKIPPED))) or size


@contextmanager
def open_bytes(file: Path) -> Iterator[ByteStream]:
    """Open a file as it is, or through gzip or zstd if its first bytes say so."""
    with file.open("rb") as raw:
        kind = compression(raw.read(4))
        raw.seek(0)
        if kind is None:
            yield ByteStream(raw, raw)
            return
        with pa.CompressedInputStream(pa.PythonFile(raw, "r"), kind) as content:
            yield ByteStream(raw, content)


def compression(first: bytes) -> str | None:
    """Tell gzip and zstd by the first bytes of a file."""
    return next((kind for magic, kind in MAGIC.items() if first.startswith(magic)), None)
