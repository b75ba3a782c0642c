"""Which files in a directory are an encoded dataset's own: only those may be replaced."""

import json
import re
from pathlib import Path

from multiembed.base.files import first_foreign, read_small
from multiembed.data.store.schema import FILE_NAME, SPLITS
from multiembed.data.store.vocabularies import VOCABULARIES, vocabulary_file

_SPLIT = "|".join(SPLITS)
_ROWS = re.compile(
    rf"({_SPLIT})/\d{{5,}}\.arrow|kept/({_SPLIT})/\d{{5,}}\.parquet|others/\d{{5,}}\.parquet"
)


def foreign_to_dataset(folder: Path) -> str:
    """Return the first entry of a directory that is no file of the dataset in it, or ""."""
    known = schema_files(folder)
    return first_foreign(folder, lambda path: path in known or (known and _ROWS.fullmatch(path)))


def schema_files(folder: Path) -> set[str]:
    """Return the schema of a directory, of whatever version, and the vocabularies it speaks of."""
    try:
        schema = json.loads(read_small(folder / FILE_NAME))
        names = [str(field["name"]) for field in schema["fields"] if "shares" not in field]
        known = {FILE_NAME} if "format_version" in schema else set()
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return set()
    return known | {f"{VOCABULARIES}/{vocabulary_file(name)}" for name in names}
