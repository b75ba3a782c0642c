"""The third stage: from parts to shards of ids."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int64

from multiembed.data.encoding.counting import split_path
from multiembed.data.encoding.journal import Journal, part_path
from multiembed.data.encoding.parts import Part
from multiembed.data.encoding.vocabulary import Encoder
from multiembed.data.store.dataset import DatasetWriter
from multiembed.data.store.schema import SPLITS
from multiembed.data.store.shards import Shard

_TILE = 1 << 14
"""Rows whose ids are gathered at once, so that they stay in the cache."""


class _OpenPart(Part):
    """A part whose distinct values have their ids."""

    def __init__(self, folder: Path, place: int, encoder: Encoder) -> None:
        super().__init__(part_path(folder, place))
        self.splits = np.load(split_path(folder, place))
        columns = [self.field(field) for field in range(len(encoder.fields))]
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
) -> DatasetWriter:
    """Write the shards that the journal has not yet, and delete parts that are no longer needed.

    Args:
        encoder: With the vocabularies.
        shard_rows: Rows read per shard.
        journal: Says which parts there are, and is told of every shard.
        folder: That of the journal.
        report: Called with the rows of every shard and the share of the shards that are done.

    Returns:
        A writer that has written all shards.
    """
    slots = [field.slots for field in encoder.fields]
    writer = DatasetWriter(folder, slots, counts=journal.totals)
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
            for name, rows in zip(SPLITS, encoded, strict=True):
                writer.shard(name, rows.ids, rows.labels, number=shard)
            journal.shards, journal.totals = shard + 1, writer.counts
            journal.save(folder)
            _forget_parts(journal, folder, wanted.stop)
            report(sum(len(rows.labels) for rows in encoded), (shard + 1) / shards)
    return writer


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
        for first in range(start, stop, _TILE):
            codes = part.splits[first : min(first + _TILE, stop)]
            yield part, [first + np.flatnonzero(codes == code) for code in range(len(SPLITS))]


def _forget_parts(journal: Journal, folder: Path, number: int) -> None:
    """Delete parts all of whose rows come before a number."""
    for place, part in enumerate(journal.parts):
        if part.last < number:
            part_path(folder, place).unlink(missing_ok=True)
