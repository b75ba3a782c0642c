"""Zip files, looked through before anything in them is unpacked."""

import zipfile
from io import BytesIO
from pathlib import Path

from multiembed.base.errors import DataError

MOST_PACKED = 100
"""Bytes that one packed byte may become; weights that were trained hardly shrink at all."""
FREE_UNPACKED = 2**26
"""So much may be unpacked, however small it was packed."""


def check_unpacked(name: str, unpacked: int, packed: int) -> None:
    """Refuse what is far larger than what was stored of it.

    Raises:
        DataError: If it is.
    """
    if unpacked > max(FREE_UNPACKED, MOST_PACKED * packed):
        raise DataError(
            f"{name} must hold at most {MOST_PACKED} times what was stored of it, got "
            f"{unpacked:,} bytes packed into {packed:,}: write it without compression"
        )


def open_zip(file: Path | BytesIO, name: str) -> zipfile.ZipFile:
    """Open a zip file whose entries lie one behind the other, each name once.

    Args:
        file: Where it is.
        name: What messages call it.

    Raises:
        DataError: If it is none, or what it says of its entries cannot be.
    """
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{name} must be a whole zip file, got {error}") from error
    try:
        _check(archive, name)
    except DataError:
        archive.close()
        raise
    return archive


def _check(archive: zipfile.ZipFile, name: str) -> None:
    entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
    if not entries:
        raise DataError(f"{name} must hold something, got an empty zip file")
    if len(archive.NameToInfo) < len(entries):
        raise DataError(f"{name} must hold each name once, got one twice")
    ends = [*(entry.header_offset for entry in entries[1:]), archive.start_dir]
    for entry, end in zip(entries, ends, strict=True):
        if entry.header_offset < 0 or entry.header_offset + 30 + entry.compress_size > end:
            raise DataError(f"{name} must hold one entry behind the other, got some that overlap")
        if entry.flag_bits & 1:
            raise DataError(f"{name} must be readable, got an encrypted entry")
        if entry.compress_type == zipfile.ZIP_STORED and entry.file_size != entry.compress_size:
            raise DataError(f"{name} must hold what it says, got an entry of another size")
    unpacked = sum(entry.file_size for entry in entries)
    check_unpacked(name, unpacked, sum(entry.compress_size for entry in entries))
