"""The third stage: from parts to shards of ids."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int64

from multiembed.data.encoding.counting import split_path
from multiembed.data.encoding.journal import Journal, part_path
from multiembed.data.encoding.number_scale import on_scale
from multiembed.data.encoding.parts import Part
from multiembed.data.encoding.vocabulary import Encoder
from multiembed.data.options import PrepareOptions
from multiembed.data.store.dataset import DatasetWriter
from multiembed.data.store.kept import others_of, write_kept, write_others
from multiembed.data.store.schema import SPLITS
from multiembed.data.store.shards import Batch

_TILE = 1 << 14
"""Rows whose ids are gathered at once, so that they stay in the cache."""


class _OpenPart(Part):
    """A part whose distinct values have their ids.

    Args:
        folder: That of the journal.
        place: Number of the part.
        encoder: With the vocabularies.
        options: Name the last columns: that of weights, and those whose values are kept.
    """

    def __init__(self, folder: Path, place: int, encoder: Encoder, options: PrepareOptions) -> None:
        super().__init__(part_path(folder, place))
        self.splits = np.load(split_path(folder, place))
        columns = [self.field(field) for field in range(len(encoder.fields))]
        keep = options.keep
        asked = [self.field(self.width - len(keep) + at) for at in range(len(keep))]
        self.asked = dict(zip(keep, asked, strict=True))
        self.weights = self.field(self.width - len(keep) - 1) if options.weight else None
        self.codes = [column.codes for column in columns]
        self.ids = [
            encoder.number(field, column.values)
            for field, column in zip(encoder.fields, columns, strict=True)
        ]
        self.places = list(encoder.places.values())
        self.levels = [
            (column.codes, on_scale(column.values, field))
            for field, column in zip(encoder.fields, columns, strict=True)
            if field.number is not None
        ]
        self.categories = {
            at: (columns[at], self.ids[at][:, 0])
            for at, field in enumerate(encoder.fields)
            if field.kind == "categorical" and not field.date and not field.hash_size
        }

    def kept(self, rows: Int64[np.ndarray, " rows"]) -> pl.DataFrame:
        """Return what is kept of some rows beside their ids; null where there is no value."""
        found = {n: column.values.gather(column.codes[rows]) for n, column in self.asked.items()}
        return pl.DataFrame(found).select(pl.when(pl.all() != "").then(pl.all()))

    def others(self, rows: Int64[np.ndarray, " rows"], *, start: int) -> list[pl.DataFrame]:
        """Return the values of categories that are *other* in some rows, numbered from `start`."""
        frames = []
        for field, (column, ids) in self.categories.items():
            codes = column.codes[rows]
            places = np.flatnonzero(ids[codes] == 0)
            if not len(places):
                continue
            values = column.values.gather(codes[places])
            there = (values != "").to_numpy()
            frames.append(others_of(field, start + places[there], values.filter(there)))
        return frames

    def fill(self, rows: Int64[np.ndarray, " rows"], out: Batch) -> None:
        """Write the ids, labels, weights and numbers of some rows."""
        out.labels[:] = self.labels[rows]
        if self.weights is not None and out.weights is not None:
            out.weights[:] = self.weights.values.to_numpy()[self.weights.codes[rows]]
        if out.numbers is not None:
            for place, (codes, numbers) in enumerate(self.levels):
                out.numbers[:, place] = np.take(numbers, codes[rows], mode="clip")
        for ids, codes, place in zip(self.ids, self.codes, self.places, strict=True):
            # Clipping instead of checking is faster, and so is a vector beside a matrix.
            if ids.shape[1] == 1:
                out.ids[:, place.start] = np.take(ids[:, 0], codes[rows], mode="clip")
            else:
                out.ids[:, place] = np.take(ids, codes[rows], axis=0, mode="clip")


_Tile = tuple[_OpenPart, list[Int64[np.ndarray, " _"]]]
"""Some rows of a part: the places of those of every split."""


def encode_rows(
    encoder: Encoder,
    options: PrepareOptions,
    journal: Journal,
    *,
    folder: Path,
    report: Callable[[int, float], None],
) -> DatasetWriter:
    """Write the shards that the journal has not yet, and delete parts that are no longer needed.

    Args:
        encoder: With the vocabularies.
        options: Say how many rows a shard is made of, and what stands beside ids.
        journal: Says which parts there are, and is told of every shard.
        folder: That of the journal.
        report: Called with the rows of every shard and the share of the shards that are done.

    Returns:
        A writer that has written all shards.
    """
    slots = [field.slots for field in encoder.fields]
    writer = DatasetWriter(folder, slots, counts=journal.totals)
    shards = 1 + max(part.last for part in journal.parts) // options.shard_rows
    opened: dict[int, _OpenPart] = {}
    with ThreadPoolExecutor(pl.thread_pool_size()) as pool:
        for shard in range(journal.shards, shards):
            wanted = range(shard * options.shard_rows, (shard + 1) * options.shard_rows)
            opened = {
                place: opened.get(place) or _OpenPart(folder, place, encoder, options)
                for place, part in enumerate(journal.parts)
                if part.last >= wanted.start and part.first < wanted.stop
            }
            tiles = list(_tiles(opened.values(), wanted))
            encoded = _encoded(tiles, encoder, pool=pool, weighted=options.weight is not None)
            _keep(tiles, folder, writer, number=shard)
            for name, rows in zip(SPLITS, encoded, strict=True):
                writer.shard(name, rows, number=shard)
            journal.shards, journal.totals = shard + 1, writer.counts
            journal.save(folder)
            _forget_parts(journal, folder, wanted.stop)
            report(sum(len(rows.labels) for rows in encoded), (shard + 1) / shards)
    return writer


def _encoded(
    tiles: Sequence[_Tile], encoder: Encoder, *, pool: Executor, weighted: bool
) -> list[Batch]:
    """Return the rows of every split."""
    sizes = np.array([[len(rows) for rows in chosen] for _, chosen in tiles], np.int64)
    sizes = sizes.reshape(-1, len(SPLITS))  # there may be no tile
    ends = np.cumsum(sizes, axis=0)
    columns = sum(field.slots for field in encoder.fields)
    out = [
        Batch(
            np.empty((size, columns), np.int32),
            np.empty(size, np.uint8),
            np.empty(size, np.float32) if weighted else None,
            np.empty((size, len(encoder.numeric)), np.float32) if encoder.numeric else None,
        )
        for size in sizes.sum(axis=0).tolist()
    ]

    def fill(tile: int) -> None:
        part, chosen = tiles[tile]
        for rows, shard, end in zip(chosen, out, ends[tile].tolist(), strict=True):
            place = slice(end - len(rows), end)
            part.fill(rows, shard.map(lambda column, place=place: column[place]))

    list(pool.map(fill, range(len(tiles))))
    return out


def _keep(tiles: Sequence[_Tile], folder: Path, writer: DatasetWriter, *, number: int) -> None:
    """Write what a shard keeps beside the ids of its rows."""
    for code, split in enumerate(SPLITS):
        rows: dict[_OpenPart, list[Int64[np.ndarray, " _"]]] = {}
        for part, chosen in tiles:
            rows.setdefault(part, []).append(chosen[code])
        whole = {part: np.concatenate(those) for part, those in rows.items()}
        write_kept(folder, split, [part.kept(those) for part, those in whole.items()], number)
        if split == "test":
            start, frames = writer.rows(split), []
            for part, those in whole.items():
                frames += part.others(those, start=start)
                start += len(those)
            write_others(folder, frames, number)


def _tiles(parts: Iterable[_OpenPart], wanted: range) -> Iterator[_Tile]:
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
