"""What Adam's update depends on beside a row's own numbers: the step and its learning rate."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

BETA1 = 0.9
BETA2 = 0.999
EPSILON = 1e-8


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
        self._rate[self.step], self._floor[self.step] = entry(self.step, learning_rate)

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


def entry(step: int, learning_rate: float) -> tuple[float, float]:
    """Return the rate and the floor of a step, counted from 1."""
    correction = math.sqrt(1 - BETA2**step)
    return learning_rate * correction / (1 - BETA1**step), EPSILON * correction
