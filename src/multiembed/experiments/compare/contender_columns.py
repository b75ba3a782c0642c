"""The rows of an encoded dataset as arrays that any model can learn from."""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float32, Int8, Int32, Integer
from scipy import sparse

from multiembed.base.errors import DataError
from multiembed.data.store.dataset import Dataset
from multiembed.data.store.schema import SPLITS, Field, SplitName
from multiembed.data.store.shards import Batch


class SplitColumns(NamedTuple):
    """The rows of one split."""

    numbers: Float32[np.ndarray, "rows numbers"]
    """NaN where one is missing."""
    categories: Int32[np.ndarray, "rows categories"]
    """Ids of the dataset; -1 where there is no value at all, 0 for values that are *other*."""
    labels: Int8[np.ndarray, " rows"]
    weights: Float32[np.ndarray, " rows"] | None
    """What every row counts, 1 on average over the training rows; None where all count the same."""


class Columns:
    """All rows of a dataset, split by split, in the same columns; each split is read once.

    Numbers that the dataset keeps are numbers. So are fields whose buckets have an order: a bucket
    is its place in that order, a missing one NaN, and what is *other* lies below all. Everything
    else is a category. Of several values in a cell trees see the first (of a history the last) and
    how many there are; the one-hot matrix has them all.

    Args:
        dataset: Whose rows.

    Raises:
        DataError: If a split has not rows of both classes.
    """

    def __init__(self, dataset: Dataset) -> None:
        for split in SPLITS:
            size = dataset.schema.splits.get(split)
            if size is None or not 0 < size.positives < size.rows:
                found = "none" if size is None else f"{size.positives} positives of {size.rows}"
                raise DataError(
                    f"{dataset.path}: {split} must have rows of both classes, got {found}"
                )
        self.dataset = dataset
        self._fields = dataset.schema.fields
        self._starts = np.cumsum([0, *dataset.slots])
        self._ranks = {
            field.name: bucket_ranks(field, dataset.vocabulary(field.name))
            for field in self._fields
            if is_ordered(field) and field.number is None
        }

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of the columns of numbers."""
        several = (f"{field.name} (how many)" for field in self._fields if is_several(field))
        return (*(field.name for field in self._fields if is_ordered(field)), *several)

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the columns of categories."""
        return tuple(field.name for field in self._fields if not is_ordered(field))

    @property
    def notes(self) -> list[str]:
        """What contenders see otherwise than raw rows have it, in one sentence each."""
        found = []
        buckets = [of for of in self._fields if of.numeric and of.bucketed and of.number is None]
        if buckets:
            found.append(
                f"{len(buckets)} of {len(self._fields)} fields are numbers of which the dataset "
                "keeps buckets alone, for trees too; prepare --numeric-embedding plr keeps all."
            )
        for which, last in (("first", False), ("last", True)):
            names = [
                of.name for of in self._fields if is_several(of) and (of.shares is None) != last
            ]
            if names:
                several = ", ".join(names)
                found.append(f"Of {several} trees see the {which} value and how many there are.")
        return found

    @cached_property
    def train(self) -> SplitColumns:
        """The rows to fit."""
        return self._read("train")

    @cached_property
    def valid(self) -> SplitColumns:
        """The rows to stop and to choose by."""
        return self._read("valid")

    @cached_property
    def test(self) -> SplitColumns:
        """The rows to be judged by; their labels are nobody's business before."""
        return self._read("test")

    def _rows(self, name: SplitName) -> Batch:
        split = self.dataset.split(name)
        return split.take(np.arange(split.rows))

    def _read(self, name: SplitName) -> SplitColumns:
        rows = self._rows(name)
        mean = self.dataset.split("train").mean_weight
        kept = iter(() if rows.numbers is None else rows.numbers.T)
        numbers, categories, counts = [], [], []
        for field, start, end in zip(self._fields, self._starts, self._starts[1:], strict=False):
            ids = rows.ids[:, start:end]
            if field.number is not None:
                numbers.append(next(kept))
            elif is_ordered(field):
                numbers.append(self._ranks[field.name][ids[:, 0]])
            else:
                categories.append(_one_of(ids, last=field.shares is not None))
            if is_several(field):
                counts.append((ids >= 0).sum(axis=1))
        return SplitColumns(
            numbers=_beside([*numbers, *counts], len(rows.labels), np.float32),
            categories=_beside(categories, len(rows.labels), np.int32),
            labels=rows.labels.astype(np.int8),
            weights=None if rows.weights is None else rows.weights / np.float32(mean),
        )

    def one_hot(self, name: SplitName) -> sparse.csr_matrix:
        """Return a column for every id of every field, and the numbers that the dataset keeps.

        These stand on their scale, on which 0 is the middle of training: it fills in for missing
        ones, whose id says so. A cell of several values has a one, or more, for each.
        """
        rows = self._rows(name)
        first = np.cumsum([0, *(field.cardinality for field in self._fields)])
        offsets = np.repeat(first[:-1], self.dataset.slots)
        there = rows.ids >= 0
        places = (rows.ids + offsets)[there]
        ends = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
        shape = len(rows.labels), int(first[-1])
        hot = sparse.csr_matrix((np.ones(len(places)), places, ends), shape=shape)
        hot.sum_duplicates()
        if rows.numbers is None:
            return hot
        levels = sparse.csr_matrix(np.nan_to_num(rows.numbers.astype(np.float64)))
        return sparse.csr_matrix(sparse.hstack([hot, levels]))


def is_several(field: Field) -> bool:
    """Whether a row may have several values of a field, or none."""
    return field.multivalued or field.shares is not None


def is_ordered(field: Field) -> bool:
    """Whether a field's values are numbers, moments' parts, or buckets of these."""
    return field.parsed and not is_several(field)


def bucket_ranks(field: Field, vocabulary: pl.DataFrame) -> Float32[np.ndarray, " ids"]:
    """Return for every id of an ordered field its place among the values, from 0 on.

    A missing value is NaN; *other*, which may lie anywhere, is -1.

    Args:
        field: Whose.
        vocabulary: Columns `value`, the number or the bucket's as text, and `id`.
    """
    values = vocabulary["value"].cast(pl.Float64, strict=False).to_numpy()
    places = np.unique(values[~np.isnan(values)])
    ranks = np.full(field.cardinality, -1, np.float32)
    found = np.searchsorted(places, values).astype(np.float32)
    ranks[vocabulary["id"].to_numpy()] = np.where(np.isnan(values), np.nan, found)
    return ranks


def _one_of(ids: Int32[np.ndarray, "rows slots"], *, last: bool) -> Int32[np.ndarray, " rows"]:
    if not last:
        return ids[:, 0]
    place = np.maximum((ids >= 0).sum(axis=1) - 1, 0)
    return np.take_along_axis(ids, place[:, None], axis=1)[:, 0]


def _beside(
    columns: Sequence[Integer[np.ndarray, " rows"] | Float32[np.ndarray, " rows"]],
    rows: int,
    dtype: type,
) -> Float32[np.ndarray, "rows columns"] | Int32[np.ndarray, "rows columns"]:
    matrix = np.empty((rows, len(columns)), dtype)
    for at, column in enumerate(columns):
        matrix[:, at] = column
    return matrix
