"""An encoded dataset, opened: splits as memory-mapped matrices, and batches of their rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Int32, Integer, UInt8

from multiembed.base.errors import DataError
from multiembed.data.encoding.vocabulary import read_vocabulary
from multiembed.data.store.schema import Schema, SplitSummary
from multiembed.data.store.shards import Shard, map_shard

ROWS_PER_READ = 16384
"""Rows gathered at once; batches are views of them, so that small batches cost no more."""


class Batch(NamedTuple):
    """Rows to train on or to score."""

    ids: Int32[np.ndarray, "batch columns"]
    """One column per field, or as many as a multi-valued one has slots."""
    labels: UInt8[np.ndarray, " batch"]


class Split:
    """The rows of one split, in one or several memory-mapped shards."""

    def __init__(self, shards: list[Shard]) -> None:
        self._shards = [shard for shard in shards if len(shard.labels)] or shards[:1]
        sizes = [len(shard.labels) for shard in self._shards]
        self._starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        self.rows = sum(sizes)
        self.positives = sum(int(np.count_nonzero(shard.labels)) for shard in self._shards)

    @property
    def matrices(self) -> tuple[Int32[np.ndarray, "_ fields"], ...]:
        """The id matrix of every shard, mapped, in the order of the rows."""
        return tuple(shard.ids for shard in self._shards)

    @property
    def ids(self) -> Int32[np.ndarray, "rows fields"]:
        """All ids as one matrix: mapped where the split is one shard, else copied into memory."""
        matrices = self.matrices
        return matrices[0] if len(matrices) == 1 else np.concatenate(matrices)

    @property
    def labels(self) -> UInt8[np.ndarray, " rows"]:
        """All labels: mapped where the split is one shard, else copied into memory."""
        labels = [shard.labels for shard in self._shards]
        return labels[0] if len(labels) == 1 else np.concatenate(labels)

    def take(self, rows: Integer[np.ndarray, " batch"]) -> Batch:
        """Copy the rows of these numbers, in this order.

        Raises:
            IndexError: If there are no such rows.
        """
        if len(rows) == 0 or rows.min() < 0 or rows.max() >= self.rows:
            raise IndexError(f"rows must be some of the {self.rows} rows there are")
        if len(self._shards) == 1:
            return Batch(*self._shards[0].take(rows))
        # Taken shard by shard into one block, then put in order while it is in the cache:
        # `take` copies rows several times faster than an indexed assignment.
        shard = (np.searchsorted(self._starts, rows, side="right") - 1).astype(np.uint16)
        order = np.argsort(shard, kind="stable")
        ends = np.searchsorted(shard[order], np.arange(len(self._shards)), side="right")
        parts = [
            self._shards[number].take(rows[places].astype(np.int64) - self._starts[number])
            for number, places in enumerate(np.split(order, ends[:-1]))
            if len(places)
        ]
        block = Shard(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.labels for part in parts]),
        )
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return Batch(*block.take(back))

    def order(self, seed: int, epoch: int) -> Integer[np.ndarray, " rows"]:
        """Return the permutation of the rows in which `batches` yields an epoch."""
        order = np.arange(self.rows, dtype=np.uint32 if self.rows < 2**32 else np.uint64)
        np.random.default_rng((seed, epoch)).shuffle(order)
        return order

    def batches(
        self, size: int, *, seed: int | None = None, epoch: int = 0, start: int = 0
    ) -> Iterator[Batch]:
        """Yield every row once, `size` rows at a time; the last batch may be short.

        Without a seed the rows come in the order of the file; with one, in a permutation
        that depends on the seed and the epoch only. `start` skips that many batches, so an
        interrupted epoch goes on where it stopped.
        """
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        order = None if seed is None else self.order(seed, epoch)
        step = size * max(1, ROWS_PER_READ // size)
        for first in range(start * size, self.rows, step):
            last = min(first + step, self.rows)
            rows = np.arange(first, last) if order is None else order[first:last]
            ids, labels = self.take(rows)
            for at in range(0, len(labels), size):
                yield Batch(ids[at : at + size], labels[at : at + size])


class Dataset:
    """An encoded dataset on disk."""

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path = path
        self.schema = schema
        self.cardinalities = schema.cardinalities
        self.slots = schema.slots
        self.field_names = schema.field_names

    def split(self, name: str) -> Split:
        """Open one split: `train`, `valid` or `test`."""
        summary = {str(split): size for split, size in self.schema.splits.items()}.get(name)
        if summary is None:
            known = ", ".join(self.schema.splits)
            raise DataError(f"split must be one of {known}, got {name!r}")
        files = sorted((self.path / name).glob("*.arrow"))
        if not files:
            raise DataError(f"{self.path / name} must hold the shards of a split, got none")
        split = Split([map_shard(file, sum(self.slots)) for file in files])
        _check_size(self.path / name, split, summary)
        return split

    def vocabulary(self, field: str) -> pl.DataFrame:
        """Return the kept values of a field (null: missing), their counts and their ids."""
        if field not in self.field_names:
            raise DataError(f"field must be one of {', '.join(self.field_names)}, got {field!r}")
        return read_vocabulary(self.path, field)


def open_dataset(path: Path | str) -> Dataset:
    """Open an encoded dataset, as `prepare` writes it.

    Raises:
        DataError: If there is none, or it has another format version.
    """
    return Dataset(Path(path), Schema.load(Path(path) / "schema.json"))


def _check_size(folder: Path, split: Split, summary: SplitSummary) -> None:
    if split.rows != summary.rows:
        raise DataError(f"{folder} must hold {summary.rows} rows, got {split.rows}")
