"""What a verdict on a table rests on: its spectrum, of all rows and of the typical ones."""

from dataclasses import dataclass
from typing import Literal

from multiembed.spectra.catalogue import View

EnergySpread = Literal["low rank", "strong direction", "uneven", "even"]
"""How the energy of the rows less their mean is spread over the directions they can have."""

IN_USE = 1 / 2
"""Most of its directions that hold 99% of the energy of a table of low rank.

Half, so that a table half of whose columns are dead is one. Energy decides, and not abundance,
which one strong direction lowers as well while all others are in use. What planted tables become at
0.4 and 0.6, `benchmarks/bench_verdict.py` prints, as for every threshold here.
"""

IN_USE_FEW_ROWS = 1 / 3
"""The same of tables with fewer than `ROWS_PER_COLUMN`, and of directions before a gap."""

ROWS_PER_COLUMN = 4
"""Rows per column from which half of the directions is the limit.

Few rows stretch a spectrum: of random 5 x 4 tables 1.2% have 99% of their energy in half of the
directions (4,000 draws), and a planted 12 x 6 table whose deviations lie within a factor of 3 had
91% of it in three directions over an even rest.
"""

BEFORE_GAP = 0.9
"""Least share of the energy before a gap, if what comes after is noise around a low rank.

K99 cannot see a low rank under noise of more than 1% of the energy. From 10% on, whether it is low
rank with noise or strong directions over weak ones is a judgement: it is called the latter.
"""

ALL_BEFORE_GAP = 0.99
"""Share of the energy before a gap from which there is nothing after it: up to half of the
directions, however few the rows."""

FREE = 6
"""Least numbers that could have left the directions in use, if chance does not explain it.

`(rows - 1 - used) (columns - used)`: chance keeps 1% of the energy or less in so many with a
probability of about `0.01 ^ (numbers / 2)`. Of random tables with 2 such numbers 4% had their
energy in half of the directions, with 3 or 4 0.1% to 1.2%, with 6 or more at most 0.13% (4,000
draws of each shape).
"""

ENOUGH = 0.5
"""Least share of a random table's abundance that an even table has, less its mean.

Chance does not reach it: of 300 random tables of each shape from 3 x 2 to 1000 x 40, the lowest
had 0.62 without its mean and 0.67 with it.
"""

RANDOM_ROWS = 100
"""Least rows of a table that is compared with its initialisation.

From so many on, singular values that fall evenly from 1 to 0.5 are told from chance. Of the 17
tables of a DCNv2 trained on flight records, the four with as many rows have 2.7 to 316 times the
spread that is allowed.
"""

RANDOM_ROWS_PER_COLUMN = 3
"""The same, for every column."""

RANDOM_SPREAD = 10.0
"""Most by which a random table's energies spread beyond chance, in parts of a row: five standard
deviations of John's statistic, which are `2 / rows` each."""

RANDOM_SHARE = 0.04
"""Most by which a random table's abundance differs from that of its shape; `RANDOM_SHARE_FEW_ROWS`
over the root of the rows, if that is more."""

RANDOM_SHARE_FEW_ROWS = 1.25
"""3.5 standard deviations: 300 random tables of each of 10 shapes had 0.22 to 0.37."""

FEW = 0.05
"""Most of the rows that are few, where more than this long and in few directions are low rank.

One row in ten, long and of rank 2 over 90% of noise, is a trained part and an untrained one: low
rank. Fewer are exceptions.
"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a verdict on a table rests on."""

    view: View
    """The rows judged: those trained, or all where counts are unknown; none near zero."""
    typical: View | None = None
    """The same, every row weighing less the longer it is; `None` where no row is long."""
    dominating: int = 0
    """The fewest rows that hold most of the energy or, if those are not few, all long ones."""
    dominated: float = 0.0
    """The share of the energy that they hold."""
    near_zero: int = 0
    """Rows set apart."""
    dead_columns: int = 0
    """Columns that hold one value in all rows judged."""
    cardinality: int
    """All rows of the table."""
    trained: int | None
    """Rows met in training; `None` if unknown."""
    dim: int
    """Columns of one set."""

    @property
    def rows(self) -> str:
        """What the rows are called."""
        return "rows" if self.trained is None else "trained rows"

    @property
    def met(self) -> str:
        """How many rows training met, in a sentence."""
        return f"Training met {self.trained or 0:,} of {self.cardinality:,} rows."

    @property
    def judged_rows(self) -> int:
        """Rows judged, and those among them that were set apart."""
        return self.near_zero + self.view.rows

    @property
    def long_rows_decide(self) -> bool:
        """Whether the energy is spread otherwise where long rows weigh less.

        Many long rows in few directions are what a table is: then they are no exception.
        """
        if self.typical is None or spread_of(self.view) == spread_of(self.typical):
            return False
        few = self.dominating <= few_of(self.view.rows, self.view.columns)
        return few or spread_of(self.view) != "low rank"

    @property
    def judged(self) -> View:
        """The rows whose spectrum decides."""
        return self.typical if self.typical is not None and self.long_rows_decide else self.view

    @property
    def like_random(self) -> bool:
        """Whether nothing but chance, and a mean, makes its directions differ."""
        view = self.view
        share = max(RANDOM_SHARE, RANDOM_SHARE_FEW_ROWS / max(1, view.rows) ** 0.5)
        return (
            view.columns > 1
            and abs(view.centered_normalized_information_abundance - 1) <= share
            and view.rows >= max(RANDOM_ROWS, RANDOM_ROWS_PER_COLUMN * view.columns)
            and abs(view.excess_spread) * view.rows <= RANDOM_SPREAD
        )

    @property
    def spread(self) -> EnergySpread:
        """How the energy of the judged rows is spread."""
        return spread_of(self.judged)


def few_of(rows: int, columns: int) -> int:
    """Return the most rows that are few."""
    return max(columns, int(FEW * rows))


def directions_of(view: View) -> int:
    """Return how many directions the rows of a view, less their mean, can have."""
    return min(view.rows - 1, view.columns)


def limit_of(view: View) -> int:
    """Return the most directions in use at which a table is of low rank; at least one."""
    share = IN_USE if view.rows >= ROWS_PER_COLUMN * view.columns else IN_USE_FEW_ROWS
    return max(1, int(share * directions_of(view)))


def spread_of(view: View) -> EnergySpread:
    """Say how the energy of a table is spread."""
    if (view.rows > 1 and view.centered_information_abundance == 0) or carrying(view):
        return "low rank"
    if view.rows < 2 or view.centered_normalized_information_abundance >= ENOUGH:
        return "even"
    return "strong direction" if view.leading_directions in (1, 2) else "uneven"


def carrying(view: View) -> int:
    """Return how few directions carry a table of low rank; 0 if it is not one."""
    leading, share = view.leading_directions, view.leading_share
    # Nothing after a gap is a low rank whatever the rows; noise after it takes rows to be seen.
    noisy = share >= BEFORE_GAP and leading <= limit_of(view)
    few = leading if noisy or share >= ALL_BEFORE_GAP else 0
    few = view.centered_k99 if view.centered_k99 <= limit_of(view) else few
    free = (view.rows - 1 - few) * (view.columns - few)
    return few if directions_of(view) > 1 and free >= FREE else 0
