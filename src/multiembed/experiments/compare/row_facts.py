"""What the rows of a dataset are like, as far as it decides who does well on them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from multiembed.data.store.dataset import Dataset
from multiembed.experiments.analysis.paired_rows import mean_with_interval
from multiembed.experiments.analysis.statistics import Interval
from multiembed.experiments.compare.contender_columns import Columns
from multiembed.runs.metrics import row_losses


@dataclass(frozen=True)
class RowFacts:
    """Counts of the training rows and their fields."""

    rows: int
    positives: int
    test_positives: int
    fields: int
    numbers: int
    """Fields of numbers."""
    kept: int
    """Those of them whose numbers the dataset keeps beside their buckets."""
    droppable: bool
    """Whether a column can be left out: only of a format that fixes none."""
    ids: int
    """Ids of categories that training rows have."""
    rows_per_id: float
    """Median over these: half of them are in so many training rows, or fewer."""
    largest: str
    """The category with the most ids; empty where there is no category."""
    largest_ids: int
    largest_rows_per_id: float


@dataclass(frozen=True)
class RareRows:
    """Log loss of the best of the others less that of the reference, in two kinds of test rows."""

    field: str
    """The category with the most ids."""
    most: int
    """Rare is a row whose id of that field is in at most so many training rows."""
    rows: int
    """How many test rows are rare: half of them, and those that tie."""
    rare: Interval
    frequent: Interval
    """Of all other test rows."""


def row_facts(dataset: Dataset, columns: Columns) -> RowFacts:
    """Count what training rows have."""
    fields, counts = dataset.schema.fields, _counts(columns)
    seen = [of[of > 0] for of in counts]
    largest = _largest(counts) if counts else 0
    every = np.concatenate(seen) if seen else np.empty(0)
    train = dataset.schema.splits["train"]
    return RowFacts(
        rows=train.rows,
        positives=train.positives,
        test_positives=dataset.schema.splits["test"].positives,
        fields=len(fields),
        numbers=sum(field.numeric is not None for field in fields),
        droppable=dataset.schema.options.get("format") == "table",
        kept=sum(field.number is not None for field in fields),
        ids=len(every),
        rows_per_id=float(np.median(every)) if len(every) else 0.0,
        largest=columns.categories[largest] if seen else "",
        largest_ids=len(seen[largest]) if seen else 0,
        largest_rows_per_id=float(np.median(seen[largest])) if seen else 0.0,
    )


def rare_rows(
    columns: Columns,
    rival: Sequence[Float[np.ndarray, " rows"]],
    reference: Sequence[Float[np.ndarray, " rows"]],
) -> RareRows | None:
    """Tell the half of the test rows with the rarer ids from the others, and compare in both.

    It goes by the category with the most ids. A cell without a value is nothing that may be rare.

    Args:
        columns: The dataset's.
        rival: Probabilities of the test rows, one array per seed.
        reference: Those of the model that it is compared with.
    """
    test, counts = columns.test, _counts(columns)
    if not counts:
        return None
    field = _largest(counts)
    ids = test.categories[:, field]
    training = np.where(ids < 0, len(columns.train.labels), counts[field][np.maximum(ids, 0)])
    most = int(np.median(training))
    rare = training <= most
    if rare.all():
        return None
    losses = [
        np.mean([row_losses(test.labels, of) for of in p], axis=0) for p in (rival, reference)
    ]
    difference, weights = losses[0] - losses[1], test.weights
    intervals = [
        mean_with_interval(difference[of], None if weights is None else weights[of])
        for of in (rare, ~rare)
    ]
    return RareRows(columns.categories[field], most, int(rare.sum()), *intervals)


def _largest(counts: Sequence[Int[np.ndarray, " _"]]) -> int:
    return int(np.argmax([np.count_nonzero(of) for of in counts]))


def _counts(columns: Columns) -> list[Int[np.ndarray, " ids"]]:
    """Return how many training rows have each id of each category; of *other*, rare values, 0."""
    found = []
    for ids, other in zip(columns.train.categories.T, columns.test.categories.T, strict=True):
        counts = np.bincount(ids[ids >= 0], minlength=max(ids.max(), other.max(), 0) + 1)
        counts[0] = 0
        found.append(counts)
    return found
