"""An encoded dataset: written shard by shard, opened as memory-mapped splits and their batches."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float32, Int32, Integer, UInt8
from pydantic import JsonValue

from multiembed.base.errors import DataError
from multiembed.base.files import folder_identity
from multiembed.data.store.schema import (
    SPLITS,
    BadRows,
    Field,
    Fingerprint,
    Schema,
    SourceFile,
    SplitName,
    SplitOrder,
    SplitSummary,
)
from multiembed.data.store.shards import Batch, map_shard, shard_name, write_shard
from multiembed.data.store.vocabularies import digest, read_vocabulary, values_digest

ROWS_PER_READ = 16384
"""Rows gathered at once; batches are views of them, so that small batches cost no more."""

Counts = list[list[list[int]]]
"""What a `DatasetWriter` counts: of every split rows and positives, then each field's *other*, then
the checksums of ids, labels and whatever else rows have."""


class Split:
    """The rows of one split, in one or several memory-mapped shards."""

    def __init__(self, shards: list[Batch]) -> None:
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

    @property
    def weights(self) -> Float32[np.ndarray, " rows"] | None:
        """What every row counts, or None where all count the same."""
        weights = [shard.weights for shard in self._shards if shard.weights is not None]
        return np.concatenate(weights) if weights else None

    @property
    def mean_weight(self) -> float:
        """What a row counts on average."""
        weights = self.weights
        return 1.0 if weights is None else float(weights.mean(dtype=np.float64))

    def base_rate(self, negative_rate: float = 1.0) -> float:
        """Share of positives, by weight, where a share `negative_rate` of the negatives is kept."""
        share = float(np.average(self.labels, weights=self.weights))
        return share / (share + negative_rate * (1 - share))

    def take(self, rows: Integer[np.ndarray, " batch"]) -> Batch:
        """Copy the rows of these numbers, in this order.

        Raises:
            IndexError: If there are no such rows.
        """
        if len(rows) == 0 or rows.min() < 0 or rows.max() >= self.rows:
            raise IndexError(f"rows must be some of the {self.rows} rows there are")
        if len(self._shards) == 1:
            return self._shards[0].take(rows)
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
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return Batch.joined(parts).take(back)

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
            taken = self.take(rows)
            for at in range(0, len(rows), size):
                yield taken.map(lambda column, at=at: column[at : at + size])


class Dataset:
    """An encoded dataset on disk, as `open_dataset` returns it.

    After `prepare`, as its example shows:

        >>> import multiembed as me
        >>> import polars as pl
        >>> pl.DataFrame({"click": [0, 1] * 20, "site": list("aabbc") * 8}).write_csv("rows.csv")
        >>> options = me.PrepareOptions(format="table", label="click")
        >>> _ = me.prepare("rows.csv", "rows", options)
        >>> dataset = me.open_dataset("rows")
        >>> dataset.cardinalities, dataset.split("train").ids.shape
        ((4,), (32, 1))
        >>> dataset.vocabulary("site")["value"].to_list()
        ['a', 'b', 'c']

    Args:
        path: Its directory.
        schema: What is in its `schema.json`.
    """

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path = path
        self.schema = schema
        self._seen = folder_identity(path)
        self.cardinalities = schema.cardinalities
        self.slots = schema.slots
        self.shares = schema.shares
        self.field_names = schema.field_names

    def split(self, name: str) -> Split:
        """Open one split: `train`, `valid` or `test`.

        Raises:
            DataError: If there is no such split, or its files are not whole.
        """
        summary = {str(split): size for split, size in self.schema.splits.items()}.get(name)
        if summary is None:
            known = ", ".join(self.schema.splits)
            raise DataError(f"split must be one of {known}, got {name!r}")
        files = sorted((self.path / name).glob("*.arrow"))
        if not files:
            raise DataError(f"{self.path / name} must hold the shards of a split, got none")
        schema = self.schema
        columns, weighted = sum(schema.slots), schema.weight is not None
        numbers = schema.numbers
        split = Split(
            [map_shard(file, columns=columns, weighted=weighted, numbers=numbers) for file in files]
        )
        self.check_is(self._seen)
        _check_size(self.path / name, split, summary)
        return split

    def vocabulary(self, field: str) -> pl.DataFrame:
        """Return the kept values of a field (null: missing), their counts and their ids."""
        if field not in self.field_names:
            raise DataError(f"field must be one of {', '.join(self.field_names)}, got {field!r}")
        found = read_vocabulary(self.path, field)
        self.check_is(self._seen)
        return found

    def check_is(self, seen: tuple[int, int] | None) -> None:
        """Refuse to go on reading when another dataset has taken the place of the one seen.

        Raises:
            DataError: If it has.
        """
        if seen != folder_identity(self.path):
            raise DataError(f"{self.path} must stay while it is read, got another in its place")


def open_dataset(path: Dataset | Path | str) -> Dataset:
    """Open an encoded dataset, as `prepare` writes it.

        >>> import multiembed as me
        >>> import polars as pl
        >>> pl.DataFrame({"click": [0, 1] * 20, "n": range(40)}).write_csv("numbers.csv")
        >>> options = me.PrepareOptions(format="table", label="click")
        >>> _ = me.prepare("numbers.csv", "numbers", options)
        >>> me.open_dataset("numbers").split("valid").rows
        4

    Args:
        path: Its directory. A dataset that is open is returned as it is.

    Raises:
        DataError: If there is none, or it has another format version.
    """
    if isinstance(path, Dataset):
        return path
    found = folder_identity(Path(path))
    dataset = Dataset(Path(path), Schema.load(Path(path) / "schema.json"))
    dataset.check_is(found)
    return dataset


class DatasetWriter:
    """Writes an encoded dataset: vocabularies and shards as they come, the schema last.

    Args:
        folder: Directory to fill; a call of `finish` makes it a dataset.
        slots: Columns of the id matrix that every field has, in order.
        counts: Where a writer that was interrupted had come to; that one's `counts`.
    """

    def __init__(self, folder: Path, slots: Sequence[int], *, counts: Counts | None = None) -> None:
        empty = [[[0, 0]] * len(SPLITS), [[0] * len(slots)] * len(SPLITS), [[0, 0]] * len(SPLITS)]
        sizes, other, sums = counts or empty
        self.folder = folder
        self._sizes = np.array(sizes, np.int64)
        self._other = np.array(other, np.int64).reshape(len(SPLITS), len(slots))
        self._sums = [list(of_split) for of_split in sums]
        self._starts = np.cumsum([0, *slots])[:-1]
        self._next = dict.fromkeys(SPLITS, 0)

    @property
    def counts(self) -> Counts:
        """Totals over all shards so far, to be kept in a journal."""
        return [self._sizes.tolist(), self._other.tolist(), [list(two) for two in self._sums]]

    def rows(self, split: SplitName) -> int:
        """Return how many rows of a split are written."""
        return int(self._sizes[SPLITS.index(split), 0])

    def shard(
        self,
        split: SplitName,
        rows: Batch,
        *,
        number: int | None = None,
    ) -> None:
        """Write some rows of a split, and count them.

        Args:
            split: `train`, `valid` or `test`.
            rows: All with the same columns.
            number: Place of the shard in the split; the one after the last if not given.
        """
        place = self._next[split] if number is None else number
        self._next[split] = place + 1
        code = SPLITS.index(split)
        self._sizes[code] += (len(rows.labels), np.count_nonzero(rows.labels))
        other = rows.ids == 0
        if other.shape[1] > len(self._starts):
            other = np.logical_or.reduceat(other, self._starts, axis=1)
        self._other[code] += np.count_nonzero(other, axis=0)
        sums = self._sums[code]  # the same however rows are cut into shards
        present = [column for column in rows if column is not None]
        sums += [0] * (len(present) - len(sums))
        for at, array in enumerate(present):
            sums[at] = zlib.crc32(np.ascontiguousarray(array).data, sums[at])
        if len(rows.labels):
            (self.folder / split).mkdir(exist_ok=True)
            write_shard(self.folder / split / shard_name(place), rows)

    def finish(
        self,
        label: str,
        fields: Sequence[Field],
        *,
        weight: str | None = None,
        bad_rows: BadRows | None = None,
        sources: Sequence[SourceFile] = (),
        options: Mapping[str, JsonValue] | None = None,
        order: SplitOrder | None = None,
        grown_from: Sequence[str] = (),
    ) -> Schema:
        """Write the schema, which makes the directory a dataset, and return it.

        Args:
            label: Name of the label's column.
            fields: In the order of the id matrix; their counts of *other* are filled in.
            weight: Name of the column that weighs rows, if one does.
            bad_rows: Rows that were left out.
            sources: Files that the rows come from.
            options: What the dataset was made with.
            order: How rows were ordered and cut, if a column did it.
            grown_from: Fingerprints of the values that these grew out of.
        """
        present = [code for code in range(len(SPLITS)) if self._sizes[code, 0]]
        sizes = self._sizes.tolist()
        schema = Schema(
            label=label,
            weight=weight,
            fields=tuple(
                field.model_copy(update={"other": {SPLITS[code]: counts[code] for code in present}})
                for field, counts in zip(fields, self._other.T.tolist(), strict=True)
            ),
            splits={
                SPLITS[code]: SplitSummary(rows=sizes[code][0], positives=sizes[code][1])
                for code in present
            },
            bad_rows=bad_rows or BadRows(),
            sources=tuple(sources),
            options=dict(options or {}),
            order=order,
            fingerprint=Fingerprint(
                values=values_digest(self.folder, fields), rows=digest(repr((sizes, self._sums)))
            ),
            grown_from=tuple(grown_from),
        )
        schema.save(self.folder)
        return schema


def _check_size(folder: Path, split: Split, summary: SplitSummary) -> None:
    if split.rows != summary.rows:
        raise DataError(f"{folder} must hold {summary.rows} rows, got {split.rows}")
