"""IPNN: inner products of all pairs of fields, then ReLU layers (Qu et al., ICDM 2016)."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from multiembed.base.errors import ConfigError
from multiembed.models.interactions.base import DeepArchitecture, Interaction


class Ipnn(DeepArchitecture):
    """Embeddings and the inner products of all pairs of them side by side, then ReLU layers."""

    ends_in_projection: ClassVar[bool] = True

    # DIFFERS: the reference's multi-embedding form leaves the embeddings out, its single form
    # keeps them; we keep them for every number of sets, as Qu et al. do, so that one set and
    # several are the same architecture; include_embeddings=False gives the other.
    include_embeddings: bool = True
    """Whether the product layer passes on the embeddings themselves beside their products."""

    @override
    def interaction(self, *, fields: int, dim: int, sets: int) -> Interaction:
        return InnerProducts(self, fields=fields, dim=dim, sets=sets)


class InnerProducts(Interaction):
    """`<e_i, e_j>` for all fields i < j, row by row of the triangle, then one ReLU layer."""

    def __init__(self, architecture: Ipnn, *, fields: int, dim: int, sets: int) -> None:
        super().__init__()
        if fields < 2:
            raise ConfigError(f"ipnn must have at least 2 fields to multiply, got {fields}")
        self.include_embeddings = architecture.include_embeddings
        self.width = architecture.hidden[0]
        products = fields * (fields - 1) // 2
        inputs = products + (fields * dim if self.include_embeddings else 0)
        self.projection = architecture.projection(sets, inputs)

    @override
    def forward(
        self, embeddings: Float[Tensor, "batch sets fields dim"]
    ) -> Float[Tensor, "batch sets width"]:
        fields = embeddings.shape[2]
        first, second = torch.triu_indices(fields, fields, 1, device=embeddings.device)
        products = (embeddings @ embeddings.mT)[:, :, first, second]
        if self.include_embeddings:
            products = torch.cat([embeddings.flatten(start_dim=2), products], dim=2)
        return self.projection(products)
