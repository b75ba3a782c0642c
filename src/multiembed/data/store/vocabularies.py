"""What the ids of every field stand for: a Parquet file of its kept values, beside the rows."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from multiembed.base.errors import DataError
from multiembed.data.store.schema import Field
from multiembed.data.store.shards import read_frame, write_frame

VOCABULARIES = "vocabulary"
_COUNTS = {"other", "cut", "empty", "min_count", "max_values", "remark"}
"""What a schema says of a field beside what its ids mean."""


def write_vocabulary(folder: Path, field: str, vocabulary: pl.DataFrame) -> None:
    """Write the kept values of a field below a directory that is no dataset or run yet.

    Thousands are brought to the disk together: `sync_all` does that.
    """
    path = folder / VOCABULARIES / vocabulary_file(field)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_frame(path, vocabulary)


def read_vocabulary(folder: Path, field: str) -> pl.DataFrame:
    """Read the kept values of a field (null: missing), their counts and their ids.

    Raises:
        DataError: If the directory holds none for this field.
    """
    path = folder / VOCABULARIES / vocabulary_file(field)
    try:
        return read_frame(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} must be the vocabulary of field {field!r}, got {reason}") from None


def values_digest(folder: Path, fields: Sequence[Field]) -> str:
    """Return what tells the meaning of ids from other meanings; counts are no part of it."""
    digests = []
    for field in fields:
        rules = field.model_dump_json(exclude=_COUNTS)
        values = read_vocabulary(folder, field.table)["value"].fill_null("")
        digests.append(digest(rules + (values.str.join("\0").item() or "")))
    return digest(" ".join(digests))


def digest(text: str) -> str:
    """Return a short SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def vocabulary_file(field: str) -> str:
    """Return a file name for a field whatever characters it has and however long it is."""
    plain = re.sub(r'[%/\\:*?"<>|\x00-\x1f]', lambda char: f"%{ord(char[0]):02X}", field)
    if len(plain.encode()) > 120:
        short = hashlib.sha256(field.encode()).hexdigest()[:12]
        plain = plain.encode()[:100].decode(errors="ignore") + "%" + short
    return plain + ".parquet"
