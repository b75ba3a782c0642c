"""Adam on every row of a table at the cost of those read: state, schedule, and the plain form.

Adam with coupled weight decay moves every row at every step: an untouched row goes on by momentum
and decays. Here a row may lag behind; it is taken through the steps it missed, with the learning
rates of their time, when it is looked up.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import override

from multiembed.kernels.history_values import RowsRead
from multiembed.kernels.rows import BatchRows, GraphUpdate, TableLayout, TouchedRows

BETA1 = 0.9
BETA2 = 0.999
EPSILON = 1e-8

WINDOW = 32
"""Steps between two looks for numbers that can only decay."""
FAINT_VALUE = np.float32(1e-15)
FAINT_MOMENT = np.float32(1e-21)
"""A parameter and a first moment below these are set to zero: without new gradients they would
decay, and at a learning rate of 1e-3 all that they could still move is below 1e-14."""

_CHUNK = 1 << 24
"""Numbers copied at once when plain torch brings a whole table up to date."""


class Schedule:
    """The steps taken so far, so that a row can be brought through those it missed.

    Adam at step s moves a parameter by
    `lr / (1 - BETA1^s) * m / (sqrt(v / (1 - BETA2^s)) + EPSILON)`, which equals
    `rate[s] * m / (sqrt(v) + floor[s])` with the two arrays kept here. Entry 0 is unused.
    """

    def __init__(self) -> None:
        self.step = 0
        self._starts: list[int] = []
        self._learning_rates: list[float] = []
        self._rate = np.zeros(1024, dtype=np.float32)
        self._floor = np.zeros(1024, dtype=np.float32)

    @property
    def learning_rate(self) -> float:
        """Learning rate of the last step; there must have been one."""
        return self._learning_rates[-1]

    @property
    def rate(self) -> Float[np.ndarray, " steps"]:
        """Learning rate with both bias corrections."""
        return self._rate[: self.step + 1]

    @property
    def floor(self) -> Float[np.ndarray, " steps"]:
        """Adam's epsilon with the second moment's bias correction."""
        return self._floor[: self.step + 1]

    def advance(self, learning_rate: float) -> None:
        """Begin the next step."""
        self.step += 1
        if not self._learning_rates or learning_rate != self._learning_rates[-1]:
            self._starts.append(self.step)
            self._learning_rates.append(learning_rate)
        if self.step >= len(self._rate):
            self._rate = np.concatenate([self._rate, np.zeros_like(self._rate)])
            self._floor = np.concatenate([self._floor, np.zeros_like(self._floor)])
        self._rate[self.step], self._floor[self.step] = rate_and_floor(self.step, learning_rate)

    def state(self) -> dict[str, Tensor]:
        """Steps and learning rates, the latter only where they changed."""
        return {
            "step": torch.tensor(self.step),
            "learning_rate_starts": torch.tensor(self._starts, dtype=torch.int64),
            "learning_rates": torch.tensor(self._learning_rates, dtype=torch.float64),
        }

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> "Schedule":
        """Rebuild what `state` described."""
        schedule = cls()
        starts = [*state["learning_rate_starts"].tolist(), int(state["step"]) + 1]
        for place, learning_rate in enumerate(state["learning_rates"].tolist()):
            for _ in range(starts[place], starts[place + 1]):
                schedule.advance(learning_rate)
        return schedule


def rate_and_floor(step: int, learning_rate: float) -> tuple[float, float]:
    """Return `rate` and `floor` of a step as `Schedule` has them; steps count from 1."""
    correction = math.sqrt(1 - BETA2**step)
    return learning_rate * correction / (1 - BETA1**step), EPSILON * correction


class RowCopies(NamedTuple):
    """Up-to-date copies of some rows."""

    values: Float[Tensor, "touched numbers"]
    first: Float[Tensor, "touched numbers"]
    """Mean of the gradients."""
    second: Float[Tensor, "touched numbers"]
    """Mean of their squares."""


@dataclass
class AdamTable:
    """A table under Adam with coupled weight decay, whose rows may lag behind the schedule."""

    values: Float[Tensor, "rows numbers"]
    weight_decay: float
    schedule: Schedule = field(default_factory=Schedule)

    def __post_init__(self) -> None:
        rows, numbers = self.values.shape
        # A row's two moments side by side: reading both is one visit to memory.
        self.moments: Float[Tensor, "rows 2 numbers"] = self.values.new_zeros(rows, 2, numbers)
        self.last: Int[Tensor, " rows"] = self.values.new_zeros(rows, dtype=torch.int32)
        """Step each row stands at."""

    def stale(self, start: int, stop: int, step: int) -> Int[Tensor, " stale"]:
        """Rows between `start` and `stop` that stand before `step`."""
        return start + (self.last[start:stop] < step).nonzero().squeeze(1)

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on later, beside the values."""
        return {"moments": self.moments, "last_step": self.last} | self.schedule.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        self.moments.copy_(state["moments"])
        self.last.copy_(state["last_step"])
        self.schedule = Schedule.from_state(state)


class AdamRows(ABC):
    """What reads and updates an `AdamTable`: one for each kind of machine.

    Args:
        table: On the device it will be trained on.
        layout: Of the table.
    """

    graph_update: GraphUpdate | None = None
    """For CUDA graphs, where one can hold `lookup` and `step`."""

    def __init__(self, table: AdamTable, layout: TableLayout) -> None:
        self.table = table
        self.layout = layout

    @abstractmethod
    def lookup(self, ids: Int[Tensor, "batch columns"]) -> Float[Tensor, "batch sets columns dim"]:
        """Return up-to-date embeddings whose gradient the next `step` will use."""

    @abstractmethod
    def gradients(self) -> list[Tensor]:
        """Gradients of the rows of the batch since `lookup`, for clipping in place."""

    @abstractmethod
    def step(self, learning_rate: float) -> None:
        """Apply the gradients; without any, this is no step."""

    @abstractmethod
    def flush(self) -> None:
        """Take every row through the steps it missed."""

    def restored(self) -> None:  # noqa: B027 - copies are made anew at the next lookup
        """Take notice that the table has another state."""


class CopiedAdamRows(AdamRows):
    """Copies the rows of a batch at `lookup`, and writes them back at `step`."""

    def __init__(self, table: AdamTable, layout: TableLayout) -> None:
        super().__init__(table, layout)
        self._batch = BatchRows(layout, table.values, table.last)

    @abstractmethod
    def load(self, rows: Int[Tensor, " touched"], last: Int[Tensor, " touched"]) -> RowCopies:
        """Return copies of rows, brought up to date. Those that lag most must come first."""

    @abstractmethod
    def update(
        self,
        rows: Int[Tensor, " touched"],
        copies: RowCopies,
        gradients: Float[Tensor, "touched numbers"],
    ) -> None:
        """Take rows through the schedule's last step with these gradients."""

    @override
    def lookup(self, ids: Int[Tensor, "batch columns"]) -> Float[Tensor, "batch sets columns dim"]:
        return self._batch.lookup(ids, self._read)

    def find(self, rows: Int[Tensor, " ids"]) -> RowsRead:
        """Return up-to-date copies of rows by their numbers; `step` writes them back."""
        return self._batch.find(rows, self._read)

    def _read(self, touched: TouchedRows) -> Float[Tensor, "touched numbers"]:
        self._copies = self.load(touched.rows, touched.last)
        return self._copies.values

    @override
    def gradients(self) -> list[Tensor]:
        return self._batch.gradients()

    @override
    def step(self, learning_rate: float) -> None:
        for gradients in self.gradients():
            self.table.schedule.advance(learning_rate)
            copies = self._copies._replace(values=self._batch.values)
            del self._copies
            self.update(self._batch.rows, copies, gradients)
        self._batch.forget()


class PlainAdamRows(CopiedAdamRows):
    """Adam on rows in plain torch, for any device and precision.

    Many small operations on few rows would be slow here, so every row of the table is brought up
    to date at every lookup: dense Adam's work, without a dense gradient.
    """

    @override
    def load(self, rows: Int[Tensor, " touched"], last: Int[Tensor, " touched"]) -> RowCopies:
        if bool((last < self.table.schedule.step).any()):
            self.flush()
        return self._copy(rows)

    @override
    def update(
        self,
        rows: Int[Tensor, " touched"],
        copies: RowCopies,
        gradients: Float[Tensor, "touched numbers"],
    ) -> None:
        self._take_step(rows, copies, gradients, self.table.schedule.step)

    @override
    def flush(self) -> None:
        rows, numbers = self.table.values.shape
        chunk = max(1, _CHUNK // numbers)
        for step in range(int(self.table.last.min()) + 1, self.table.schedule.step + 1):
            for start in range(0, rows, chunk):
                stale = self.table.stale(start, start + chunk, step)
                copies = self._copy(stale)
                self._take_step(stale, copies, torch.zeros_like(copies.values), step)

    def _copy(self, rows: Int[Tensor, " touched"]) -> RowCopies:
        moments = self.table.moments
        return RowCopies(self.table.values[rows], moments[rows, 0], moments[rows, 1])

    def _take_step(
        self,
        rows: Int[Tensor, " touched"],
        copies: RowCopies,
        gradients: Float[Tensor, "touched numbers"],
        step: int,
    ) -> None:
        table, (values, first, second) = self.table, copies
        rate, floor = float(table.schedule.rate[step]), float(table.schedule.floor[step])
        gradients = gradients + table.weight_decay * values
        first += (1 - BETA1) * (gradients - first)
        second += (1 - BETA2) * (gradients * gradients - second)
        table.values[rows] = values - rate * first / (second.sqrt() + floor)
        table.moments[rows, 0] = first
        table.moments[rows, 1] = second
        table.last[rows] = step
