"""Files and directories that are whole or absent.

Everything that the package keeps goes through here: it is written in a directory of its own beside
its target, which nobody else can have, brought to the disk, and renamed. A kill or a power cut
leaves the old or the new. What a kill leaves in such a directory nobody reads, and the next to
write beside it clears it away.
"""

import errno
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import lock_descriptor

from multiembed.base.errors import ConfigError, DataError, InputError, WriteError, system_error

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
"""A path may have lost the second slash already; one letter is a drive of Windows."""
_MOST_SMALL = 1 << 26
_TEMPORARY = re.compile(r"\.multiembed-[0-9a-f]{8}")


def local_path(path: Path | str) -> Path:
    """Return a path to write to, which is none on another machine.

    Raises:
        ConfigError: If it is a URL, or no UTF-8, which libraries cannot write to.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{path} must be UTF-8 to be written, got other bytes") from None
    found = _URL.match(str(path))
    if found:
        url = f"{found[1]}://{str(path)[found.end() :].lstrip('/')}"
        raise ConfigError(f"{url} must be a path on this machine, got {found[1]}://")
    return Path(path)


@contextmanager
def place_beside(target: Path) -> Iterator[Path]:
    """Lend the path `target.name` in a new directory beside it, which is this process's alone.

    It goes with what is in it.

    Raises:
        WriteError: If nothing can be written there.
    """
    stream = _is_stream(local_path(target))
    parent = Path(tempfile.gettempdir()) if stream else target.parent
    with ExitStack() as stack:
        with _refusing(target):
            folder = stack.enter_context(_private_folder(parent))
        yield folder / target.name


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """Lend a path for a file or directory, and give it the name `target` when all went well.

    A target that is no file of a disk, as `/dev/stdout`, is written to when all is there.

    Raises:
        WriteError: If it cannot be written, whichever library found out.
    """
    with _refusing(target), place_beside(target) as partial:
        yield partial
        if _is_stream(target):
            with partial.open("rb") as content, target.open("ab") as stream:
                shutil.copyfileobj(content, stream)
        else:
            rename(partial, target)


def read_small(file: Path) -> bytes:
    """Return what a file of settings or records holds, also if it is a pipe.

    Raises:
        OSError: If it cannot be read, or holds more than any such file: a device never ends.
    """
    with file.open("rb") as content:
        found = content.read(_MOST_SMALL + 1)
    if len(found) > _MOST_SMALL:
        raise OSError(errno.EFBIG, f"more than {_MOST_SMALL:,} bytes", str(file))
    return found


def write_whole(target: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file elsewhere, then give it the name `target`."""
    with whole(target) as partial:
        write(partial)


def write_text(target: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    write_whole(target, lambda to: to.write_text(text, encoding="utf-8"))


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Lend a directory beside `target`, and give it that name when all went well, else delete it.

    Raises:
        DataError: If `target` is there already, or cannot be written.
    """
    if os.path.lexists(target) and (target.is_symlink() or not _is_empty(target)):
        raise DataError(f"{target} must be a new directory, got one that is there")
    make_folder(target.parent)
    with whole(target) as partial:
        partial.mkdir()
        yield partial


def make_folder(folder: Path) -> None:
    """Make a directory, and those that it lies in, unless they are there.

    Raises:
        WriteError: If it cannot be made.
    """
    try:
        local_path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(folder, error.strerror or str(error)) from None


def first_foreign(folder: Path, is_own: Callable[[str], object]) -> str:
    """Return the first entry of a directory, by its path below it, that is not its owner's, or "".

    Args:
        folder: The directory; links below it are entries, and not followed.
        is_own: Says of a path below it, with `/` between its steps, whether it is.
    """
    below: list[str] = []
    for root, folders, files in os.walk(folder):
        step = Path(root).relative_to(folder)
        links = [name for name in folders if os.path.islink(os.path.join(root, name))]
        empty = [step.as_posix()] if not folders and not files and root != str(folder) else []
        below += [*empty, *((step / name).as_posix() for name in [*files, *links])]
        folders[:] = [name for name in folders if not _TEMPORARY.fullmatch(name)]
    return min((path for path in below if not is_own(path)), default="")


def folder_identity(folder: Path) -> tuple[int, int] | None:
    """Return what tells a directory from another of its name, None where there is none."""
    try:
        found = folder.stat()
        return found.st_dev, found.st_ino
    except OSError:
        return None


@contextmanager
def _private_folder(parent: Path) -> Iterator[Path]:
    _sweep(parent)
    while True:
        folder = parent / f".multiembed-{secrets.token_hex(4)}"
        with suppress(FileExistsError):
            folder.mkdir()
            lock = _hold(folder)
            if folder.exists():  # else another swept it away before it was held
                break
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _sweep(parent: Path) -> None:
    """Clear away what killed processes left beside what they wrote."""
    with suppress(OSError):
        for name in os.listdir(parent):
            folder = parent / name
            if _TEMPORARY.fullmatch(name) and folder.is_dir() and not folder.is_symlink():
                lock = _hold(folder)
                if lock is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                    os.close(lock)


def _hold(folder: Path) -> int | None:
    """Lock a directory; None where another process has it, or its file system locks none."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    with suppress(OSError):
        if lock_descriptor(descriptor, blocking=False):
            return descriptor
    os.close(descriptor)
    return None


def rename(partial: Path, target: Path) -> None:
    """Give what is finished its name, in such an order that no power cut undoes it."""
    if partial.is_file():
        # Some libraries make files that their owner alone may read.
        of = target if target.is_file() and not target.is_symlink() else partial.parent
        partial.chmod(of.stat().st_mode & 0o666)
    sync_all(partial)  # content before name: else a power cut could leave an empty file of it
    os.replace(partial, target)
    sync(target.parent)  # the name is content of the directory


def _is_stream(target: Path) -> bool:
    """Say whether a target is to be written to as it is: a device, a pipe, our own output."""
    try:
        found = target.stat()
        return not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)) or any(
            os.path.samestat(found, os.fstat(descriptor)) for descriptor in (1, 2)
        )
    except OSError:
        return False


def _is_empty(target: Path) -> bool:
    return target.is_dir() and not any(target.iterdir())


@contextmanager
def _refusing(target: Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise _refusal(error, target) from None


def _refusal(error: Exception, target: Path) -> Exception:
    """Return what to say of `target` if an error is the system's, from whichever library."""
    code = system_error(error)
    about = ""
    if isinstance(error, OSError):  # of a copy or a new name the two
        about = " ".join(str(name) for name in (error.filename, error.filename2) if name)
    if code in (None, errno.ENOMEM) or (about and not _TEMPORARY.search(about)):
        return error  # ours, or about a file that was read
    if code in (errno.ENOTEMPTY, errno.EEXIST):
        return DataError(f"{target} must be new, got one that another process made meanwhile")
    return WriteError(target, os.strerror(code))


def sync_all(path: Path) -> None:
    """Bring a file, or a directory with all that is below it, to the disk."""
    for root, _, files in os.walk(path):
        for name in [*files, "."]:
            sync(Path(root) / name)
    if path.is_file():
        sync(path)


def sync(path: Path) -> None:
    """Bring a file, or the names in a directory, to the disk, where the system can."""
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR
    try:
        descriptor = os.open(path, flags)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:  # Windows opens no directories, and some file systems sync none
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
