"""Dense Adam by meaning, at the cost of the rows touched.

Adam with coupled weight decay moves every row at every step: an untouched row goes on by momentum
and decays. As long as nobody reads it, nobody notices when. So a row's missed steps are replayed
when it is next looked up, with the learning rates of their time, and `flush` replays all rows.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import override

from multiembed.models.embedding import EmbeddingSets
from multiembed.optim import compiled_adam, eager_adam
from multiembed.optim.adam_table import AdamTable, RowCopies
from multiembed.optim.row_optimizer import RowOptimizer
from multiembed.optim.schedule import Schedule
from multiembed.optim.touched_rows import TouchedRows


class DeferredAdam(RowOptimizer):
    """Adam with coupled L2 on every row at every step, computed when a row is looked up.

    Float32 tables on a CPU cost what the rows touched cost; others go through plain torch at
    dense Adam's cost.
    """

    _copies: RowCopies

    def __init__(
        self, embedding: EmbeddingSets, *, learning_rate: float, weight_decay: float
    ) -> None:
        super().__init__(embedding, learning_rate=learning_rate)
        self._adam = AdamTable(self._table, self._last, weight_decay)
        on_cpu = self._table.device.type == "cpu" and self._table.dtype == torch.float32
        self._implementation = compiled_adam if on_cpu else eager_adam

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
