"""Where training is: for whoever watches, and for whoever goes on later."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from multiembed.config import BestBy

Record = dict[str, int | float]
"""One evaluation: name of the measure to value."""


@dataclass(frozen=True)
class TrainingProgress:
    """Where training is, for whoever watches."""

    epoch: int
    """Epoch under way, from 1."""
    step: int
    """Steps done in this epoch."""
    steps: int
    """Steps of an epoch."""
    loss: float
    """Mean training loss since the last evaluation."""
    rows_per_second: float
    """Training speed since the last evaluation."""


def is_better(record: Record, earlier: Sequence[Record], measure: BestBy) -> bool:
    """Say whether an evaluation is better than all earlier ones; of equal ones by log loss."""

    def score(of: Record) -> tuple[float, float]:
        return (-of["log_loss"] if measure == "log_loss" else of[measure], -of["log_loss"])

    return all(score(record) > score(other) for other in earlier)


@runtime_checkable
class Observer(Protocol):
    """Whoever watches a training."""

    def stepped(self, progress: TrainingProgress) -> None:
        """Hear of training under way, every few steps."""

    def evaluated(self, record: Mapping[str, int | float]) -> None:
        """Hear of an evaluation."""

    def warned(self, message: str) -> None:
        """Hear of something that may need a look; training goes on."""


@runtime_checkable
class StageObserver(Observer, Protocol):
    """Whoever watches several trainings, and work that is none."""

    def announce(self, name: str) -> None:
        """Hear which model comes next."""

    def advance(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Hear how much of a stage is done."""


@dataclass
class TrainingState:
    """Everything beside tensors that a resumed training goes on from."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    learning_rate: float = 0.0
    best_auc: float = -1.0
    best_step: int = 0
    worse_in_a_row: int = 0
    loss_sum: float = 0.0
    loss_steps: int = 0
    seconds: float = 0.0
    finished: bool = False
    records: list[Record] = field(default_factory=list)
    abundances: list[float] = field(default_factory=list)
    """What the monitor watches, of every observation so far."""
    observed_step: int = 0
