"""NFwFM: field-weighted pooling of all pairs, then ReLU layers (Guo et al., section 5.2).

NFM (He and Chua, SIGIR 2017) with the pairs weighted as in FwFM (Pan et al., WWW 2018).
"""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override

from multiembed.kernels.operations import dropout
from multiembed.models.interactions.base import DeepArchitecture, Interaction
from multiembed.models.layers import SetBatchNorm


class Nfwfm(DeepArchitecture):
    """The sum over pairs of fields of `r_ij * (e_i * e_j)`, then ReLU layers.

    Pooling leaves `dim` numbers, so the base size is larger than elsewhere.
    """

    base_dim: ClassVar[int] = 50
    ends_in_projection: ClassVar[bool] = True

    # DIFFERS: FwFM has i < j only; we sum over all ordered pairs and the squares of the fields,
    # as the reference code does; pairs="unordered" gives FwFM's.
    pairs: Literal["ordered", "unordered"] = "ordered"
    """Whether i and j run over all fields, or over i < j."""

    @override
    def interaction(self, *, fields: int, dim: int, sets: int) -> Interaction:
        return WeightedPooling(self, fields=fields, dim=dim, sets=sets)


class WeightedPooling(Interaction):
    """`sum_i e_i * (R e)_i`, batch norm, dropout, then one ReLU layer.

    Factored so, the largest thing in memory is as large as the embeddings: the products of all
    pairs would be `fields` times larger.
    """

    def __init__(self, architecture: Nfwfm, *, fields: int, dim: int, sets: int) -> None:
        super().__init__()
        self.width = architecture.hidden[0]
        self.unordered = architecture.pairs == "unordered"
        self.dropout = architecture.dropout
        self.pair_weight = nn.Parameter(torch.randn(sets, fields, fields))
        self.norm = SetBatchNorm(sets, dim) if architecture.batch_norm else None
        self.projection = architecture.projection(sets, dim)

    @override
    def forward(
        self, embeddings: Float[Tensor, "batch sets fields dim"]
    ) -> Float[Tensor, "batch sets width"]:
        weight = self.pair_weight.triu(1) if self.unordered else self.pair_weight
        pooled = (embeddings * (weight @ embeddings)).sum(dim=2)
        if self.norm is not None:
            pooled = self.norm(pooled)
        return self.projection(dropout(pooled, self.dropout, training=self.training))
