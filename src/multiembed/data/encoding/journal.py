"""A directory that is absent or whole, and a journal of what is finished while it is neither."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import polars as pl
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from multiembed.base.errors import DataError, InputError, WriteError
from multiembed.base.files import local_path, read_small, write_text
from multiembed.base.workplaces import replace_folder
from multiembed.data.options import PrepareOptions
from multiembed.data.sources.source import START, Mark, RowSource
from multiembed.data.store.ownership import foreign_to_dataset
from multiembed.data.store.schema import FORMAT_VERSION, BadRows, Field, SplitOrder

JOURNAL = "journal.json"
JOURNAL_VERSION = 2
PARTS = "parts"
BUSY = "must be written by one process at a time, got another at work"


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
    order: SplitOrder | None = None
    """How the rows were ordered and cut, if a column did it."""
    fields: list[Field] = []
    """The fields, once their vocabularies are written."""
    shards: int = 0
    """Shards written of every split."""
    totals: list[list[list[int]]] = []
    """Counts over those shards."""

    def save(self, folder: Path) -> None:
        """Replace the journal of a directory."""
        write_text(folder / JOURNAL, self.model_dump_json())


@contextmanager
def resumable_folder(
    place: Path, target: Path, key: str = "", *, overwrite: bool = False
) -> Iterator[tuple[Path, Journal]]:
    """Lend a directory in `place` and give it the name `target` when all went well.

    What an interrupted call left there is lent with its journal if it had the same key, one
    that is not empty; else the directory is new. It stays where work was interrupted, and goes
    where input is wrong.

    Args:
        place: The `workplace` of `target`.
        target: What the directory is to be.
        key: Stands for the work.
        overwrite: Whether the target may be a dataset, which is replaced.

    Raises:
        DataError: If the target is there and `overwrite` is off, or it is more than a dataset.
    """
    partial = place / target.name
    with _writing(target):
        try:
            yield partial, _journal(partial, key)
        except WriteError:
            raise
        except InputError:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        shutil.rmtree(partial / PARTS, ignore_errors=True)
        (partial / JOURNAL).unlink()
        replace_folder(partial, settled_target(target, overwrite=overwrite))


def journal_key(source: RowSource, options: PrepareOptions) -> str:
    """Return a text that is another one as soon as an option or a file is another one."""
    columns = [source.label, *source.columns]
    seen = (
        (FORMAT_VERSION, JOURNAL_VERSION),
        options.model_dump_json(),
        columns,
        source.files,
        source.reader.fingerprint(),
        *([] if source.like is None else [source.like.key]),
    )
    return hashlib.sha256(repr(seen).encode()).hexdigest()


def part_path(folder: Path, place: int) -> Path:
    """Return the file of a part."""
    return folder / PARTS / f"{place:05d}.arrow"


def settled_target(target: Path, *, overwrite: bool) -> Path:
    """Return the directory to be written, for a link to one the one that it leads to.

    Raises:
        ConfigError: If it is on another machine.
        DataError: If it holds anything but what may be replaced.
    """
    if local_path(target).is_symlink():
        if not target.is_dir():
            raise DataError(f"{target} must be absent or an encoded dataset, got a link to nothing")
        target = target.resolve()
    if not os.path.lexists(target):
        return target
    if not target.is_dir():
        raise DataError(f"{target} must be absent or an encoded dataset, got a file")
    foreign = foreign_to_dataset(target)
    if foreign:
        raise DataError(
            f"{target} must be absent or an encoded dataset and nothing else, got {foreign} in it"
        )
    if any(target.iterdir()) and not overwrite:
        raise DataError(f"{target} must not exist unless overwrite is on, got a dataset")
    return target


def _journal(folder: Path, key: str) -> Journal:
    """Return the journal of an equal call, or begin one in an empty directory."""
    with suppress(OSError, ValidationError):
        text = read_small(folder / JOURNAL)
        journal = Journal.model_validate_json(text)
        if key and journal.key == key:
            return journal
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    journal = Journal(key=key)
    journal.save(folder)
    return journal


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException, pl.exceptions.PolarsError, WriteError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        if isinstance(error, WriteError):
            reason = reason.partition("got: ")[2]
        raise WriteError(target, f"{reason} (what is finished is kept)") from None
