"""FFM: an embedding of every field for every other field (Juan et al., RecSys 2016)."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override

from multiembed.base.errors import ConfigError
from multiembed.kernels.operations import field_aware_products
from multiembed.kernels.rows import Row
from multiembed.models.interactions.base import Architecture, Interaction


class Ffm(Architecture):
    """The sum over fields i < j of `<e_i for j, e_j for i>`, and a linear term.

    A table row of field i holds one embedding for every field, in order, then the first-order
    weight. `dim` is the size of one of these embeddings.
    """

    base_dim: ClassVar[int] = 8

    # DIFFERS: no equation reads field i's embedding for itself; it is there by default because
    # the reference code has it (weight decay alone moves it); own_block=False leaves it out.
    own_block: bool = True
    """Whether a field has an embedding for itself, which nothing reads."""
    linear: bool = True
    """Whether every id has a first-order weight, and their sum is added to the logit."""

    @override
    def row(self, fields: int) -> Row:
        if fields < 2:
            raise ConfigError(f"ffm must have at least 2 fields to multiply, got {fields}")
        return Row(blocks=fields if self.own_block else fields - 1, first_order=self.linear)

    @override
    def interaction(self, *, fields: int, dim: int, sets: int) -> Interaction:
        return FieldAwareProducts(self, fields=fields)

    @override
    def head(self, width: int) -> nn.Module:
        return Bias()


class FieldAwareProducts(Interaction):
    """One number per set: the sum of all products and, if there is one, the linear term."""

    width = 1

    def __init__(self, architecture: Ffm, *, fields: int) -> None:
        super().__init__()
        self.row = architecture.row(fields)

    @override
    def forward(
        self, embeddings: Float[Tensor, "batch sets fields columns"]
    ) -> Float[Tensor, "batch sets width"]:
        return field_aware_products(embeddings, self.row, training=self.training).unsqueeze(2)


class Bias(nn.Module):
    """Adds one number to the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, mean: Float[Tensor, "batch 1"]) -> Float[Tensor, " batch"]:
        """Return one logit per row."""
        return mean.squeeze(1) + self.bias
