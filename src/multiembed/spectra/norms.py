"""How long a table's rows are, in flat memory: those near zero, and the few that dominate."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float64, Int

NEAR_ZERO = 1e-3
"""A row is near zero if it is shorter than this times the 99th percentile of those not zero.

A padding row is zero; a row that training never meets shrinks with every step of weight decay.
A thousandth in length is a millionth in energy: such rows bear on nothing but the count of rows
and their mean. Trained rows stay longer by orders: of DCNv2's 17 tables on flight records
(`results/demo_*`), no trained row is shorter than 0.12 of that percentile.
"""

LONG = 4.0
"""A row is long from so many medians.

Of normal rows in one direction, the worst case, 7 in 1,000 are; of 16 directions, none in 10^9.
The longest row of DCNv2's tables on flight records lies 3.2 medians away.
"""

SAMPLE = 512
"""Rows that say what is typical of a table: their median is within 6% of its spread."""

_SHIFT = 48
"""Bits of a float64 that tell numbers in one bin apart: its sign, exponent and four more are left,
which makes 16 bins an octave."""
_MIDDLES = ((np.arange(2**15, dtype=np.int64) << _SHIFT) + (1 << (_SHIFT - 1))).view(np.float64)


@dataclass(eq=False)
class RowNorms:
    """Squared distances of rows from a typical row, in bins 6% wide, and rows near zero."""

    centre: Float64[np.ndarray, " dim"]
    """The median of a sample, column by column: an offset makes no row long."""
    floor: float
    """Squared length up to which a row is near zero."""
    near_zero: int = 0
    """Rows near zero."""
    rows: Int[np.ndarray, " bins"] = field(default_factory=lambda: np.zeros(2**15, dtype=np.int64))
    """The other rows, by distance."""

    @classmethod
    def beside(cls, rows: Float64[np.ndarray, "rows dim"]) -> "RowNorms":
        """Measure distances from what is typical of a sample of rows."""
        lengths = np.einsum("rc,rc->r", rows, rows)
        present = lengths[lengths > 0]
        floor = NEAR_ZERO**2 * float(np.quantile(present, 0.99)) if len(present) else 0.0
        long = rows[lengths > floor]  # none, where squares leave what numbers reach
        return cls(np.median(long if len(long) else rows, axis=0), floor)

    def add(self, block: Float64[np.ndarray, "block dim"]) -> None:
        """Take in rows of the table."""
        present, away = self._distances(block)
        if not present.all():
            away = away[present]
        self.near_zero += len(block) - len(away)
        np.add.at(self.rows, away.view(np.int64) >> _SHIFT, 1)

    @property
    def present(self) -> int:
        """Rows not near zero."""
        return int(self.rows.sum())

    @property
    def median(self) -> float:
        """The median squared distance, within the width of a bin."""
        away, rows = self._falling()
        if not len(rows):
            return 0.0
        return float(away[np.searchsorted(np.cumsum(rows), (rows.sum() + 1) // 2)])

    def weights(self, block: Float64[np.ndarray, "block dim"]) -> Float64[np.ndarray, " block"]:
        """Return 1 for a typical row, less the longer it is, 0 for one near zero."""
        present, away = self._distances(block)
        return np.where(present, self._weight(away), 0.0)

    def excess_energy(self) -> float:
        """Return the share of the energy that the weights take away."""
        away, rows = self._falling()
        energy = away * rows
        if self.median == 0:
            return 0.0  # more than half of the rows are equal: long would be any other
        return float((1 - self._weight(away)) @ energy / energy.sum())

    def holding(self, share: float) -> int:
        """Return the fewest rows that hold a share of the energy."""
        away, rows = self._falling()
        held = np.cumsum(away * rows)
        if not len(held) or held[-1] == 0:
            return self.present
        at = int(np.searchsorted(held, share * held[-1]))
        surplus = held[at] - share * held[-1]
        return int(rows[: at + 1].sum() - np.floor(surplus / away[at]))

    def long(self) -> tuple[int, float]:
        """Return how many rows are long, and the share of the energy that they hold."""
        away, rows = self._falling()
        long = away > LONG**2 * self.median
        return int(rows[long].sum()), float((away * rows)[long].sum() / (away @ rows))

    def _falling(self) -> tuple[Float64[np.ndarray, " used"], Int[np.ndarray, " used"]]:
        """Return squared distances, the largest first, and how many rows have each."""
        used = np.flatnonzero(self.rows)[::-1]
        return np.where(used > 0, _MIDDLES[used], 0.0), self.rows[used]

    def _distances(
        self, block: Float64[np.ndarray, "block dim"]
    ) -> tuple[Bool[np.ndarray, " block"], Float64[np.ndarray, " block"]]:
        """Return which rows are not near zero, and the squared distance of every row.

        By `|x|^2 - 2 x c + |c|^2`, which takes no copy of the block; what cancels is below the
        rounding of a float32 table.
        """
        lengths = np.einsum("rc,rc->r", block, block)
        away = lengths - block @ (2 * self.centre) + float(self.centre @ self.centre)
        return lengths > self.floor, np.maximum(away, 0.0)

    def _weight(self, away: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        # DIFFERS: Huber's weight keeps a row's influence; this one lets it fall, so that a
        # hundredth of the rows, however long, cannot fill directions that the others leave empty.
        long = LONG**2 * self.median
        return (long / np.fmax(away, long or 1.0)) ** 2
