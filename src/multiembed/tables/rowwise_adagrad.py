"""Adagrad with one number per row, the usual choice where tables are too large for Adam."""

from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import override

from multiembed.kernels.cpu.touched_rows import TouchedRows
from multiembed.models.embedding import EmbeddingSets
from multiembed.tables.row_optimizer import RowOptimizer
from multiembed.tables.schedule import EPSILON


class RowWiseAdagrad(RowOptimizer):
    """Adagrad whose step size is common to a row, as FBGEMM and TorchRec define it.

    A row's sum grows by the mean of its squared gradients, over all its sets: they are one row of
    one table here as there. Weight decay is in the gradient of the rows touched.
    """

    def __init__(
        self, embedding: EmbeddingSets, *, learning_rate: float, weight_decay: float
    ) -> None:
        super().__init__(embedding, learning_rate=learning_rate)
        self.weight_decay = weight_decay
        self._sums = self._table.new_zeros(len(self._table))

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
        gradients = gradients + self.weight_decay * values
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
