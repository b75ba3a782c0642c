"""xDeepFM: a compressed interaction network beside ReLU layers (Lian et al., KDD 2018)."""

import math
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from multiembed.base.bounds import MOST_LAYERS, Width
from multiembed.kernels.operations import compressed_interaction
from multiembed.kernels.rows import Row
from multiembed.models.interactions.base import DeepArchitecture, Interaction, TwoBranchHead


class XDeepFm(DeepArchitecture):
    """The pooled maps of a compressed interaction network (CIN), and ReLU layers beside it."""

    cin: Annotated[tuple[Width, ...], Field(min_length=1, max_length=MOST_LAYERS)] = (16, 16)
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
        self.row = architecture.row(fields)
        self.width = int(self.row.first_order) + sum(architecture.cin) + architecture.hidden[0]
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
        embeddings, first_order = self.row.split(embeddings)
        parts = [] if first_order is None else [first_order.sum(dim=2, keepdim=True)]
        weights, biases = zip(*(layer.parameters() for layer in self.cin), strict=True)
        parts.append(compressed_interaction(embeddings, weights, biases, training=self.training))
        parts.append(self.projection(embeddings.flatten(start_dim=2)))
        return torch.cat(parts, dim=2)


class CinLayer(nn.Module):
    """Weights of all pairs of a field and a map of the layer before, and a bias, for every map."""

    # DIFFERS: Lian et al. have neither bias nor, where they found it best, an activation; we have
    # both, as in the reference code.
    def __init__(self, sets: int, *, fields: int, inputs: int, maps: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(fields * inputs)
        weight = torch.empty(sets, maps, fields * inputs).uniform_(-bound, bound)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.empty(sets, maps).uniform_(-bound, bound))
