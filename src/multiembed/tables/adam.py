"""Adam: of a network's parameters, of whole tables, and of tables at the cost of rows touched.

All optimizers of tables take the arguments of `TableOptimizer`.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.optim.adam import adam
from typing_extensions import override

from multiembed.kernels.adam_rows import (
    BETA1,
    BETA2,
    EPSILON,
    AdamRows,
    AdamTable,
    CopiedAdamRows,
    PlainAdamRows,
)
from multiembed.kernels.route import fast_form
from multiembed.kernels.rows import GraphUpdate
from multiembed.models.embedding import EmbeddingSets
from multiembed.tables.interface import TableOptimizer, layout_of


class Adam(GraphUpdate):
    """Adam with coupled L2, as `torch.optim.Adam` computes it.

    That class itself loads torch's compiler, which nothing here needs: 70 MiB, and the better part
    of a second of every training.

    Args:
        parameters: By name, on the device they will be trained on.
        learning_rate: Used by the next step; may change between steps.
        weight_decay: L2, within the gradient.
    """

    def __init__(
        self, parameters: Mapping[str, Tensor], *, learning_rate: float, weight_decay: float
    ) -> None:
        self._weight_decay = weight_decay
        self._parameters = dict(parameters)
        self._learning_rate = learning_rate
        on_gpu = next((p.device for p in parameters.values() if p.is_cuda), None)
        # Where the device reads it, a CUDA graph that holds a step sees it change.
        self._rate = None if on_gpu is None else torch.tensor(learning_rate, device=on_gpu)
        self._state = {
            "step": {name: torch.zeros((), device=p.device) for name, p in parameters.items()},
            "exp_avg": {name: torch.zeros_like(p) for name, p in parameters.items()},
            "exp_avg_sq": {name: torch.zeros_like(p) for name, p in parameters.items()},
        }

    @property
    def learning_rate(self) -> float:
        """Used by the next step."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        if self._rate is not None and value != self._learning_rate:
            self._rate.fill_(value)
        self._learning_rate = value

    @override
    def begin_step(self, learning_rate: float) -> None:
        self.learning_rate = learning_rate

    def gradients(self) -> list[Tensor]:
        """Gradients since the last step, for clipping in place."""
        return [p.grad for p in self._parameters.values() if p.grad is not None]

    @torch.no_grad()
    def step(self) -> None:
        """Apply the gradients, and forget them. Parameters without one stay as they are."""
        names = [name for name, p in self._parameters.items() if p.grad is not None]
        steps, first, second = ([of[name] for name in names] for of in self._state.values())
        adam(
            [self._parameters[name] for name in names],
            self.gradients(),
            first,
            second,
            [],
            steps,
            fused=True,
            amsgrad=False,
            beta1=BETA1,
            beta2=BETA2,
            lr=self._learning_rate if self._rate is None else self._rate,
            weight_decay=self._weight_decay,
            eps=EPSILON,
            maximize=False,
        )
        for name in names:
            self._parameters[name].grad = None

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on later, beside the parameters, by `quantity.name`."""
        return {
            f"{quantity}.{name}": tensor
            for quantity, tensors in self._state.items()
            for name, tensor in tensors.items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        own = self.state()
        for name, tensor in state.items():
            own[name].copy_(tensor)


class DenseAdam(TableOptimizer):
    """Adam with coupled L2 on every row at every step, as the paper trains (Appendix A)."""

    of_rows = ("exp_avg", "exp_avg_sq")

    def __init__(
        self, embedding: EmbeddingSets, *, learning_rate: float, weight_decay: float
    ) -> None:
        super().__init__(embedding, learning_rate=learning_rate, weight_decay=weight_decay)
        self.graph_update = self._adam = Adam(
            {"weight": embedding.weight}, learning_rate=learning_rate, weight_decay=weight_decay
        )

    @override
    def lookup(self, ids: Int[Tensor, "batch columns"]) -> Float[Tensor, "batch sets fields dim"]:
        return self.embedding.look_up(ids)

    @override
    def gradients(self) -> list[Tensor]:
        return self._adam.gradients()

    @override
    def step(self) -> None:
        self._adam.learning_rate = self.learning_rate
        self._adam.step()

    @override
    def state(self) -> dict[str, Tensor]:
        return {n.removesuffix(".weight"): tensor for n, tensor in self._adam.state().items()}

    @override
    def load_state(self, state: dict[str, Tensor]) -> None:
        self._adam.load_state({f"{name}.weight": tensor for name, tensor in state.items()})


class DeferredAdam(TableOptimizer):
    """Dense Adam by meaning, at the cost of the rows touched.

    As long as nobody reads a row, nobody notices when it is updated: a row's missed steps are
    replayed when it is next looked up, and `flush` replays those of all rows.

    Float32 tables cost what the rows touched cost, on a CPU and, where Triton is installed, on a
    GPU; others go through plain torch at dense Adam's cost.
    """

    of_rows = ("moments", "last_step")

    def __init__(
        self, embedding: EmbeddingSets, *, learning_rate: float, weight_decay: float
    ) -> None:
        super().__init__(embedding, learning_rate=learning_rate, weight_decay=weight_decay)
        values = embedding.weight.detach()
        form = fast_form("adam_rows", values, values, training=True) or PlainAdamRows
        self._table = AdamTable(values, weight_decay)
        self._rows: AdamRows = form(self._table, layout_of(embedding))
        self.graph_update = self._rows.graph_update

    @override
    def lookup(self, ids: Int[Tensor, "batch columns"]) -> Float[Tensor, "batch sets fields dim"]:
        if self.embedding.shares and isinstance(self._rows, CopiedAdamRows):
            return self.embedding.read(ids, self._rows.find)
        found = self._rows.lookup(self.embedding.filled(ids))
        return self.embedding.combine(found, ids)

    @override
    def gradients(self) -> list[Tensor]:
        return self._rows.gradients()

    @override
    def step(self) -> None:
        self._rows.step(self.learning_rate)

    @override
    def flush(self) -> None:
        self._rows.flush()

    @override
    def state(self) -> dict[str, Tensor]:
        return self._table.state()

    @override
    def load_state(self, state: dict[str, Tensor]) -> None:
        self._table.load_state(state)
        self._rows.restored()

    @override
    def carry(self, state: dict[str, Tensor], rows: Int[Tensor, " rows"]) -> None:
        super().carry(state, rows)
        self._table.last[rows.to(self._table.last.device) < 0] = int(state["step"])  # none missed
        self._rows.restored()
