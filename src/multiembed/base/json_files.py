"""JSON that somebody may have changed: whatever is wrong with it is one line."""

import json
from pathlib import Path
from typing import Any

from multiembed.base.errors import DataError
from multiembed.base.files import read_small


def parsed(text: str | bytes) -> Any:  # noqa: ANN401
    """Return what JSON says.

    Raises:
        ValueError: If it is none, not UTF-8, or nested deeper than Python reads.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("brackets in brackets, deeper than is read") from None


def read_json_file(file: Path) -> Any:  # noqa: ANN401
    """Return what a file of JSON says.

    Raises:
        DataError: If it cannot be read, or is no JSON.
    """
    try:
        return parsed(read_small(file))
    except OSError as error:
        raise DataError(f"{file} must be readable, got: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{file} must be JSON, got {error}") from None
