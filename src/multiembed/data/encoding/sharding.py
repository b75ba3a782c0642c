"""The third stage: from parts to shards of ids."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int64

from multiembed.data.encoding.counting import split_path
from multiembed.data.encoding.journal import Journal, part_path
from multiembed.data.encoding.parts import Part
from multiembed.data.encoding.vocabulary import Encoder
from multiembed.data.store.schema import SPLITS, Field, SplitName, SplitSummary
from multiembed.data.store.shards import Shard, shard_name, write_shard

TILE = 1 << 14
"""Rows whose ids are gathered at once, so that they stay in the cache."""


class Totals:
    """Sizes of the splits, and how often every field is *other* in each."""

    def __init__(self, counts: list[list[list[int]]], slots: Sequence[int]) -> None:
        empty = [[[0, 0]] * len(SPLITS), [[0] * len(slots)] * len(SPLITS)]
        sizes, other = counts or empty
        self._sizes = np.array(sizes, np.int64)
        self._other = np.array(other, np.int64).reshape(len(SPLITS), len(slots))
        self._starts = np.cumsum([0, *slots])[:-1]

    @property
    def counts(self) -> list[list[list[int]]]:
        """All of them, to be kept in a journal."""
        return [self._sizes.tolist(), self._other.tolist()]

    def add(self, code: int, rows: Shard) -> None:
        """Count some rows of one split."""
        self._sizes[code] += (len(rows.labels), np.count_nonzero(rows.labels))
        other = rows.ids == 0
        if other.shape[1] > len(self._starts):
            other = np.logical_or.reduceat(other, self._starts, axis=1)
        self._other[code] += np.count_nonzero(other, axis=0)

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


class _OpenPart:
    """A part whose distinct values have their ids."""

    def __init__(self, folder: Path, place: int, encoder: Encoder) -> None:
        part = Part(part_path(folder, place))
        self.numbers, self.labels = part.numbers, part.labels
        self.splits = np.load(split_path(folder, place))
        columns = [part.field(field) for field in range(len(encoder.fields))]
        self.codes = [column.codes for column in columns]
        self.ids = [
            encoder.number(field, column.values)
            for field, column in zip(encoder.fields, columns, strict=True)
        ]
        self.places = list(encoder.places.values())

    def fill(self, rows: Int64[np.ndarray, " rows"], out: Shard) -> None:
        """Write the ids and labels of some rows."""
        out.labels[:] = self.labels[rows]
        for ids, codes, place in zip(self.ids, self.codes, self.places, strict=True):
            # Clipping instead of checking is faster, and so is a vector beside a matrix.
            if ids.shape[1] == 1:
                out.ids[:, place.start] = np.take(ids[:, 0], codes[rows], mode="clip")
            else:
                out.ids[:, place] = np.take(ids, codes[rows], axis=0, mode="clip")


def encode_rows(
    encoder: Encoder,
    shard_rows: int,
    journal: Journal,
    *,
    folder: Path,
    report: Callable[[int, float], None],
) -> Totals:
    """Write the shards that the journal has not yet, and delete parts that are no longer needed.

    `report` is called with the rows of every shard and the share of the shards that are done.
    """
    totals = Totals(journal.totals, [field.slots for field in encoder.fields])
    for name in SPLITS:
        (folder / name).mkdir(exist_ok=True)
    shards = 1 + max(part.last for part in journal.parts) // shard_rows
    opened: dict[int, _OpenPart] = {}
    with ThreadPoolExecutor(pl.thread_pool_size()) as pool:
        for shard in range(journal.shards, shards):
            wanted = range(shard * shard_rows, (shard + 1) * shard_rows)
            opened = {
                place: opened.get(place) or _OpenPart(folder, place, encoder)
                for place, part in enumerate(journal.parts)
                if part.last >= wanted.start and part.first < wanted.stop
            }
            encoded = _encoded(opened.values(), wanted, encoder, pool=pool)
            for code, rows in enumerate(encoded):
                totals.add(code, rows)
                if len(rows.labels):
                    write_shard(folder / SPLITS[code] / shard_name(shard), rows.ids, rows.labels)
            journal.shards, journal.totals = shard + 1, totals.counts
            journal.save(folder)
            _forget_parts(journal, folder, wanted.stop)
            report(sum(len(rows.labels) for rows in encoded), (shard + 1) / shards)
    return totals


def _encoded(
    parts: Iterable[_OpenPart], wanted: range, encoder: Encoder, *, pool: Executor
) -> list[Shard]:
    """Return the rows of every split whose numbers are wanted."""
    tiles = list(_tiles(parts, wanted))
    sizes = np.array([[len(rows) for rows in chosen] for _, chosen in tiles], np.int64)
    sizes = sizes.reshape(-1, len(SPLITS))  # there may be no tile
    ends = np.cumsum(sizes, axis=0)
    columns = sum(field.slots for field in encoder.fields)
    out = [
        Shard(np.empty((size, columns), np.int32), np.empty(size, np.uint8))
        for size in sizes.sum(axis=0).tolist()
    ]

    def fill(tile: int) -> None:
        part, chosen = tiles[tile]
        for rows, shard, end in zip(chosen, out, ends[tile].tolist(), strict=True):
            place = slice(end - len(rows), end)
            part.fill(rows, Shard(shard.ids[place], shard.labels[place]))

    list(pool.map(fill, range(len(tiles))))
    return out


def _tiles(
    parts: Iterable[_OpenPart], wanted: range
) -> Iterator[tuple[_OpenPart, list[Int64[np.ndarray, " _"]]]]:
    """Cut the wanted rows into tiles, each with its rows of every split."""
    for part in parts:
        start, stop = np.searchsorted(part.numbers, (wanted.start, wanted.stop)).tolist()
        for first in range(start, stop, TILE):
            codes = part.splits[first : min(first + TILE, stop)]
            yield part, [first + np.flatnonzero(codes == code) for code in range(len(SPLITS))]


def _forget_parts(journal: Journal, folder: Path, number: int) -> None:
    """Delete parts all of whose rows come before a number."""
    for place, part in enumerate(journal.parts):
        if part.last < number:
            part_path(folder, place).unlink(missing_ok=True)
