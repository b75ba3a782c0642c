"""The third stage: from parts to shards of ids."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from multiembed.data.counting import split_path
from multiembed.data.journal import Journal, part_path
from multiembed.data.parts import Part
from multiembed.data.schema import SPLITS, Field, SplitName, SplitSummary
from multiembed.data.shards import Shard, ShardWriter
from multiembed.data.vocabulary import Encoder

TILE = 1 << 13
"""Rows whose ids are gathered at once, so that they stay in the cache."""


class Totals:
    """Sizes of the splits, and how often every field is *other* in each."""

    def __init__(self, counts: list[list[list[int]]], fields: int) -> None:
        empty = [[[0, 0]] * len(SPLITS), [[0] * fields] * len(SPLITS)]
        sizes, other = counts or empty
        self._sizes = np.array(sizes, np.int64)
        self._other = np.array(other, np.int64).reshape(len(SPLITS), fields)

    @property
    def counts(self) -> list[list[list[int]]]:
        """All of them, to be kept in a journal."""
        return [self._sizes.tolist(), self._other.tolist()]

    def add(self, code: int, rows: Shard) -> None:
        """Count some rows of one split."""
        self._sizes[code] += (len(rows.labels), np.count_nonzero(rows.labels))
        self._other[code] += np.count_nonzero(rows.ids == 0, axis=0)

    def summaries(self) -> dict[SplitName, SplitSummary]:
        """Return the size of every split."""
        sizes = zip(SPLITS, self._sizes.tolist(), strict=True)
        return {name: SplitSummary(rows=rows, positives=ones) for name, (rows, ones) in sizes}

    def described(self, fields: Sequence[Field]) -> tuple[Field, ...]:
        """Return the fields with their counts of *other*."""
        counts = self._other.T.tolist()
        return tuple(
            field.model_copy(update={"other": dict(zip(SPLITS, count, strict=True))})
            for field, count in zip(fields, counts, strict=True)
        )


def encode_rows(
    encoder: Encoder,
    shard_rows: int,
    journal: Journal,
    *,
    folder: Path,
    report: Callable[[int], None],
) -> Totals:
    """Write the shards that the journal has not yet, and delete parts that are no longer needed.

    `report` is called with the number of parts that are done.
    """
    totals = Totals(journal.totals, len(encoder.fields))

    def finished(shard: int, written: Sequence[Shard]) -> None:
        for code, rows in enumerate(written):
            totals.add(code, rows)
        journal.shards, journal.totals = shard, totals.counts
        journal.save(folder)
        for place, part in enumerate(journal.parts):
            if part.last < shard * shard_rows:
                part_path(folder, place).unlink(missing_ok=True)

    folders = [folder / name for name in SPLITS]
    writer = ShardWriter(folders, shard_rows, done=journal.shards, finished=finished)
    for place, record in enumerate(journal.parts):
        if record.last >= journal.shards * shard_rows:
            _encode_part(place, encoder, writer, folder=folder, first=writer.first)
        report(place + 1)
    writer.close()
    return totals


def _encode_part(
    place: int, encoder: Encoder, writer: ShardWriter, *, folder: Path, first: int
) -> None:
    part = Part(part_path(folder, place))
    numbers, labels = part.numbers, part.labels
    splits = np.load(split_path(folder, place))
    start = int(np.searchsorted(numbers, first))
    columns = [part.field(field) for field in range(len(encoder.fields))]
    ids = [
        encoder.number(field, column.values)
        for field, column in zip(encoder.fields, columns, strict=True)
    ]
    matrix = np.empty((len(numbers), len(columns)), np.int32)
    for row in range(start, len(numbers), TILE):
        tile = slice(row, row + TILE)
        for field, column in enumerate(columns):
            matrix[tile, field] = ids[field][column.codes[tile]]
    writer.add(numbers[start:], splits[start:], Shard(matrix[start:], labels[start:]))
