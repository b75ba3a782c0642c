"""Where a diagnosis comes from: version, date, and the files that were read, with their hashes."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from threading import Thread

HASHED = 50 * 2**30
"""Bytes up to which files are hashed, all together: half a minute of one core."""


@dataclass(frozen=True, kw_only=True)
class OriginFile:
    """One file that was read, or lay where a directory was read."""

    name: str
    """Relative to the directory that was given; a file's own name."""
    bytes: int
    sha256: str | None
    """`None` where it was not computed: the files are larger than `HASHED`, or one was locked."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What was read, when, and by what."""

    version: str
    """Of this package."""
    date: str
    """When reading began, in UTC (ISO 8601)."""
    command: str | None
    """The command line; `None` where a program called."""
    files: tuple[OriginFile, ...]
    """By name; empty for tables in memory."""


def origin_of(source: object) -> Callable[[], Origin]:
    """Begin to hash files beside whatever reads them; the function returned waits for the hashes.

    Args:
        source: The path of a file or a directory; anything else is tables in memory.
    """
    path = Path(source) if isinstance(source, str | Path) else None
    found = Origin(
        version=version("multiembed"),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        command=None,
        files=tuple(_sizes(path)),
    )
    if path is None or sum(file.bytes for file in found.files) > HASHED:
        return lambda: found
    folder = path if path.is_dir() else path.parent
    hashed: list[OriginFile] = []

    def hash_all() -> None:
        hashed.extend(replace(file, sha256=_sha256(folder / file.name)) for file in found.files)

    worker = Thread(target=hash_all, daemon=True)  # must not outlive a reader's mistake
    worker.start()

    def whole() -> Origin:
        worker.join()
        return replace(found, files=tuple(hashed))

    return whole


def _sizes(path: Path | None) -> Iterator[OriginFile]:
    """Yield the files at a path, not hashed yet; what cannot be read is the readers' matter."""
    if path is None or not path.exists():
        return
    inside = sorted(path.rglob("*")) if path.is_dir() else [path]
    folder = path if path.is_dir() else path.parent
    for file in inside:
        with suppress(OSError):  # it may be gone by now
            if file.is_file():
                name = file.relative_to(folder).as_posix()
                yield OriginFile(name=name, bytes=file.stat().st_size, sha256=None)


def _sha256(file: Path) -> str | None:
    try:
        with open(file, "rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError:
        return None
