"""Rows that cannot be read: counted, the first ones named, refused above a limit."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Int64

from multiembed.data.schema import BadRows
from multiembed.data.sources import SHOWN, BadRow, Block
from multiembed.data.values import read_labels
from multiembed.errors import DataError


class Rejects:
    """What was left out of one reading of a source."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0
        self.readable = 0
        self._first: list[str] = []
        self._numbers: list[np.ndarray] = [np.zeros(0, np.int64)]

    @property
    def record(self) -> BadRows:
        """How many there were, and the first of them."""
        return BadRows(count=self._count, first=tuple(self._first))

    @property
    def numbers(self) -> Int64[np.ndarray, " rejected"]:
        """Numbers of the rows that have the right columns and still cannot be read."""
        return np.concatenate(self._numbers)

    def add(
        self, block: Block, label: str, unreadable: Mapping[str, Bool[np.ndarray, " rows"]]
    ) -> Bool[np.ndarray, " rows"]:
        """Return which rows of a block have a label or a number that cannot be read.

        Raises:
            DataError: If there are now more bad rows than the limit.
        """
        bad = {label: read_labels(block.rows, label).is_null().to_numpy()}
        bad |= unreadable
        rejected = np.logical_or.reduce(list(bad.values()))
        count = int(np.count_nonzero(rejected))
        self._count += block.bad_count + count
        self.readable += len(rejected) - count
        self._numbers.append(block.numbers[rejected])
        if len(self._first) < SHOWN and (block.bad or rejected.any()):
            found = [*block.bad, *_named(block, label, bad)]
            lines = [f"{block.place} {row.line}: {row.reason}" for row in sorted(found)]
            self._first = (self._first + lines)[:SHOWN]
        if self._count > self._limit:
            raise DataError(self._refusal())
        return rejected

    def _refusal(self) -> str:
        more = "".join(f"; {line}" for line in self._first[1:])
        rows = "1 bad row" if self._count == 1 else f"{self._count} bad rows"
        return f"{self._first[0]}{more} ({rows} so far, max_bad_rows is {self._limit})"


def _named(block: Block, label: str, bad: dict[str, np.ndarray]) -> list[BadRow]:
    named = {}
    for name, rows in bad.items():
        rule = "label {} must be 0 or 1" if name == label else "{} must be a number or empty"
        for row in np.flatnonzero(rows)[:SHOWN]:
            got = block.rows[name][int(row)]
            reason = f"{rule.format(name)}, got {'nothing' if got is None else repr(got)}"
            named.setdefault(int(row), BadRow(int(block.lines[row]), reason))
    return [named[row] for row in sorted(named)][:SHOWN]
