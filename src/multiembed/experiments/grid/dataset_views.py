"""Other views of an encoded dataset: a share of its training rows, or its rows dealt into folds."""

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int32, Int64

from multiembed.base.errors import ConfigError, DataError
from multiembed.data.encoding.vocabulary import write_vocabulary
from multiembed.data.store.dataset import Batch, Dataset, Split, open_dataset
from multiembed.data.store.schema import FILE_NAME, SPLITS, Field, SplitName, SplitSummary
from multiembed.data.store.shards import shard_name, write_shard

ROWS_PER_SHARD = 1 << 20


def subset(
    dataset: Dataset, folder: Path, share: float, *, seed: int = 0, rebuild: bool = False
) -> Dataset:
    """Return a dataset with a share of the training rows, and all others; made if not there.

    A smaller share of the same seed lies within a larger one. The vocabulary is kept, so that
    values may be left without a training row, or counted anew on the rows that are left.

    Raises:
        ConfigError: If `share` is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"share must be above 0 and at most 1, got {share:g}")
    if share == 1 and not rebuild:
        return dataset
    rows = _all_rows(dataset)
    order = np.random.default_rng((seed, 1)).permutation(rows["train"])
    rows["train"] = np.sort(order[: max(1, round(share * len(order)))])
    kind = "rebuilt" if rebuild else "kept"
    name = f"share-{share:g}-seed{seed}-{kind}-{_identity(dataset)}"
    note = {"share": share, "share_seed": seed, "share_vocabulary": kind}
    return _view(dataset, folder / name, rows, rebuild=rebuild, note=note)


def folds(dataset: Dataset, folder: Path, count: int, *, seed: int = 0) -> list[Dataset]:
    """Return datasets that test every row once: all rows dealt into `count` parts at random.

    Fold k tests part k, stops early by part k + 1 and trains on the others. The vocabulary is
    kept as it is.

    Raises:
        ConfigError: If there are fewer than three parts.
    """
    if count < 3:
        raise ConfigError(f"folds must be at least 3, for train, valid and test, got {count}")
    rows = _all_rows(dataset)
    every = np.concatenate([rows[name] for name in SPLITS])
    part = np.random.default_rng((seed, 2)).permutation(len(every)) % count
    found = []
    for fold in range(count):
        valid = (fold + 1) % count
        dealt: dict[SplitName, Int64[np.ndarray, " _"]] = {
            "train": every[(part != fold) & (part != valid)],
            "valid": every[part == valid],
            "test": every[part == fold],
        }
        name = f"fold-{fold}-of-{count}-seed{seed}-{_identity(dataset)}"
        note = {"fold": fold, "folds": count, "fold_seed": seed}
        found.append(_view(dataset, folder / name, dealt, rebuild=False, note=note))
    return found


def _identity(dataset: Dataset) -> str:
    return hashlib.sha256((dataset.path / FILE_NAME).read_bytes()).hexdigest()[:8]


def _all_rows(dataset: Dataset) -> dict[SplitName, Int64[np.ndarray, " _"]]:
    """Number all rows through, split by split."""
    rows: dict[SplitName, Int64[np.ndarray, " _"]] = {}
    start = 0
    for name in SPLITS:
        count = dataset.schema.splits[name].rows
        rows[name] = np.arange(start, start + count)
        start += count
    return rows


def _view(
    dataset: Dataset,
    target: Path,
    rows: Mapping[SplitName, Int64[np.ndarray, " _"]],
    *,
    rebuild: bool,
    note: Mapping[str, int | float | str],
) -> Dataset:
    """Write the chosen rows as a dataset of its own, whole or not at all."""
    if (target / FILE_NAME).is_file():
        return open_dataset(target)
    several = [field.name for field in dataset.schema.fields if field.slots > 1]
    if several:
        raise DataError(
            f"{dataset.path} must have fields of one value per row for that, got {several[0]!r}"
        )
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    splits = [dataset.split(name) for name in SPLITS]
    counts = _counts(splits, rows["train"], dataset.cardinalities)
    maps = [_renumbered(c, f) for c, f in zip(counts, dataset.schema.fields, strict=True)]
    if not rebuild:
        maps = [np.arange(len(count), dtype=np.int32) for count in counts]
    sizes: dict[SplitName, SplitSummary] = {}
    other: list[dict[SplitName, int]] = [{} for _ in maps]
    for name in SPLITS:
        sizes[name], unknown = _write_split(partial / name, splits, rows[name], maps)
        for field, number in zip(other, unknown, strict=True):
            field[name] = number
    for field, ids, count in zip(dataset.schema.fields, maps, counts, strict=True):
        known = dataset.vocabulary(field.name)
        write_vocabulary(partial, field.name, _vocabulary(known, ids, count))
    fields = tuple(
        field.model_copy(update={"cardinality": int(ids.max()) + 1, "other": unknown})
        for field, ids, unknown in zip(dataset.schema.fields, maps, other, strict=True)
    )
    options = {**dataset.schema.options, **note, "view_of": _identity(dataset)}
    update = {"fields": fields, "splits": sizes, "options": options}
    dataset.schema.model_copy(update=update).save(partial)
    shutil.rmtree(target, ignore_errors=True)
    partial.replace(target)
    return open_dataset(target)


def _gather(splits: Sequence[Split], rows: Int64[np.ndarray, " chosen"]) -> Batch:
    """Read rows by their number through all splits; they must rise."""
    starts = np.cumsum([0, *(split.rows for split in splits)])
    cuts = np.searchsorted(rows, starts)
    parts = [
        split.take(rows[low:high] - start)
        for split, start, low, high in zip(splits, starts, cuts, cuts[1:], strict=False)
        if high > low
    ]
    ids = np.concatenate([part.ids for part in parts])
    return Batch(ids, np.concatenate([part.labels for part in parts]))


def _counts(
    splits: Sequence[Split], rows: Int64[np.ndarray, " chosen"], cardinalities: Sequence[int]
) -> list[Int64[np.ndarray, " _"]]:
    counts = [np.zeros(size, np.int64) for size in cardinalities]
    for first in range(0, len(rows), ROWS_PER_SHARD):
        ids = _gather(splits, rows[first : first + ROWS_PER_SHARD]).ids
        for count, column in zip(counts, ids.T, strict=True):
            count += np.bincount(column, minlength=len(count))
    return counts


def _renumbered(counts: Int64[np.ndarray, " ids"], field: Field) -> Int32[np.ndarray, " ids"]:
    """Return the new id of every old one: by falling count, ties by old id; rare ones are 0."""
    kept = np.flatnonzero(counts[1:] >= max(1, field.min_count)) + 1
    order = kept[np.argsort(-counts[kept], kind="stable")]
    ids = np.zeros(len(counts), np.int32)
    ids[order] = np.arange(1, len(order) + 1)
    return ids


def _write_split(
    folder: Path,
    splits: Sequence[Split],
    rows: Int64[np.ndarray, " chosen"],
    maps: Sequence[Int32[np.ndarray, " _"]],
) -> tuple[SplitSummary, list[int]]:
    """Write a split, and count its positives and each field's rows of *other*."""
    folder.mkdir()
    positives, other = 0, np.zeros(len(maps), np.int64)
    for shard, first in enumerate(range(0, len(rows), ROWS_PER_SHARD)):
        batch = _gather(splits, rows[first : first + ROWS_PER_SHARD])
        columns = [ids[column] for ids, column in zip(maps, batch.ids.T, strict=True)]
        ids = np.ascontiguousarray(np.stack(columns, axis=1))
        write_shard(folder / shard_name(shard), ids, np.ascontiguousarray(batch.labels))
        positives += int(np.count_nonzero(batch.labels))
        other += np.count_nonzero(ids == 0, axis=0)
    return SplitSummary(rows=len(rows), positives=positives), other.tolist()


def _vocabulary(
    known: pl.DataFrame, ids: Int32[np.ndarray, " ids"], counts: Int64[np.ndarray, " ids"]
) -> pl.DataFrame:
    old = known["id"].to_numpy()
    return (
        known.select("value")
        .with_columns(
            pl.Series("count", counts[old]).cast(known["count"].dtype),
            pl.Series("id", ids[old]).cast(known["id"].dtype),
        )
        .filter(pl.col("id") > 0)
        .sort("id")
    )
