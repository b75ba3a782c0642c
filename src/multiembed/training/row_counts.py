"""How often training sees each embedding row, and what rows that it never sees hold."""

import itertools

import numpy as np
import torch
from jaxtyping import Int

from multiembed.base.errors import DataError
from multiembed.data.store.dataset import Split
from multiembed.models.embedding import EmbeddingSets

COUNT_CHUNK = 65536


def count_rows(
    split: Split, cardinalities: tuple[int, ...], slots: tuple[int, ...] | None = None
) -> Int[np.ndarray, " rows"]:
    """Return how often `split` holds each id, fields one after another.

    `slots` are the columns of ids that every field has, one each if not given; -1 behind the
    first of them is no value.

    Raises:
        DataError: If an id lies outside its field, naming field, id and cardinality.
    """
    counts = [np.zeros(size, dtype=np.int64) for size in cardinalities]
    ends = np.cumsum(slots or [1] * len(cardinalities))[:-1]
    for batch in split.batches(COUNT_CHUNK):
        columns = np.split(batch.ids, ends, axis=1)
        for field, (of_field, size) in enumerate(zip(counts, cardinalities, strict=True)):
            ids = _values(columns[field])
            low, high = int(ids.min()), int(ids.max())
            if low < 0 or high >= size:
                wrong = low if low < 0 else high
                raise DataError(
                    f"id of field {field} must be below its cardinality {size}, got {wrong}"
                )
            of_field += np.bincount(ids, minlength=size)
    return np.concatenate(counts)


def _values(
    ids: Int[np.ndarray, "batch slots"],
) -> Int[np.ndarray, " values"]:
    """Return the ids of one field that stand for values."""
    if ids.shape[1] == 1:
        return ids[:, 0]
    there = ids != -1
    there[:, 0] = True
    return ids[there]


@torch.no_grad()
def settle_other(embedding: EmbeddingSets, row_counts: Int[np.ndarray, " rows"]) -> None:
    """Give *other* the count-weighted mean of its field, where no training row falls into it.

    A value first seen when the model serves then meets an average, not random numbers. Training
    is unaffected: no training row reads these rows.
    """
    counts = torch.from_numpy(row_counts)
    starts = itertools.accumulate(embedding.cardinalities, initial=0)
    for block, start in zip(embedding.by_field(), starts, strict=False):
        of_field = counts[start : start + len(block)].to(block)
        if of_field[0] == 0 and of_field.sum() > 0:
            block[0] = (of_field @ block) / of_field.sum()
