"""New directories that are either not there or whole."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from multiembed.base.errors import DataError


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Lend a directory beside `target`, and give it that name when all went well, else delete it.

    Raises:
        DataError: If `target` is there already, or cannot be written.
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise DataError(f"{target} must be a new directory, got one that is there")
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        os.replace(partial, target)
    except OSError as error:
        raise DataError(f"{target} must be writable, got: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
