"""Which rows of a field's tables stand for the same thing in several checkpoints."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import polars as pl
from jaxtyping import Bool, Int

from multiembed.base.errors import DataError

Keys = pl.Series
"""What every row of a table stands for, in order: text that occurs once, or nothing, once."""
Rows = Int[np.ndarray, " rows"] | int
"""Numbers of rows, or how many of the first."""


OTHER = "\0other"
"""What row 0 of a run's table stands for: all values that are not in the vocabulary."""
NAMED = 1000
"""Rows that are named at most, of those that come or go at one step."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """Rows that one table has and its neighbour in time has not."""

    count: int
    rows: tuple[str, ...]
    """What the first 1000 of them stand for; of numbers, the first and the last."""


@dataclass(frozen=True, eq=False)
class MatchedRows:
    """The rows that all tables of a field have, and those that come and go."""

    by: str
    """`value`, where every checkpoint says what its rows stand for, or `number`."""
    rows: tuple[Rows, ...]
    """Of each table, in one order."""
    new: tuple[Change, ...]
    """At every step, the rows that the table before had not."""
    gone: tuple[Change, ...]
    """At every step, the rows that the table after has not."""

    @property
    def count(self) -> int:
        """How many rows all tables have."""
        first = self.rows[0]
        return first if isinstance(first, int) else len(first)

    def only(self, wanted: Sequence[Bool[np.ndarray, " rows"]]) -> "MatchedRows":
        """Leave out the rows that some table does not want, where two others remain.

        Args:
            wanted: One flag for every row of every table.
        """
        flags = [
            of[:rows] if isinstance(rows, int) else of[rows]
            for of, rows in zip(wanted, self.rows, strict=True)
        ]
        kept = np.flatnonzero(np.logical_and.reduce(flags))
        if len(kept) < 2 or len(kept) == self.count:
            return self
        left = (kept if isinstance(rows, int) else rows[kept] for rows in self.rows)
        return replace(self, rows=tuple(left))


def match_by_number(sizes: Sequence[int]) -> MatchedRows:
    """Take rows with the same number for the same: ids that are only ever added at the end."""
    pairs = [*pairwise(sizes)]
    return MatchedRows(
        by="number",
        rows=(min(sizes),) * len(sizes),
        new=tuple(_numbers(before, after) for before, after in pairs),
        gone=tuple(_numbers(after, before) for before, after in pairs),
    )


def _numbers(start: int, stop: int) -> Change:
    count = max(0, stop - start)
    names = (f"{start}-{stop - 1}",) if count > 1 else (str(start),) * count
    return Change(count=count, rows=names)


def match_by_key(keys: Sequence[Keys]) -> MatchedRows:
    """Take rows with the same key for the same; a missing value is one too."""
    frames = [
        pl.DataFrame({"key": of, f"row{at}": np.arange(len(of))}) for at, of in enumerate(keys)
    ]
    common = frames[0]
    for frame in frames[1:]:
        common = common.join(frame, on="key", nulls_equal=True)
    common = common.sort("row0")
    pairs = [*pairwise(keys)]
    return MatchedRows(
        by="value",
        rows=tuple(common[f"row{at}"].to_numpy() for at in range(len(keys))),
        new=tuple(_difference(after, before) for before, after in pairs),
        gone=tuple(_difference(before, after) for before, after in pairs),
    )


def _difference(these: Keys, those: Keys) -> Change:
    left = these.to_frame("key").join(those.to_frame("key"), on="key", how="anti", nulls_equal=True)
    return Change(count=left.height, rows=tuple(named(left["key"], np.arange(left.height)[:NAMED])))


def named(keys: Keys, rows: Int[np.ndarray, " rows"]) -> list[str]:
    """Return what some rows stand for, as a reader should see it."""
    words: dict[str | None, str] = {None: "missing", OTHER: "other"}
    return [words.get(value, str(value)) for value in keys.gather(rows)]


def checked_keys(values: Iterable[object], rows: int, *, name: str) -> Keys:
    """Return the keys of a table's rows as a series of text.

    Raises:
        DataError: If there is not one per row, or one occurs twice.
    """
    if isinstance(values, pl.Series):
        series = values.cast(pl.String)
    else:
        texts = [None if value is None else str(value) for value in values]
        series = pl.Series(texts, dtype=pl.String)
    if len(series) != rows:
        raise DataError(f"keys of {name} must be one per row, {rows}, got {len(series)}")
    twice = series.filter(series.is_duplicated())
    if len(twice):
        raise DataError(f"keys of {name} must differ, got {twice[0]!r} twice")
    return series
