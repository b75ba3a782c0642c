"""What Deferred Adam keeps: a table, its moments, and the step each row stands at."""

from dataclasses import dataclass, field
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from multiembed.tables.schedule import Schedule


class RowCopies(NamedTuple):
    """Up-to-date copies of some rows."""

    values: Float[Tensor, "touched columns"]
    first: Float[Tensor, "touched columns"]
    """Mean of the gradients."""
    second: Float[Tensor, "touched columns"]
    """Mean of their squares."""


@dataclass
class AdamTable:
    """A table under Adam with coupled weight decay, whose rows may lag behind the schedule."""

    values: Float[Tensor, "rows columns"]
    last: Int[Tensor, " rows"]
    """Step each row stands at."""
    weight_decay: float
    fast_forward: bool = False
    """Whether long gaps may be replayed within a bound, not exactly."""
    schedule: Schedule = field(default_factory=Schedule)

    def __post_init__(self) -> None:
        rows, columns = self.values.shape
        # A row's two moments side by side: reading both is one visit to memory.
        self.moments: Float[Tensor, "rows 2 columns"] = self.values.new_zeros(rows, 2, columns)

    def stale(self, start: int, stop: int, step: int) -> Int[Tensor, " stale"]:
        """Rows between `start` and `stop` that stand before `step`."""
        return start + (self.last[start:stop] < step).nonzero().squeeze(1)
