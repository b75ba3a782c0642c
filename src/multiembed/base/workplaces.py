"""Places that one process at a time writes to, and what it makes there in another's stead."""

import ctypes
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from multiembed.base.errors import ConfigError, WriteError
from multiembed.base.files import local_path, make_folder, rename, sync, sync_all

LOCK = "lock"
_LONGEST = 200
"""Bytes of a name that a longer one can be made of."""
_EXCHANGE = 2
"""`RENAME_EXCHANGE` of Linux."""


@contextmanager
def locked(
    file: Path, *, subject: Path, busy: str = "is in use by another process"
) -> Iterator[None]:
    """Hold the lock that is kept in `file`, or fail at once; it ends with its process.

    Args:
        file: Created if it is not there; it stays, with what is in it.
        subject: What the lock keeps others from, for the message.
        busy: What the message says of it while another process has the lock.

    Raises:
        ConfigError: If another process has it.
        WriteError: If the file cannot be written.
    """
    if file.is_symlink():
        raise ConfigError(f"{file} must be a lock file, got a symbolic link")
    lock = FileLock(file)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ConfigError(f"{subject} {busy}") from None
    except OSError as error:
        raise WriteError(subject, error.strerror or str(error)) from None
    try:
        yield
    finally:
        lock.release()


def workplace_of(target: Path) -> Path:
    """Return the directory beside `target` in which what will stand there is prepared."""
    name = target.name
    if len(os.fsencode(name)) > _LONGEST:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return target.with_name(f".{name}.multiembed")


@contextmanager
def workplace(target: Path, *, busy: str) -> Iterator[Path]:
    """Lend that directory to one process at a time; it stays while there is something in it.

    Args:
        target: What is to be written.
        busy: What the message says of it while another process is at it.

    Raises:
        ConfigError: If another process has it.
        WriteError: If nothing can be written there.
    """
    place = workplace_of(local_path(target))
    make_folder(place)
    if place.is_symlink():
        raise WriteError(target, f"a link at {place}")
    finished = False
    with locked(place / LOCK, subject=target, busy=busy):
        replaced = place / "replaced"
        if replaced.exists() and not os.path.lexists(target):
            os.replace(replaced, target)  # a kill came between two renames
        shutil.rmtree(replaced, ignore_errors=True)  # or right after them
        try:
            yield place
            finished = True
        finally:
            if finished or os.listdir(place) == [LOCK]:
                shutil.rmtree(place, ignore_errors=True)


def replace_folder(new: Path, target: Path) -> None:
    """Give a finished directory the name of one that may be there; the old one then goes.

    Whoever opens `target` meanwhile finds the old or the new, where the system can exchange names;
    elsewhere neither for a moment, and `workplace` puts back what a kill left in it then.
    """
    if not os.path.lexists(target):
        rename(new, target)
        return
    sync_all(new)
    try:
        if not _exchange(new, target):
            replaced = new.with_name("replaced")
            os.replace(target, replaced)
            os.replace(new, target)
            new = replaced
    except OSError as error:
        raise WriteError(target, error.strerror or str(error)) from None
    sync(target.parent)
    shutil.rmtree(new, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step, where the system can."""
    if sys.platform != "linux":
        return False
    names = os.fsencode(os.path.abspath(one)), os.fsencode(os.path.abspath(other))
    try:
        return ctypes.CDLL(None).renameat2(-1, names[0], -1, names[1], _EXCHANGE) == 0
    except (OSError, AttributeError):
        return False
