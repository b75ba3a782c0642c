"""Other views of an encoded dataset: a share of its training rows, or its rows dealt into folds."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int64

from multiembed.base.errors import ConfigError, DataError
from multiembed.base.files import new_folder
from multiembed.data.store.dataset import (
    Batch,
    Dataset,
    DatasetWriter,
    Split,
    open_dataset,
)
from multiembed.data.store.schema import FILE_NAME, SPLITS, SplitName
from multiembed.data.store.vocabularies import write_vocabulary

_ROWS_PER_SHARD = 1 << 20


def subset(dataset: Dataset, folder: Path, share: float, *, seed: int = 0) -> Dataset:
    """Return a dataset with a share of the training rows, and all others; made if not there.

    A smaller share of the same seed lies within a larger one. The vocabulary is kept, so that
    values may be left without a training row.

    Args:
        dataset: Whose rows.
        folder: Where such datasets are kept, each under a name of its own.
        share: Above 0, at most 1.
        seed: Of the draw.

    Raises:
        ConfigError: If `share` is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"share must be above 0 and at most 1, got {share:g}")
    if share == 1:
        return dataset
    rows = _all_rows(dataset)
    order = np.random.default_rng((seed, 1)).permutation(rows["train"])
    rows["train"] = np.sort(order[: max(1, round(share * len(order)))])
    name = f"share-{share:g}-seed{seed}-kept-{identity(dataset)[:8]}"
    note = {"share": share, "share_seed": seed, "share_vocabulary": "kept"}
    return _view(dataset, folder / name, rows, note=note)


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
        name = f"fold-{fold}-of-{count}-seed{seed}-{identity(dataset)[:8]}"
        note = {"fold": fold, "folds": count, "fold_seed": seed}
        found.append(_view(dataset, folder / name, dealt, note=note))
    return found


def identity(dataset: Dataset) -> str:
    """Return what tells a dataset from others: the SHA-256 of its schema, in hexadecimal."""
    return hashlib.sha256((dataset.path / FILE_NAME).read_bytes()).hexdigest()


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
    note: Mapping[str, int | float | str],
) -> Dataset:
    """Write the chosen rows as a dataset of its own, whole or not at all."""
    if (target / FILE_NAME).is_file():
        return open_dataset(target)
    several = [field.name for field in dataset.schema.fields if field.slots > 1 or field.shares]
    if several:
        raise DataError(
            f"{dataset.path} must have fields of one value per row for that, got {several[0]!r}"
        )
    splits, schema = [dataset.split(name) for name in SPLITS], dataset.schema
    with new_folder(target) as partial:
        writer = DatasetWriter(partial, dataset.slots)
        counts = [np.zeros(size, np.int64) for size in dataset.cardinalities]
        for split, chosen in rows.items():
            for first in range(0, len(chosen), _ROWS_PER_SHARD):
                batch = _gather(splits, chosen[first : first + _ROWS_PER_SHARD])
                writer.shard(split, batch)
                if split == "train":
                    for count, ids in zip(counts, batch.ids.T, strict=True):
                        count += np.bincount(ids, minlength=len(count))
        for name, count in zip(dataset.field_names, counts, strict=True):
            write_vocabulary(partial, name, _vocabulary(dataset.vocabulary(name), count))
        writer.finish(
            schema.label,
            schema.fields,
            weight=schema.weight,
            bad_rows=schema.bad_rows,
            sources=schema.sources,
            options={**schema.options, **note, "view_of": identity(dataset)[:8]},
            grown_from=schema.grown_from,
        )
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
    return Batch.joined(parts)


def _vocabulary(known: pl.DataFrame, counts: Int64[np.ndarray, " ids"]) -> pl.DataFrame:
    """Return a field's vocabulary with the counts of the rows that are left."""
    counted = pl.Series("count", counts[known["id"].to_numpy()]).cast(known["count"].dtype)
    return known.select("value", counted, "id").filter(pl.col("id") > 0).sort("id")
