"""How often training has every id, which also checks that each is one of its field's."""

import numpy as np
from jaxtyping import Int

from multiembed.base.errors import DataError
from multiembed.data.store.dataset import Split

COUNTED_ROWS = 65536
"""Rows that are counted at once."""


def count_rows(
    split: Split,
    cardinalities: tuple[int, ...],
    slots: tuple[int, ...] | None = None,
    shares: tuple[int, ...] = (),
) -> Int[np.ndarray, " rows"]:
    """Return how often `split` holds each id, fields one after another.

    Args:
        split: Rows of ids (rows, columns).
        cardinalities: Number of ids of every field.
        slots: Columns of ids that every field has, one each if not given; -1 behind the first of
            them is no value.
        shares: For every history, behind these fields, the place of the one whose ids it holds;
            -1 is no value.

    Raises:
        DataError: If an id lies outside its field, naming field, id and cardinality; or a number is
            infinite.
    """
    counts = [np.zeros(size, dtype=np.int64) for size in cardinalities]
    tables = [*range(len(cardinalities)), *shares]
    ends = np.cumsum(slots or [1] * len(tables))[:-1]
    for batch in split.batches(COUNTED_ROWS):
        columns = np.split(batch.ids, ends, axis=1)
        for field, table in enumerate(tables):
            of_field, size = counts[table], cardinalities[table]
            ids = columns[field]
            ids = _values(ids) if field < len(counts) else ids[ids != -1]
            if not len(ids):  # histories may all be empty
                continue
            low, high = int(ids.min()), int(ids.max())
            if low < 0 or high >= size:
                wrong = low if low < 0 else high
                raise DataError(
                    f"id of field {field} must be below its cardinality {size}, got {wrong}"
                )
            of_field += np.bincount(ids, minlength=size)
        if batch.numbers is not None and np.isinf(batch.numbers).any():
            raise DataError("numbers of a dataset must be finite or missing, got infinite ones")
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
