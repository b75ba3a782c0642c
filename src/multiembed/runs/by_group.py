"""Quality of groups of rows, such as days, and how far the values of each are from training's."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Bool, Int, Int64
from scipy.special import chdtri

from multiembed.base.errors import DataError
from multiembed.data.store.dataset import Dataset
from multiembed.data.store.kept import values_of
from multiembed.runs.evaluation import Scores, measure

MOST_GROUPS = 1000
FREQUENT = 18
"""Values of a field that are compared one by one; the rarer ones are together, and so is *other*:
20 shares, as few as is usual for this index."""
RARELY = 1e-3
STABLE = 0.1
"""An index below is usually called no shift worth a look; above 0.25 a large one."""


class ValueDrift(NamedTuple):
    """How the values of one field in some rows differ from those of training."""

    other: float
    """Share of these values that are *other*."""
    unseen: float
    """Share of these values whose id training never had."""
    stability: float
    """Population stability index: sum of `(p - q) ln(p / q)` over shares now and in training."""
    by_chance: float
    """What the index of as many rows of training exceeds once in a thousand times."""

    @property
    def drifted(self) -> bool:
        """Whether the index is worth a look, and no chance."""
        return self.stability > max(STABLE, self.by_chance)


class GroupDrift(NamedTuple):
    """Rows that have one value of a column."""

    value: str
    measures: dict[str, float | None]
    """As `Run.evaluate` returns them, and `observed`: the share of rows with label 1."""
    fields: dict[str, ValueDrift]


def drift_by(
    scores: Scores, column: str, counts: Sequence[Int[np.ndarray, " _"]]
) -> tuple[GroupDrift, ...]:
    """Measure scored rows group by group, in order of the column's values.

    Rows without a value, or whose value is *other*, are in no group.

    Args:
        scores: Of a split.
        column: A field of one value per row, or a column that `prepare` kept.
        counts: How often training had each id of every field.

    Raises:
        DataError: If the dataset cannot tell the column's values apart, or there are too many.
    """
    values = values_of(scores.dataset, scores.split, column)
    names = sorted_names(values.drop_nulls().unique())
    if len(names) > MOST_GROUPS or not names:
        raise DataError(f"by must be a column of 1 to {MOST_GROUPS:,} values, got {len(names):,}")
    groups = values.replace_strict(names, range(len(names)), default=-1).to_numpy()
    drifts = _drifts(scores.dataset, scores.split, groups, counts)
    return tuple(
        GroupDrift(name, _measures(scores, groups == at), {n: d[at] for n, d in drifts.items()})
        for at, name in enumerate(names)
    )


def sorted_names(names: pl.Series) -> list[str]:
    """Sort texts as numbers where all are, else as texts, such as dates in ISO's way."""
    numbers = names.cast(pl.Float64, strict=False)
    keys = names if numbers.null_count() else numbers
    return names.gather(keys.arg_sort()).to_list()


def to_json(groups: Sequence[GroupDrift]) -> list[Mapping[str, object]]:
    """Return groups as what JSON can hold."""
    return [
        {**of.measures, "value": of.value, "fields": {n: d._asdict() for n, d in of.fields.items()}}
        for of in groups
    ]


def _measures(scores: Scores, rows: Bool[np.ndarray, " rows"]) -> dict[str, float | None]:
    arrays = {n: v[rows] for n, v in scores._asdict().items() if isinstance(v, np.ndarray)}
    chosen = scores._replace(**arrays)
    observed = float(np.average(chosen.labels, weights=chosen.weights))
    return {**measure(chosen), "observed": observed}


def _drifts(
    dataset: Dataset,
    split: str,
    groups: Int64[np.ndarray, " rows"],
    counts: Sequence[Int[np.ndarray, " _"]],
) -> dict[str, list[ValueDrift]]:
    """Compare every field's values in every group with those of training."""
    number = int(groups.max()) + 1
    kinds = [_kinds(of_field) for of_field in counts]
    shares = [np.zeros((number, FREQUENT + 2), np.int64) for _ in counts]
    unseen = [np.zeros(number, np.int64) for _ in counts]
    ends, start = np.cumsum(dataset.slots)[:-1], 0
    for batch in dataset.split(split).batches(1 << 16):
        of_rows = groups[start : start + len(batch.ids)]
        start += len(batch.ids)
        # Histories, which come last, have no table of their own.
        for field, ids in enumerate(np.split(batch.ids, ends, axis=1)[: len(counts)]):
            there = (ids >= 0) & (of_rows >= 0)[:, None]
            place, id = np.broadcast_to(of_rows[:, None], ids.shape)[there], ids[there]
            width = FREQUENT + 2
            flat = np.bincount(place * width + kinds[field][id], minlength=number * width)
            shares[field] += flat.reshape(number, width)
            unseen[field] += np.bincount(place[counts[field][id] == 0], minlength=number)
    return {
        name: _compared(shares[at], unseen[at], kinds[at], counts[at])
        for at, name in enumerate(dataset.field_names)
    }


def _kinds(counts: Int[np.ndarray, " ids"]) -> Int64[np.ndarray, " ids"]:
    """Number ids by how frequent they are in training: *other* 0, the frequent, all others."""
    kinds = np.full(len(counts), FREQUENT + 1)
    kinds[0] = 0
    frequent = 1 + np.argsort(-counts[1:], kind="stable")[:FREQUENT]
    kinds[frequent] = np.arange(1, len(frequent) + 1)
    return kinds


def _compared(
    shares: Int64[np.ndarray, "groups kinds"],
    unseen: Int64[np.ndarray, " groups"],
    kinds: Int64[np.ndarray, " ids"],
    counts: Int[np.ndarray, " ids"],
) -> list[ValueDrift]:
    then = np.bincount(kinds, weights=counts, minlength=shares.shape[1])
    found = []
    for now, new in zip(shares, unseen, strict=True):
        there = (now > 0) | (then > 0)
        # Half a row more, so that none of the shares is zero.
        p, q = (of[there] + 0.5 for of in (now, then))
        p, q = p / p.sum(), q / q.sum()
        rows, kind_count = max(1, int(now.sum())), int(np.count_nonzero(there))
        # Without a shift it is near chi-squared over the two sizes (Yurdakul, 2018).
        spread = 1 / rows + 1 / max(1.0, float(then.sum()))
        found.append(
            ValueDrift(
                other=float(now[0]) / rows,
                unseen=float(new) / rows,
                stability=float(((p - q) * np.log(p / q)).sum()),
                by_chance=float(chdtri(max(1, kind_count - 1), RARELY)) * spread,
            )
        )
    return found
