"""The first stage: all rows are read once and written as parts."""

import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl

from multiembed.base.errors import DataError
from multiembed.data.encoding.journal import PARTS, Journal, PartRecord, part_path
from multiembed.data.encoding.parts import PartBuilder
from multiembed.data.encoding.rejects import Rejects
from multiembed.data.encoding.values import read_labels
from multiembed.data.options import PrepareOptions
from multiembed.data.sources.formats import plain_fields
from multiembed.data.sources.source import Block, Source, ahead
from multiembed.data.store.schema import Field

MARGIN = 1 << 26
"""Bytes of disk that a vocabulary and a shard under way may need beside the rows."""

Progress = Callable[[str, int, int, str], None]
"""Called with the stage (`count` or `encode`), how much of it is done, all of it, and its speed."""


class Report:
    """Tells of one stage under way."""

    def __init__(self, stage: str, size: int, progress: Progress) -> None:
        self._stage = stage
        self._size = size
        self._progress = progress
        self._began = time.perf_counter()
        self._rows = 0

    def add(self, rows: int, done: int) -> None:
        """Tell that some more rows are done, and how many of the bytes."""
        self._rows += rows
        speed = self._rows / max(1e-9, time.perf_counter() - self._began)
        self._progress(self._stage, done, self._size, f"{speed:,.0f} rows/s")


def read_rows(
    source: Source, options: PrepareOptions, journal: Journal, *, folder: Path, progress: Progress
) -> None:
    """Write the rows that the journal has not yet as parts, and note them there."""
    if journal.read:
        return
    (folder / PARTS).mkdir(exist_ok=True)
    fields = plain_fields(source, options)
    report = Report("count", source.size, progress)
    rejects = Rejects(
        options.max_bad_rows, journal.bad_rows, journal.readable, dates=set(options.dates)
    )
    with ThreadPoolExecutor(pl.thread_pool_size()) as pool:
        builder = PartBuilder(fields, options.split_column, pool)
        block = None
        for block in ahead(source.blocks(journal.after)):
            if journal.after.number == 0 and builder.rows == 0:
                check_space(block, source, fields, folder)
            _add(block, source.label, builder, rejects)
            report.add(len(block.numbers), block.position)
            if builder.rows >= options.shard_rows:
                _finish(builder, block, rejects, journal=journal, folder=folder)
                builder = PartBuilder(fields, options.split_column, pool)
        if block is not None and builder.rows:
            _finish(builder, block, rejects, journal=journal, folder=folder)
    journal.bad_rows, journal.readable = rejects.record, rejects.readable
    if rejects.readable == 0:
        raise DataError(f"{source.files[0]} must hold rows, got none that can be read")
    journal.read = True
    journal.save(folder)


def check_space(block: Block, source: Source, fields: Sequence[Field], folder: Path) -> None:
    """Refuse to begin what the disk cannot hold, judged by the first rows.

    Parts are deleted as shards are written, and are smaller: the shards decide.
    """
    read = block.position or source.size
    rows = len(block.numbers) * source.size / max(1, read)
    columns = sum(field.slots for field in fields)
    need = int(rows * (4 * columns + 1)) + MARGIN
    free = shutil.disk_usage(folder).free
    if need > free:
        raise DataError(
            f"{folder.parent} must have {need / 1e9:.1f} GB of free disk, got {free / 1e9:.1f} GB"
        )


def _add(block: Block, label: str, builder: PartBuilder, rejects: Rejects) -> None:
    labels = read_labels(block.rows, label)
    unreadable = builder.add(block.rows)
    kept = ~rejects.add(block, labels, unreadable)
    builder.keep(
        kept,
        block.numbers[kept],
        labels=labels.fill_null(0).to_numpy()[kept],
        split=block.split,
    )


def _finish(
    builder: PartBuilder, block: Block, rejects: Rejects, *, journal: Journal, folder: Path
) -> None:
    first, last = builder.write(part_path(folder, len(journal.parts)))
    journal.parts = [*journal.parts, PartRecord(first=first, last=last)]
    journal.after = block.after
    journal.bad_rows, journal.readable = rejects.record, rejects.readable
    journal.save(folder)
