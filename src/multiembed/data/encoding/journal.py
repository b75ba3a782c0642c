"""What of a preparation is finished, so that one that was interrupted goes on from there."""

import hashlib
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from multiembed.data.options import PrepareOptions
from multiembed.data.sources.source import START, Mark, Source
from multiembed.data.store.schema import FORMAT_VERSION, BadRows, Field

FILE_NAME = "journal.json"
PARTS = "parts"


class PartRecord(BaseModel):
    """One part that was written."""

    first: int
    """Number of its first row, -1 if it has none."""
    last: int


class Journal(BaseModel):
    """The state of a preparation; saved whenever a part or a shard is finished."""

    model_config = ConfigDict(validate_assignment=True)

    key: str
    """Stands for the options and the sources: work for others is of no use."""
    parts: list[PartRecord] = []
    after: Mark = START
    """Where reading goes on."""
    bad_rows: BadRows = BadRows()
    readable: int = 0
    read: bool = False
    """Whether all rows are read."""
    fields: list[Field] = []
    """The fields, once their vocabularies are written."""
    shards: int = 0
    """Shards written of every split."""
    totals: list[list[list[int]]] = []
    """Counts over those shards."""

    def save(self, folder: Path) -> None:
        """Replace the journal of a directory."""
        partial = folder / (FILE_NAME + ".partial")
        partial.write_text(self.model_dump_json(), encoding="utf-8")
        os.replace(partial, folder / FILE_NAME)


def resumed(folder: Path, key: str) -> Journal | None:
    """Return the journal of a directory if it is of the same work."""
    try:
        journal = Journal.model_validate_json((folder / FILE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None
    return journal if journal.key == key else None


def journal_key(source: Source, options: PrepareOptions) -> str:
    """Return a text that is another one as soon as an option or a file is another one."""
    columns = [source.label, *source.columns]
    seen = (FORMAT_VERSION, options.model_dump_json(), columns, source.files, source.fingerprint())
    return hashlib.sha256(repr(seen).encode()).hexdigest()


def part_path(folder: Path, place: int) -> Path:
    """Return the file of a part."""
    return folder / PARTS / f"{place:05d}.arrow"
