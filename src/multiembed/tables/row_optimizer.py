"""What optimizers that visit only a batch's rows have in common: the lookup."""

from abc import abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import override

from multiembed.kernels.cpu.cpu_gather import gather_embeddings, gather_shared
from multiembed.kernels.cpu.touched_rows import TouchedRows, find_shared_rows, find_touched_rows
from multiembed.models.embedding import EmbeddingSets
from multiembed.tables.interface import TableOptimizer


class RowOptimizer(TableOptimizer):
    """Copies the distinct rows of a batch at `lookup`, and changes them at `step`.

    The table itself changes in `step` and `flush` only. A second `lookup` before `step` replaces
    the first.
    """

    def __init__(self, embedding: EmbeddingSets, *, learning_rate: float) -> None:
        self.embedding = embedding
        self.learning_rate = learning_rate
        self._table = embedding.weight.detach()
        rows = len(self._table)
        self._last = torch.zeros(rows, dtype=torch.int32, device=self._table.device)
        self._rows: Int[Tensor, " touched"] = self._last[:0]
        self._values: Float[Tensor, "touched columns"] = self._table[:0]

    @abstractmethod
    def _read(self, touched: TouchedRows) -> Float[Tensor, "touched columns"]:
        """Return up-to-date copies of rows."""

    @abstractmethod
    def _write(
        self,
        rows: Int[Tensor, " touched"],
        values: Float[Tensor, "touched columns"],
        gradients: Float[Tensor, "touched columns"],
    ) -> None:
        """Update the rows that `_read` returned last."""

    @override
    def begin_step(self) -> None:
        pass

    @override
    def lookup(self, ids: Int[Tensor, "batch columns"]) -> Float[Tensor, "batch sets fields dim"]:
        tables = self.embedding
        find, gather = find_touched_rows, gather_embeddings
        if tables.pooled:
            find, gather = find_shared_rows, gather_shared
        touched = find(tables.filled(ids), tables.offsets, self._last)
        self._rows = touched.rows
        self._values = self._read(touched).requires_grad_()
        return tables.combine(gather(self._values, touched.positions, tables.sets), ids)

    @override
    def gradients(self) -> list[Tensor]:
        return [] if self._values.grad is None else [self._values.grad]

    @override
    def step(self) -> None:
        for gradients in self.gradients():
            self._write(self._rows, self._values.detach(), gradients)
        self._values = self._table[:0]

    @override
    def flush(self) -> None:
        pass
