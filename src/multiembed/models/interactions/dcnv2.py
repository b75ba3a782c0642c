"""DCN V2: explicit crossing with full-rank weights (Wang et al., WWW 2021)."""

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from multiembed.models.interactions.base import Architecture, Interaction
from multiembed.models.layers import SetLinear


class DcnV2(Architecture):
    """Cross layers, then ReLU layers: the stacked form of DCN V2."""

    cross_layers: int = Field(default=4, ge=1)
    """Number of cross layers."""

    @override
    def interaction(self, *, fields: int, dim: int, sets: int) -> Interaction:
        return CrossNetwork(self, fields=fields, dim=dim, sets=sets)


class CrossNetwork(Interaction):
    """Repeats `x <- x0 * (W x + b) + x` (Wang et al., equation 1), then one ReLU layer.

    The block `W[m, j*dim:(j+1)*dim, i*dim:(i+1)*dim]` of a cross layer carries field i into
    field j within set m: `W_{i->j}` of Guo et al., section 4.1.
    """

    def __init__(self, architecture: DcnV2, *, fields: int, dim: int, sets: int) -> None:
        super().__init__()
        inputs = fields * dim
        self.width = architecture.hidden[0]
        self.cross = nn.ModuleList(
            SetLinear(sets, inputs, inputs, xavier=True) for _ in range(architecture.cross_layers)
        )
        self.projection = architecture.projection(sets, inputs)

    @override
    def forward(
        self, embeddings: Float[Tensor, "batch sets fields dim"]
    ) -> Float[Tensor, "batch sets width"]:
        x0 = x = embeddings.flatten(start_dim=2)
        for layer in self.cross:
            x = x0 * layer(x) + x
        return self.projection(x)
