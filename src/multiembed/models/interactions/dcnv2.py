"""DCN V2: explicit crossing with full-rank weights (Wang et al., WWW 2021)."""

import math
from typing import ClassVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override

from multiembed.base.bounds import Depth
from multiembed.kernels.operations import cross
from multiembed.models.interactions.base import DeepArchitecture, Interaction


class DcnV2(DeepArchitecture):
    """Cross layers, then ReLU layers: the stacked form of DCN V2."""

    ends_in_projection: ClassVar[bool] = True

    cross_layers: Depth = 4
    """Number of cross layers."""
    block_weights: bool = False
    """Whether a learnt number, 1 at first, multiplies every block of every cross layer.

    The blocks themselves can then be held near unitary ones: the form in which the reference code
    regularises DCN V2 (Guo et al., section 4.2, evidence III).
    """
    unitary_scale: bool = False
    """Whether every block has a learnt scale for the regulariser `unitary`: the paper's form."""

    @override
    def interaction(self, *, fields: int, dim: int, sets: int) -> Interaction:
        return CrossNetwork(self, fields=fields, dim=dim, sets=sets)


class CrossLayer(nn.Module):
    """The parameters of the affine map `W x + b` of one crossing, for every set.

    The block `matrix()[m, j*dim:(j+1)*dim, i*dim:(i+1)*dim]` carries field i into field j within
    set m: `W_{i->j}` of Guo et al., section 4.1. It is a block of `weight`, times
    `block_weight[m, j, i]` where there are block weights. `unitary_scale[m, j, i]`, where there is
    one, is read by the regulariser alone.
    """

    block_weight: nn.Parameter | None
    unitary_scale: nn.Parameter | None

    def __init__(self, architecture: DcnV2, *, sets: int, fields: int, dim: int) -> None:
        super().__init__()
        self.fields = fields
        self.dim = dim
        width = fields * dim
        self.weight = nn.Parameter(torch.empty(sets, width, width))
        bound = math.sqrt(3 / width)  # Xavier's, for as many outputs as inputs
        nn.init.uniform_(self.weight, -bound, bound)
        self.bias = nn.Parameter(torch.zeros(sets, width))
        pairs = torch.ones(sets, fields, fields)
        weights = nn.Parameter(pairs) if architecture.block_weights else None
        self.register_parameter("block_weight", weights)
        # The mean of a block's squared singular values is 1 / fields as the blocks are drawn.
        scales = nn.Parameter(pairs / fields) if architecture.unitary_scale else None
        self.register_parameter("unitary_scale", scales)

    def matrix(self) -> Float[Tensor, "sets width width"]:
        """Return the matrix that is applied."""
        if self.block_weight is None:
            return self.weight
        blocks = self.weight.view(-1, self.fields, self.dim, self.fields, self.dim)
        return (blocks * self.block_weight[:, :, None, :, None]).view_as(self.weight)


class CrossNetwork(Interaction):
    """Repeats `x <- x0 * (W x + b) + x` (Wang et al., equation 1), then one ReLU layer."""

    def __init__(self, architecture: DcnV2, *, fields: int, dim: int, sets: int) -> None:
        super().__init__()
        self.width = architecture.hidden[0]
        self.cross = nn.ModuleList(
            CrossLayer(architecture, sets=sets, fields=fields, dim=dim)
            for _ in range(architecture.cross_layers)
        )
        self.projection = architecture.projection(sets, fields * dim)

    @override
    def forward(
        self, embeddings: Float[Tensor, "batch sets fields dim"]
    ) -> Float[Tensor, "batch sets width"]:
        layers = [cast(CrossLayer, layer) for layer in self.cross]
        crossed = cross(
            embeddings.flatten(start_dim=2),
            [layer.matrix() for layer in layers],
            [layer.bias for layer in layers],
            training=self.training,
        )
        return self.projection(crossed)
