"""The one interface between the training loop and whatever updates embedding tables.

A step is `lookup`, loss, `backward`, `step`. Everybody who reads tables otherwise (evaluation,
checkpoints, spectra) calls `flush` first.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import override

from multiembed.models.embedding import EmbeddingSets
from multiembed.tables.fused_adam import Adam


class TableOptimizer(ABC):
    """Updates the tables of one `EmbeddingSets`."""

    learning_rate: float
    """Used by the next `step`; a schedule assigns it."""

    lookup_dtype: torch.dtype = torch.float32
    """What `lookup` may round to, for models that read embeddings in products alone."""
    recordable: ClassVar[bool] = False
    """Whether a CUDA graph can hold `lookup` and `step`: they read nothing back from the device."""
    memory: int = 0
    """Changes when memory that such a graph reads has moved."""

    @abstractmethod
    def begin_step(self) -> None:
        """Do what the next step needs from the host, which a replayed `step` does not do."""

    @abstractmethod
    def lookup(self, ids: Int[Tensor, "batch columns"]) -> Float[Tensor, "batch sets fields dim"]:
        """Return up-to-date embeddings whose gradient the next `step` will use.

        The ids are trusted: the trainer checks a dataset once, not every batch.
        """

    @abstractmethod
    def gradients(self) -> list[Tensor]:
        """Gradients since `lookup`, for clipping in place."""

    @abstractmethod
    def step(self) -> None:
        """Apply the gradients."""

    @abstractmethod
    def flush(self) -> None:
        """Bring every row of the table up to date."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on later, beside the table itself."""

    @abstractmethod
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` returned."""


class DenseAdam(TableOptimizer):
    """Adam with coupled L2 on every row at every step, as the paper trains (Appendix A)."""

    recordable = True

    def __init__(
        self, embedding: EmbeddingSets, *, learning_rate: float, weight_decay: float
    ) -> None:
        self.embedding = embedding
        self.learning_rate = learning_rate
        self._adam = Adam(
            {"weight": embedding.weight}, learning_rate=learning_rate, weight_decay=weight_decay
        )

    @override
    def lookup(self, ids: Int[Tensor, "batch columns"]) -> Float[Tensor, "batch sets fields dim"]:
        gathered = F.embedding(self.embedding.rows(ids), self.embedding.weight)
        return self.embedding.arrange(gathered, ids)

    @override
    def gradients(self) -> list[Tensor]:
        return self._adam.gradients()

    @override
    def begin_step(self) -> None:
        self._adam.learning_rate = self.learning_rate

    @override
    def step(self) -> None:
        self.begin_step()
        self._adam.step()

    @override
    def flush(self) -> None:
        pass

    @override
    def state(self) -> dict[str, Tensor]:
        return {n.removesuffix(".weight"): tensor for n, tensor in self._adam.state().items()}

    @override
    def load_state(self, state: dict[str, Tensor]) -> None:
        self._adam.load_state({f"{name}.weight": tensor for name, tensor in state.items()})
