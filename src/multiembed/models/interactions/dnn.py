"""DNN: the embeddings of all fields side by side, then ReLU layers."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from multiembed.models.interactions.base import DeepArchitecture, Interaction


class Dnn(DeepArchitecture):
    """No explicit interaction: ReLU layers on the concatenated embeddings."""

    ends_in_projection: ClassVar[bool] = True

    @override
    def interaction(self, *, fields: int, dim: int, sets: int) -> Interaction:
        return DnnInteraction(self, fields=fields, dim=dim, sets=sets)


class DnnInteraction(Interaction):
    """The first ReLU layer of every set."""

    def __init__(self, architecture: Dnn, *, fields: int, dim: int, sets: int) -> None:
        super().__init__()
        self.width = architecture.hidden[0]
        self.projection = architecture.projection(sets, fields * dim)

    @override
    def forward(
        self, embeddings: Float[Tensor, "batch sets fields dim"]
    ) -> Float[Tensor, "batch sets width"]:
        return self.projection(embeddings.flatten(start_dim=2))
