"""A directory that is either not there or whole."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from multiembed.data.schema import FILE_NAME
from multiembed.errors import DataError


@contextmanager
def staged(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Lend a new directory beside `target` and give it the name `target` when all went well.

    What an interrupted run left behind is deleted first. On an error nothing is left.

    Raises:
        DataError: If the target is there and `overwrite` is off, or it is no encoded dataset.
    """
    check_target(target, overwrite=overwrite)
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        _rename(partial, target)
    except OSError as error:
        raise DataError(f"{target} must be writable, got: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_target(target: Path, *, overwrite: bool) -> None:
    """Refuse a target that holds anything but what may be replaced."""
    if not target.exists():
        return
    if not target.is_dir() or (any(target.iterdir()) and not (target / FILE_NAME).is_file()):
        raise DataError(f"{target} must be absent or an encoded dataset, got something else")
    if any(target.iterdir()) and not overwrite:
        raise DataError(f"{target} must not exist unless overwrite is on, got a dataset")


def _rename(partial: Path, target: Path) -> None:
    replaced = target.with_name(target.name + ".replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if target.exists():
        os.replace(target, replaced)
    os.replace(partial, target)
    shutil.rmtree(replaced, ignore_errors=True)
