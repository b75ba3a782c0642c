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
        self._sent: Float[Tensor, "2 capacity"] = torch.zeros(2, 0)
        self._sent_step = 0

    @property
    def rate(self) -> Float[np.ndarray, " steps"]:
        """Learning rate with both bias corrections."""
        return self._rate[: self.step + 1]

    @property
    def floor(self) -> Float[np.ndarray, " steps"]:
        """Adam's epsilon with the second moment's bias correction."""
        return self._floor[: self.step + 1]

    def on(self, device: torch.device) -> Float[Tensor, "2 capacity"]:
        """Return `rate` and `floor` on a device, with room behind them; only new steps are sent."""
        if self._sent.device != device or self._sent.shape[1] != len(self._rate):
            self._sent = torch.from_numpy(np.stack([self._rate, self._floor])).to(device)
        elif self._sent_step < self.step:
            new = slice(self._sent_step + 1, self.step + 1)
            steps = np.stack([self._rate[new], self._floor[new]])
            self._sent[:, new] = torch.from_numpy(steps).to(device)
        self._sent_step = self.step
        return self._sent

    def advance(self, learning_rate: float) -> None:
        """Begin the next step."""
        self.step += 1
        if not self._learning_rates or learning_rate != self._learning_rates[-1]:
            self._starts.append(self.step)
            self._learning_rates.append(learning_rate)
        if self.step >= len(self._rate):
            self._rate = np.concatenate([self._rate, np.zeros_like(self._rate)])
            self._floor = np.concatenate([self._floor, np.zeros_like(self._floor)])
        correction = math.sqrt(1 - BETA2**self.step)
        self._rate[self.step] = learning_rate * correction / (1 - BETA1**self.step)
        self._floor[self.step] = EPSILON * correction

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
