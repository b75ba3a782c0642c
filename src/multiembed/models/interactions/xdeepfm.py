"""xDeepFM: a compressed interaction network beside ReLU layers (Lian et al., KDD 2018)."""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from multiembed.models.embedding import Row
from multiembed.models.interactions.base import DeepArchitecture, Interaction, TwoBranchHead
from multiembed.models.layers import set_linear


class XDeepFm(DeepArchitecture):
    """The pooled maps of a compressed interaction network (CIN), and ReLU layers beside it."""

    cin: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (16, 16)
    """Number of feature maps in every layer of the CIN."""
    # DIFFERS: Lian et al. add a linear term over the ids; we have none by default, as in the
    # reference's runs; linear=True adds it.
    linear: bool = False
    """Whether every id has a first-order weight, and their sum is added to the logit."""

    @override
    def row(self, fields: int) -> Row:
        return Row(first_order=self.linear)

    @override
    def interaction(self, *, fields: int, dim: int, sets: int) -> Interaction:
        return CompressedInteraction(self, fields=fields, dim=dim, sets=sets)

    @override
    def head(self, width: int) -> nn.Module:
        return TwoBranchHead(width - self.hidden[0], self.deep_head(self.hidden[0]))


class CompressedInteraction(Interaction):
    """CIN and first ReLU layer of every set, side by side; with a linear term, its sum first."""

    def __init__(self, architecture: XDeepFm, *, fields: int, dim: int, sets: int) -> None:
        super().__init__()
        self.linear = architecture.linear
        self.width = int(self.linear) + sum(architecture.cin) + architecture.hidden[0]
        inputs = [fields, *architecture.cin[:-1]]
        self.cin = nn.ModuleList(
            CinLayer(sets, fields=fields, inputs=before, maps=maps)
            for before, maps in zip(inputs, architecture.cin, strict=True)
        )
        self.projection = architecture.projection(sets, fields * dim)

    @override
    def forward(
        self, embeddings: Float[Tensor, "batch sets fields columns"]
    ) -> Float[Tensor, "batch sets width"]:
        parts = []
        if self.linear:
            parts.append(embeddings[..., -1].sum(dim=2, keepdim=True))
            embeddings = embeddings[..., :-1]
        batch, _, _, dim = embeddings.shape
        # The CIN works on each of the dim numbers alone, so they are rows to it.
        x0 = x = embeddings.permute(0, 3, 1, 2).flatten(0, 1)  # (batch * dim, sets, fields)
        for layer in self.cin:
            x = layer(x0, x)
            parts.append(x.unflatten(0, (batch, dim)).sum(dim=1))
        parts.append(self.projection(embeddings.flatten(start_dim=2)))
        return torch.cat(parts, dim=2)


class CinLayer(nn.Module):
    """Map h is `relu(sum_ij W[h, i, j] * (x0_i * x_j) + b[h])` (Lian et al., equation 6).

    x0 are the fields, x the maps of the layer before; the maps of all layers, summed over their
    `dim` numbers, are what the CIN returns.
    """

    # DIFFERS: Lian et al. have neither bias nor, where they found it best, an activation; we have
    # both, as in the reference code.
    def __init__(self, sets: int, *, fields: int, inputs: int, maps: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(fields * inputs)
        weight = torch.empty(sets, maps, fields * inputs).uniform_(-bound, bound)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.empty(sets, maps).uniform_(-bound, bound))

    def forward(
        self, x0: Float[Tensor, "rows sets fields"], x: Float[Tensor, "rows sets inputs"]
    ) -> Float[Tensor, "rows sets maps"]:
        """Return the next maps."""
        # Mixing x first and multiplying by x0 then leaves the products of all pairs unwritten.
        weight = self.weight.view(len(self.weight), -1, x.shape[2])  # (sets, maps*fields, inputs)
        mixed = set_linear(x, weight).unflatten(2, (-1, x0.shape[2]))
        return F.relu((mixed @ x0.unsqueeze(3)).squeeze(3) + self.bias)
