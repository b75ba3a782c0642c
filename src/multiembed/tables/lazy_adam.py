"""Adam on the rows of the batch alone. Not dense Adam: see `DeferredAdam` for that."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import override

from multiembed.kernels.cpu.touched_rows import TouchedRows
from multiembed.models.embedding import EmbeddingSets
from multiembed.tables.row_optimizer import RowOptimizer
from multiembed.tables.schedule import BETA1, BETA2, EPSILON


class LazyAdam(RowOptimizer):
    """Adam that leaves rows alone that are not in the batch, as `torch.optim.SparseAdam` does.

    Untouched rows neither decay nor go on by momentum, and their moments do not fade. Weight
    decay, which torch's has not, is in the gradient of the rows touched.
    """

    def __init__(
        self, embedding: EmbeddingSets, *, learning_rate: float, weight_decay: float
    ) -> None:
        super().__init__(embedding, learning_rate=learning_rate)
        self.weight_decay = weight_decay
        self._first = torch.zeros_like(self._table)
        self._second = torch.zeros_like(self._table)
        self._steps = 0

    @override
    def _read(self, touched: TouchedRows) -> Float[Tensor, "touched columns"]:
        return self._table[touched.rows]

    @override
    def _write(
        self,
        rows: Int[Tensor, " touched"],
        values: Float[Tensor, "touched columns"],
        gradients: Float[Tensor, "touched columns"],
    ) -> None:
        self._steps += 1
        gradients = gradients + self.weight_decay * values
        first = self._first[rows].lerp_(gradients, 1 - BETA1)
        second = self._second[rows].lerp_(gradients.square(), 1 - BETA2)
        correction = math.sqrt(1 - BETA2**self._steps) / (1 - BETA1**self._steps)
        self._table[rows] = values - self.learning_rate * correction * first / (
            second.sqrt() + EPSILON
        )
        self._first[rows] = first
        self._second[rows] = second

    @override
    def state(self) -> dict[str, Tensor]:
        return {
            "exp_avg": self._first,
            "exp_avg_sq": self._second,
            "step": torch.tensor(self._steps),
        }

    @override
    def load_state(self, state: dict[str, Tensor]) -> None:
        self._first.copy_(state["exp_avg"])
        self._second.copy_(state["exp_avg_sq"])
        self._steps = int(state["step"])
