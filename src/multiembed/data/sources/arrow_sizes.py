"""How large compressed Arrow files become in memory, by what stands before each of their buffers.

pyarrow takes the memory that a buffer claims to need before it looks at it, and says nothing of it
beforehand. What it does not say is read here from the file's flatbuffers (Message.fbs, File.fbs).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_MARK = b"\xff\xff\xff\xff"
_END = b"ARROW1"
_DICTIONARY, _BATCH = 2, 3
"""Of the kinds of messages, those that have buffers."""


def unpacked_sizes(path: Path) -> Iterator[int]:
    """Yield how many bytes every compressed batch of a file or stream takes once it is unpacked.

    Raises:
        OSError: If it cannot be read. A broken file may give any numbers.
    """
    with path.open("rb") as file:
        places = _of_file(file) if file.read(6) == _END else _of_stream(file)
        for metadata, body in places:
            yield _unpacked(file, metadata, body)


def _of_file(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    end = file.seek(-10, 2)
    length = _number(file.read(4), 0)
    file.seek(max(0, end - length))
    footer = file.read(max(0, length))
    for slot in (2, 3):
        for block in _items(footer, _follow(footer, 0), slot, 24):
            start, size = _number(block, 0, 8), _number(block, 8)
            file.seek(max(0, start))
            metadata = file.read(max(0, size))
            yield metadata[8 if metadata.startswith(_MARK) else 4 :], start + size


def _of_stream(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    body = 0
    while True:
        file.seek(body)
        size = file.read(4)
        size = _number(file.read(4) if size == _MARK else size, 0)
        metadata = file.read(max(0, size))
        if not metadata:
            return
        body = file.tell()
        yield metadata, body
        body += max(0, _value(metadata, _follow(metadata, 0), 3, 8))


def _unpacked(file: BinaryIO, metadata: bytes, body: int) -> int:
    message = _follow(metadata, 0)
    kind = _value(metadata, message, 1, 1)
    batch = _field(metadata, message, 2)
    if kind == _DICTIONARY and batch:
        batch = _field(metadata, _follow(metadata, batch), 1)
    if kind not in (_DICTIONARY, _BATCH) or not batch:
        return 0
    batch = _follow(metadata, batch)
    if not _field(metadata, batch, 3):
        return 0
    found = 0
    for buffer in _items(metadata, batch, 2, 16):
        packed = _number(buffer, 8, 8)
        if packed > 0:  # else nothing stands before it
            file.seek(max(0, body + _number(buffer, 0, 8)))
            found += max(packed, _number(file.read(8), 0, 8))
    return found


def _items(data: bytes, table: int, slot: int, size: int) -> list[bytes]:
    """Return the structs of a vector."""
    place = _field(data, table, slot)
    if not place:
        return []
    vector = _follow(data, place)
    first, count = vector + 4, max(0, _number(data, vector))
    return [data[at : at + size] for at in range(first, min(first + count * size, len(data)), size)]


def _field(data: bytes, table: int, slot: int) -> int:
    """Return where a field of a table lies, 0 where it is left out."""
    names = table - _number(data, table)
    known = 4 + 2 * slot < _number(data, names, 2)
    offset = _number(data, names + 4 + 2 * slot, 2) if known else 0
    return table + offset if offset else 0


def _value(data: bytes, table: int, slot: int, size: int) -> int:
    place = _field(data, table, slot)
    return _number(data, place, size) if place else 0


def _follow(data: bytes, place: int) -> int:
    return place + _number(data, place)


def _number(data: bytes, place: int, size: int = 4) -> int:
    return int.from_bytes(data[place : place + size], "little", signed=True) if place >= 0 else 0
