"""Values that training never saw: how many rows have now, beside how many they had then."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Int
from scipy.special import betainc, betaincinv

from multiembed.data.encoding.typed import settled
from multiembed.data.encoding.values import NO_VALUE, read_values
from multiembed.data.store.schema import Field, Schema

LEAST = 0.1
"""Shares that rose by less are never remarked on: days differ."""
ODDS = 3.0
"""Nor are those whose odds rose less than so many times."""
CHANCE = 1e-6
"""Nor what would come about by chance more often than this, in rows like those of training."""


class UnseenWarning(UserWarning):
    """A field has far more values that training never saw than training had."""


@dataclass(frozen=True, kw_only=True)
class FieldShares:
    """One field of scored rows beside the dataset that its run was trained on; shares of rows."""

    name: str
    unseen: float
    """A value, or one of several, that training never saw or kept; the unreadable ones included."""
    unreadable: float
    """Text where a number or a moment should be."""
    missing: float
    """No value."""
    trained_unseen: float
    """The same in the split of the dataset that had most of it."""
    trained_missing: float
    remark: str | None
    """One line, if the rows are far beyond that."""


def warn_of(fields: Sequence[FieldShares], *, stacklevel: int) -> None:
    """Warn once for every field that is far beyond training."""
    for remark in remarks_of(fields):
        warnings.warn(remark, UnseenWarning, stacklevel=stacklevel + 1)


def remarks_of(fields: Sequence[FieldShares]) -> tuple[str, ...]:
    """Return one line for every field that is far beyond training."""
    return tuple(field.remark for field in fields if field.remark is not None)


class UnseenTally:
    """Counts block by block what training never saw.

    Args:
        schema: Of the run.
        vocabularies: Of the run.
    """

    def __init__(self, schema: Schema, vocabularies: Mapping[str, pl.DataFrame]) -> None:
        self.rows = 0
        self._schema = schema
        self._vocabularies = vocabularies
        # A missing value that is too rare to have an id of its own is *other*.
        self._missing = {
            name: vocabulary.filter(pl.col("value").is_null()).select("id", "count").row(0)
            if vocabulary["value"].null_count()
            else (None, 0)
            for name, vocabulary in vocabularies.items()
        }
        self._counts = {field.name: np.zeros(3, np.int64) for field in schema.fields}
        self._examples: dict[str, object] = {}

    def add(self, rows: pl.DataFrame, ids: Int[np.ndarray, "rows columns"]) -> None:
        """Count some rows, and the ids they were given."""
        self.rows += len(ids)
        ends = np.cumsum(self._schema.slots)[:-1]
        parts = np.split(ids, ends, axis=1)
        for field, of_field in zip(self._schema.fields, parts, strict=True):
            unseen = (of_field == 0).any(axis=1)
            count = np.count_nonzero(unseen)
            absent = NO_VALUE if field.shares else self._missing[field.name][0]
            missing = np.count_nonzero(of_field[:, 0] == absent)
            unreadable = 0
            if count and field.parsed:
                found = read_values(settled(rows.select(field.column)), [field]).unreadable
                unreadable = sum(np.count_nonzero(flags) for flags in found.values())
            self._counts[field.name] += np.array([count, unreadable, missing])
            if count and field.name not in self._examples:
                self._examples[field.name] = rows[field.column][int(unseen.argmax())]

    @property
    def fields(self) -> tuple[FieldShares, ...]:
        """What was counted, field by field."""
        return tuple(self._shares(field) for field in self._schema.fields)

    def _shares(self, field: Field) -> FieldShares:
        rows = max(1, self.rows)
        unseen, unreadable, missing = self._counts[field.name].tolist()
        of_split = [
            (field.other.get(name, 0), max(1, split.rows))
            for name, split in self._schema.splits.items()
        ]
        had = max(of_split, key=lambda split: split[0] / split[1], default=(0, 0))
        counted = self._counted_rows()
        if field.shares:
            had_missing = field.empty, sum(rows for _, rows in of_split)
        else:
            had_missing = min(self._missing[field.name][1], counted), counted
        remark = None
        if is_far_beyond((unseen, rows), had):
            remark = self._remark(field, unseen, unreadable, had[0] / had[1])
        elif is_far_beyond((missing, rows), had_missing):
            before = had_missing[0] / had_missing[1]
            remark = (
                f"{field.name}: {missing / rows:.0%} of values missing, {before:.0%} in training"
            )
        return FieldShares(
            name=field.name,
            unseen=unseen / rows,
            unreadable=unreadable / rows,
            missing=missing / rows,
            trained_unseen=had[0] / max(1, had[1]),
            trained_missing=had_missing[0] / max(1, had_missing[1]),
            remark=remark,
        )

    def _counted_rows(self) -> int:
        """Return how many rows the vocabularies were counted on."""
        splits = self._schema.splits
        every = self._schema.options.get("vocabulary") == "all"
        return sum(split.rows for name, split in splits.items() if every or name == "train")

    def _remark(self, field: Field, unseen: int, unreadable: int, before: float) -> str:
        what = "could not be read" if 2 * unreadable > unseen else "never seen"
        had = self._vocabularies[field.table].filter(pl.col("value").is_not_null())["value"].head(1)
        known = repr(had[0]) if len(had) else "none of its own"
        if field.hash_size is not None:
            known = "others, hashed"
        if field.parsed:
            known = "dates" if field.date else "numbers"
        return (
            f"{field.name}: {unseen / self.rows:.0%} of values {what}, {before:.0%} in training; "
            f"these rows have {self._examples.get(field.name)!r}, training had {known}"
        )


def is_far_beyond(now: tuple[int, int], then: tuple[int, int]) -> bool:
    """Say whether a share is far above an earlier one: much higher, and not by chance.

    The earlier share is taken at the upper end of what its own rows leave open (Clopper and
    Pearson, 1934, to one in a thousand), and so many rows now would be rarer than `CHANCE`.

    Args:
        now: How many of how many rows.
        then: The same earlier.
    """
    (count, rows), (before, of) = now, then
    if count == 0 or of == 0:
        return False
    share = count / rows
    upper = float(betaincinv(before + 1, of - before, 0.999)) if before < of else 1.0
    odds = upper / (1 - upper) if upper < 1 else np.inf
    much = share - before / of >= LEAST and share >= ODDS * odds * (1 - share)
    return bool(much and betainc(count, rows - count + 1, upper) < CHANCE)
