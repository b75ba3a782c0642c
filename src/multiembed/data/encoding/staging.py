"""A directory that is either not there or whole."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pyarrow as pa

from multiembed.base.errors import DataError, InputError
from multiembed.data.encoding.journal import FILE_NAME as JOURNAL
from multiembed.data.encoding.journal import PARTS, Journal, resumed
from multiembed.data.store.schema import FILE_NAME


@contextmanager
def staged(
    target: Path, key: str = "", *, overwrite: bool = False
) -> Iterator[tuple[Path, Journal]]:
    """Lend a directory beside `target` and give it the name `target` when all went well.

    What an interrupted call left there is lent with its journal if it had the same key, one
    that is not empty; else the directory is new. It stays where work was interrupted, and goes
    where input is wrong.

    Raises:
        DataError: If the target is there and `overwrite` is off, or it is no encoded dataset.
    """
    check_target(target, overwrite=overwrite)
    partial = target.with_name(target.name + ".partial")
    with _writing(target), _locked(target, partial):
        try:
            yield partial, _journal(partial, key)
        except InputError:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        shutil.rmtree(partial / PARTS, ignore_errors=True)
        (partial / JOURNAL).unlink()
        _rename(partial, target)


@contextmanager
def downloading(target: Path) -> Iterator[Path]:
    """Lend a directory beside `target` for downloads; it stays only where work was interrupted."""
    folder = target.with_name(target.name + ".downloads")
    try:
        yield folder
    except InputError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _journal(folder: Path, key: str) -> Journal:
    """Return the journal of an equal call, or begin one in an empty directory."""
    journal = resumed(folder, key) if key else None
    if journal is None:
        _clear(folder)
        journal = Journal(key=key)
        journal.save(folder)
    return journal


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException, pl.exceptions.PolarsError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise DataError(
            f"{target} must be writable, got: {reason} (what is finished is kept)"
        ) from None


@contextmanager
def _locked(target: Path, partial: Path) -> Iterator[None]:
    """Keep a second process from the same work; a lock ends with its process."""
    partial.mkdir(parents=True, exist_ok=True)
    folder = os.open(partial, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(folder)
        raise DataError(
            f"{target} must be written by one process at a time, got another at work"
        ) from None
    try:
        yield
    finally:
        os.close(folder)


def check_target(target: Path, *, overwrite: bool) -> None:
    """Refuse a target that holds anything but what may be replaced."""
    if not target.exists():
        return
    if not target.is_dir() or (any(target.iterdir()) and not (target / FILE_NAME).is_file()):
        raise DataError(f"{target} must be absent or an encoded dataset, got something else")
    if any(target.iterdir()) and not overwrite:
        raise DataError(f"{target} must not exist unless overwrite is on, got a dataset")


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _rename(partial: Path, target: Path) -> None:
    replaced = target.with_name(target.name + ".replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if target.exists():
        os.replace(target, replaced)
    os.replace(partial, target)
    shutil.rmtree(replaced, ignore_errors=True)
