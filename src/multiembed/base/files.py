"""Files that are whole or absent, and places that one process at a time writes to.

Everything that the package keeps goes through here: it is written under a name of its own beside
its target, brought to the disk, and renamed. A kill or a power cut leaves the old or the new, and
what has a partial name nobody reads.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from multiembed.base.errors import ConfigError, DataError

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
"""A path may have lost the second slash already; one letter is a drive of Windows."""


def local_path(path: Path | str) -> Path:
    """Return a path to write to, which is none on another machine.

    Raises:
        ConfigError: If it is a URL.
    """
    found = _URL.match(str(path))
    if found:
        url = f"{found[1]}://{str(path)[found.end() :].lstrip('/')}"
        raise ConfigError(f"{url} must be a path on this machine, got {found[1]}://")
    return Path(path)


def partial_name(target: Path) -> Path:
    """Return the name beside `target`, which is none on another machine, where it is written."""
    local_path(target)
    return target.with_name(target.name + ".partial")


def write_whole(target: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file of another name, then give it the name `target`."""
    partial = partial_name(target)
    write(partial)
    rename_whole(partial, target)


def write_text(target: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    write_whole(target, lambda to: to.write_text(text, encoding="utf-8"))


def rename_whole(partial: Path, target: Path) -> None:
    """Give a finished file or directory its name, in such an order that no power cut undoes it."""
    if partial.is_file():
        _sync(partial)  # content before name: else a power cut could leave an empty file of it
    os.replace(partial, target)
    _sync(target.parent)  # the name is content of the directory


def replace_folder(partial: Path, target: Path) -> None:
    """Give a finished directory the name of one that may be there; the old one then goes."""
    # No system renames over a directory that holds files, so the old one steps aside first.
    replaced = target.with_name(target.name + ".replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if target.exists():
        os.replace(target, replaced)
    rename_whole(partial, target)
    shutil.rmtree(replaced, ignore_errors=True)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Lend a directory beside `target`, and give it that name when all went well, else delete it.

    Raises:
        DataError: If `target` is there already, or cannot be written.
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise DataError(f"{target} must be a new directory, got one that is there")
    partial = partial_name(target)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        rename_whole(partial, target)
    except OSError as error:
        raise DataError(f"{target} must be writable, got: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def lock_of(file: Path, *, subject: Path, busy: str = "is in use by another process") -> FileLock:
    """Take the lock that is kept in `file`, or fail at once; it ends with its process.

    Args:
        file: Created if it is not there; it stays.
        subject: What the lock keeps others from, for the message.
        busy: What the message says of it while another process has the lock.

    Raises:
        ConfigError: If another process has it, or the file cannot be written.
    """
    lock = FileLock(file)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ConfigError(f"{subject} {busy}") from None
    except OSError as error:
        raise ConfigError(f"{subject} must be writable, got: {error.strerror}") from None
    return lock


def _sync(path: Path) -> None:
    """Bring a file, or the names in a directory, to the disk, where the system can."""
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR
    with suppress(OSError):  # Windows opens no directories, and some file systems sync none
        descriptor = os.open(path, flags)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
