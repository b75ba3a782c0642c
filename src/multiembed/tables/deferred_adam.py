"""Dense Adam by meaning, at the cost of the rows touched.

Adam with coupled weight decay moves every row at every step: an untouched row goes on by momentum
and decays. As long as nobody reads it, nobody notices when. So a row's missed steps are replayed
when it is next looked up, with the learning rates of their time, and `flush` replays all rows.
"""

from types import ModuleType

import torch
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import override

from multiembed.base.devices import has_triton
from multiembed.kernels import plain_adam as eager_adam
from multiembed.kernels.cpu import cpu_adam as compiled_adam
from multiembed.kernels.cpu.touched_rows import TouchedRows
from multiembed.models.embedding import EmbeddingSets
from multiembed.tables.adam_table import AdamTable, RowCopies
from multiembed.tables.row_optimizer import RowOptimizer
from multiembed.tables.schedule import Schedule


class DeferredAdam(RowOptimizer):
    """Adam with coupled L2 on every row at every step, computed when a row is looked up.

    Float32 tables cost what the rows touched cost, on a CPU and, where Triton is installed, on a
    GPU; others go through plain torch at dense Adam's cost.

    Args:
        embedding: Tables to update, on the device they will be trained on.
        learning_rate: Used by the next step; may change between steps.
        weight_decay: L2, within the gradient.
        fast_forward: Take rows that lag far through 32 steps at a time, with the denominator of
            the middle step, where learning rate, bias correction and second moment change little.
            A denominator is then off by at most 2%, and so is what a row moves in a window; mostly
            the two halves of a window cancel (2e-6 of a table after 8000 steps at the paper's
            settings, 1e-6 by exact replay). On a GPU it changes nothing.
    """

    _copies: RowCopies

    def __new__(
        cls,
        embedding: EmbeddingSets,
        *,
        learning_rate: float,
        weight_decay: float,
        fast_forward: bool = False,
    ) -> "DeferredAdam":
        """Choose what serves such a table."""
        if by_triton(embedding.weight):
            from multiembed.kernels.gpu.gpu_adam import (
                TritonDeferredAdam,  # triton may not be there
            )

            return object.__new__(TritonDeferredAdam)
        return object.__new__(cls)

    def __init__(
        self,
        embedding: EmbeddingSets,
        *,
        learning_rate: float,
        weight_decay: float,
        fast_forward: bool = False,
    ) -> None:
        super().__init__(embedding, learning_rate=learning_rate)
        self._adam = AdamTable(self._table, self._last, weight_decay, fast_forward)
        self._implementation = _implementation(self._table)

    @override
    def _read(self, touched: TouchedRows) -> Float[Tensor, "touched columns"]:
        self._copies = self._implementation.load_rows(self._adam, touched.rows, touched.last)
        return self._copies.values

    @override
    def _write(
        self,
        rows: Int[Tensor, " touched"],
        values: Float[Tensor, "touched columns"],
        gradients: Float[Tensor, "touched columns"],
    ) -> None:
        self._adam.schedule.advance(self.learning_rate)
        copies = self._copies._replace(values=values)
        del self._copies
        self._implementation.step_rows(self._adam, rows, copies, gradients)

    @override
    def flush(self) -> None:
        self._implementation.bring_up_to_date(self._adam)

    @override
    def state(self) -> dict[str, Tensor]:
        rows = {"moments": self._adam.moments, "last_step": self._last}
        return rows | self._adam.schedule.state()

    @override
    def load_state(self, state: dict[str, Tensor]) -> None:
        self._adam.moments.copy_(state["moments"])
        self._last.copy_(state["last_step"])
        self._adam.schedule = Schedule.from_state(state)


def by_triton(table: Tensor) -> bool:
    """Say whether kernels for GPUs serve such a table."""
    return table.dtype == torch.float32 and table.is_cuda and has_triton()


def _implementation(table: Tensor) -> ModuleType:
    """Return the module that does the work for such a table, if not Triton's kernels do."""
    if table.dtype == torch.float32 and table.device.type == "cpu":
        return compiled_adam
    return eager_adam
