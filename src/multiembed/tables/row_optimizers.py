"""Optimizers that change the rows of a batch alone; their arguments are `TableOptimizer`'s."""

import math
from abc import abstractmethod
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import override

from multiembed.kernels.adam_rows import BETA1, BETA2, EPSILON
from multiembed.kernels.rows import BatchRows, TouchedRows
from multiembed.models.embedding import EmbeddingSets
from multiembed.tables.interface import TableOptimizer, layout_of


class RowOptimizer(TableOptimizer):
    """Copies the distinct rows of a batch at `lookup`, and changes them at `step`, no others.

    A second `lookup` before `step` replaces the first.
    """

    def __init__(
        self, embedding: EmbeddingSets, *, learning_rate: float, weight_decay: float
    ) -> None:
        super().__init__(embedding, learning_rate=learning_rate, weight_decay=weight_decay)
        self._table = embedding.weight.detach()
        never = self._table.new_zeros(len(self._table), dtype=torch.int32)
        self._batch = BatchRows(layout_of(embedding), self._table, never)

    @abstractmethod
    def _update(
        self,
        rows: Int[Tensor, " touched"],
        values: Float[Tensor, "touched columns"],
        gradients: Float[Tensor, "touched columns"],
    ) -> None:
        """Change rows, whose numbers are `values` now; the weight decay is in `gradients`."""

    @override
    def lookup(self, ids: Int[Tensor, "batch columns"]) -> Float[Tensor, "batch sets fields dim"]:
        if self.embedding.shares:
            return self.embedding.read(ids, partial(self._batch.find, read=self._read))
        found = self._batch.lookup(self.embedding.filled(ids), self._read)
        return self.embedding.combine(found, ids)

    def _read(self, touched: TouchedRows) -> Float[Tensor, "touched columns"]:
        return self._table[touched.rows]

    @override
    def gradients(self) -> list[Tensor]:
        return self._batch.gradients()

    @override
    def step(self) -> None:
        for gradients in self.gradients():
            values = self._batch.values
            self._update(self._batch.rows, values, gradients + self.weight_decay * values)
        self._batch.forget()


class LazyAdam(RowOptimizer):
    """Adam that leaves rows alone that are not in the batch, as `torch.optim.SparseAdam` does.

    Untouched rows neither decay nor go on by momentum, and their moments do not fade. Weight
    decay, which torch's has not, is in the gradient of the rows touched.
    """

    of_rows = ("exp_avg", "exp_avg_sq")

    def __init__(
        self, embedding: EmbeddingSets, *, learning_rate: float, weight_decay: float
    ) -> None:
        super().__init__(embedding, learning_rate=learning_rate, weight_decay=weight_decay)
        self._first = torch.zeros_like(self._table)
        self._second = torch.zeros_like(self._table)
        self._steps = 0

    @override
    def _update(
        self,
        rows: Int[Tensor, " touched"],
        values: Float[Tensor, "touched columns"],
        gradients: Float[Tensor, "touched columns"],
    ) -> None:
        self._steps += 1
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


class RowWiseAdagrad(RowOptimizer):
    """Adagrad whose step size is common to a row, as FBGEMM and TorchRec define it.

    A row's sum grows by the mean of its squared gradients, over all its sets: they are one row of
    one table here as there. Weight decay is in the gradient of the rows touched.
    """

    of_rows = ("sum",)

    def __init__(
        self, embedding: EmbeddingSets, *, learning_rate: float, weight_decay: float
    ) -> None:
        super().__init__(embedding, learning_rate=learning_rate, weight_decay=weight_decay)
        self._sums = self._table.new_zeros(len(self._table))

    @override
    def _update(
        self,
        rows: Int[Tensor, " touched"],
        values: Float[Tensor, "touched columns"],
        gradients: Float[Tensor, "touched columns"],
    ) -> None:
        sums = self._sums[rows] + gradients.square().mean(dim=1)
        rates = self.learning_rate / (sums.sqrt() + EPSILON)
        self._table[rows] = values - rates.unsqueeze(1) * gradients
        self._sums[rows] = sums

    @override
    def state(self) -> dict[str, Tensor]:
        return {"sum": self._sums}

    @override
    def load_state(self, state: dict[str, Tensor]) -> None:
        self._sums.copy_(state["sum"])
