"""The first stage: all rows are read once and written as parts, but for those that are bad."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Bool

from multiembed.base.errors import DataError
from multiembed.data.encoding.journal import PARTS, Journal, PartRecord, part_path
from multiembed.data.encoding.moments import unit_hint
from multiembed.data.encoding.ordering import RowOrder, finite_numbers, tell_order
from multiembed.data.encoding.parts import PartBuilder
from multiembed.data.encoding.typed import category_text
from multiembed.data.encoding.values import read_labels
from multiembed.data.options import PrepareOptions
from multiembed.data.sources.source import BAD_ROWS_SHOWN, BadRow, Block, RowSource, ahead
from multiembed.data.store.schema import BadRows, Field

MARGIN = 1 << 26
"""Bytes of disk that a vocabulary and a shard under way may need beside the rows."""

NUMBER_RULE, DATE_RULE = "a number or empty", "a date or empty"
WEIGHT_RULE = "a number of at least 0"
OTHER_LABELS = "--positive VALUE makes one label 1 and others 0, --positive 1 those of -1 and 1"

Flags = dict[str, Bool[np.ndarray, " rows"]]
"""By column, rows where something stands that cannot be read."""
PrepareProgress = Callable[[str, int, int, str], None]
"""Called with the stage (`count` or `encode`), how much of it is done, all of it, and its speed."""


class StageReport:
    """Tells of one stage under way."""

    def __init__(self, stage: str, size: int, progress: PrepareProgress) -> None:
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


class Rejects:
    """What was left out of one reading of a source."""

    def __init__(
        self, limit: int, before: BadRows, readable: int, *, rules: Mapping[str, str]
    ) -> None:
        self._limit = limit
        self._rules = rules
        self._count = before.count
        self._first = list(before.first)
        self.readable = readable

    @property
    def record(self) -> BadRows:
        """How many there were, and the first of them."""
        return BadRows(count=self._count, first=tuple(self._first))

    def add(self, block: Block, labels: pl.Series, unreadable: Flags) -> Bool[np.ndarray, " rows"]:
        """Return which rows of a block have no label or a number that cannot be read.

        Raises:
            DataError: If there are now more bad rows than the limit.
        """
        bad = {"": labels.is_null().to_numpy(), **unreadable}
        rejected = np.logical_or.reduce(list(bad.values()))
        count = int(np.count_nonzero(rejected))
        self._count += block.bad_count + count
        self.readable += len(rejected) - count
        if len(self._first) < BAD_ROWS_SHOWN and (block.bad or rejected.any()):
            found = [*block.bad, *_named(block, labels.name, bad, self._rules)]
            lines = [f"{block.place} {row.line}: {row.reason}" for row in sorted(found)]
            self._first = (self._first + lines)[:BAD_ROWS_SHOWN]
        if self._count > self._limit:
            raise DataError(self._refusal())
        return rejected

    def _refusal(self) -> str:
        rows = "1 bad row" if self._count == 1 else f"{self._count} bad rows"
        told = f"{'; '.join(self._first)} ({rows} so far, max_bad_rows is {self._limit})"
        return "; ".join([told, *self.advice])

    @property
    def advice(self) -> list[str]:
        """What to do where labels are others than 0 and 1."""
        labels = [line for line in self._first if " must be 0 or 1, got " in line]
        return [] if all(line.endswith("got nothing") for line in labels) else [OTHER_LABELS]


def write_parts(
    source: RowSource,
    options: PrepareOptions,
    journal: Journal,
    *,
    folder: Path,
    progress: PrepareProgress,
) -> None:
    """Write the rows that the journal has not yet as parts, and note them there."""
    if journal.read:
        return
    (folder / PARTS).mkdir(exist_ok=True)
    fields = source.fields
    report = StageReport("count", source.size, progress)
    extras = Extras(tell_order(source.reader, options), options)
    rejects = Rejects(options.max_bad_rows, journal.bad_rows, journal.readable, rules=extras.rules)
    with ThreadPoolExecutor(pl.thread_pool_size()) as pool:
        builder = PartBuilder(fields, len(options.extra_columns), pool)
        block = None
        for block in ahead(source.blocks(journal.after)):
            if journal.after.number == 0 and builder.rows == 0:
                check_space(block, source, fields, folder)
            labels = read_labels(block.rows, source.label, options.positive, options.missing)
            _add(block, labels, builder, rejects, extras=extras)
            report.add(len(block.numbers), block.position)
            if builder.rows >= options.shard_rows:
                _finish(builder, block, rejects, journal=journal, folder=folder)
                builder = PartBuilder(fields, len(options.extra_columns), pool)
        if block is not None and builder.rows:
            _finish(builder, block, rejects, journal=journal, folder=folder)
    journal.bad_rows, journal.readable = rejects.record, rejects.readable
    if rejects.readable == 0:
        raise DataError(f"{source.files[0]} must hold rows, got none that can be read")
    journal.read = True
    journal.save(folder)


def check_space(block: Block, source: RowSource, fields: Sequence[Field], folder: Path) -> None:
    """Refuse to begin what the disk cannot hold, judged by the first rows.

    Parts are deleted as shards are written, and are smaller: the shards decide.
    """
    read = block.position or source.size
    rows = len(block.numbers) * source.size / max(1, read)
    columns = sum(field.slots for field in fields)
    need = int(rows * (4 * columns + 1)) + MARGIN
    free = shutil.disk_usage(folder).free
    if need > free:
        room = f"{need / 1e9:.1f} GB of free disk, got {free / 1e9:.1f} GB"
        raise DataError(f"{folder.parent.parent} must have {room}")


class Extras(NamedTuple):
    """What is read of columns beside the fields."""

    order: RowOrder | None
    options: PrepareOptions

    @property
    def rules(self) -> dict[str, str]:
        """What columns must hold that may hold something else than a number or nothing."""
        moments = [*self.options.dates]
        if self.order is not None and self.order.read_as == "moment":
            moments.append(self.order.column)
        weight = {} if self.options.weight is None else {self.options.weight: WEIGHT_RULE}
        return dict.fromkeys(moments, DATE_RULE) | weight

    def read(self, rows: pl.DataFrame) -> tuple[list[pl.Series], Flags]:
        """Return the columns of `extra_columns`, and where one is unreadable.

        An order and weights are read as numbers, anything else as canonical text.
        """
        split, unreadable, missing = [], {}, self.options.missing
        if self.order is not None:
            keys, unreadable[self.order.column] = self.order.keys(rows[self.order.column])
            split = [keys]
        elif self.options.split_by_group is not None:
            split = [category_text(rows[self.options.split_by_group], missing)]
        if self.options.weight is not None:
            weights = finite_numbers(rows[self.options.weight]).cast(pl.Float32)
            fit = (weights >= 0) & weights.is_finite()
            unreadable[self.options.weight] = ~fit.fill_null(False).to_numpy()
            split.append(weights)
        kept = [category_text(rows[name], missing) for name in self.options.keep]
        return [*split, *kept], unreadable


def _add(
    block: Block, labels: pl.Series, builder: PartBuilder, rejects: Rejects, *, extras: Extras
) -> None:
    columns, unreadable = extras.read(block.rows)
    for name, rows in builder.add(block.rows, columns).items():
        unreadable[name] = rows | unreadable.get(name, False)
    kept = ~rejects.add(block, labels, unreadable)
    if extras.options.weight is not None:
        weights = columns[len(columns) - len(extras.options.keep) - 1]
        kept &= (weights > 0).fill_null(False).to_numpy()
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


def _named(
    block: Block, label: str, bad: dict[str, np.ndarray], rules: Mapping[str, str]
) -> list[BadRow]:
    named = {}
    for name, rows in bad.items():
        rule = f"{{}} must be {rules.get(name, NUMBER_RULE)}" if name else "label {} must be 0 or 1"
        for row in np.flatnonzero(rows)[:BAD_ROWS_SHOWN]:
            got = block.rows[name or label][int(row)]
            shown = "nothing" if got is None else repr(got) if isinstance(got, str) else got
            reason = f"{rule.format(name or label)}, got {shown}"
            reason += unit_hint(got) if rules.get(name) == DATE_RULE else ""
            reason += " (the header again)" if not name and got == label else ""
            named.setdefault(int(row), BadRow(int(block.lines[row]), reason))
    return [named[row] for row in sorted(named)][:BAD_ROWS_SHOWN]
