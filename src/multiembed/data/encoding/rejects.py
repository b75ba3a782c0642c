"""Rows that cannot be read: counted, the first ones named, refused above a limit."""

from collections.abc import Collection, Mapping

import numpy as np
import polars as pl
from jaxtyping import Bool

from multiembed.base.errors import DataError
from multiembed.data.sources.source import SHOWN, BadRow, Block
from multiembed.data.store.schema import BadRows


class Rejects:
    """What was left out of one reading of a source."""

    def __init__(
        self, limit: int, before: BadRows, readable: int, *, dates: Collection[str] = ()
    ) -> None:
        self._limit = limit
        self._dates = dates
        self._count = before.count
        self._first = list(before.first)
        self.readable = readable

    @property
    def record(self) -> BadRows:
        """How many there were, and the first of them."""
        return BadRows(count=self._count, first=tuple(self._first))

    def add(
        self, block: Block, labels: pl.Series, unreadable: Mapping[str, Bool[np.ndarray, " rows"]]
    ) -> Bool[np.ndarray, " rows"]:
        """Return which rows of a block have no label or a number that cannot be read.

        Raises:
            DataError: If there are now more bad rows than the limit.
        """
        bad = {"": labels.is_null().to_numpy(), **unreadable}
        rejected = np.logical_or.reduce(list(bad.values()))
        count = int(np.count_nonzero(rejected))
        self._count += block.bad_count + count
        self.readable += len(rejected) - count
        if len(self._first) < SHOWN and (block.bad or rejected.any()):
            found = [*block.bad, *_named(block, labels.name, bad, self._dates)]
            lines = [f"{block.place} {row.line}: {row.reason}" for row in sorted(found)]
            self._first = (self._first + lines)[:SHOWN]
        if self._count > self._limit:
            raise DataError(self._refusal())
        return rejected

    def _refusal(self) -> str:
        more = "".join(f"; {line}" for line in self._first[1:])
        rows = "1 bad row" if self._count == 1 else f"{self._count} bad rows"
        return f"{self._first[0]}{more} ({rows} so far, max_bad_rows is {self._limit})"


def _named(
    block: Block, label: str, bad: dict[str, np.ndarray], dates: Collection[str]
) -> list[BadRow]:
    named = {}
    for name, rows in bad.items():
        kind = "a date" if name in dates else "a number"
        rule = f"{{}} must be {kind} or empty" if name else "label {} must be 0 or 1"
        for row in np.flatnonzero(rows)[:SHOWN]:
            got = block.rows[name or label][int(row)]
            reason = f"{rule.format(name or label)}, got {'nothing' if got is None else repr(got)}"
            named.setdefault(int(row), BadRow(int(block.lines[row]), reason))
    return [named[row] for row in sorted(named)][:SHOWN]
