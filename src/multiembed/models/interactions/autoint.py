"""AutoInt: self-attention over fields (Song et al., CIKM 2019)."""

from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from multiembed.base.bounds import MOST_LAYERS, Depth, Width
from multiembed.kernels.operations import set_linear
from multiembed.models.interactions.base import DeepArchitecture, Interaction, TwoBranchHead
from multiembed.models.layers import SetLinear


class AutoInt(DeepArchitecture):
    """Layers in which every field attends to all fields, then one linear layer.

    The defaults are those of Song et al., section 5.1.
    """

    # DIFFERS: the reference code first maps the embeddings into an attention space, scales the
    # scores, adds layer norms and has one ReLU at the end, with sizes nobody published; we follow
    # equations 5 to 9 of Song et al.
    attention_layers: Depth = 3
    """Number of attention layers."""
    heads: Width = 2
    """Attention heads in every layer."""
    head_dim: Width = 32
    """Size of one head's output."""
    hidden: Annotated[tuple[Width, ...], Field(max_length=MOST_LAYERS)] = ()
    """Sizes of ReLU layers beside the attention, the first in each set; none for no such branch.

    With (400, 400) this is the branch that the reference code has, and AutoInt+ of Song et al.
    """

    @override
    def interaction(self, *, fields: int, dim: int, sets: int) -> Interaction:
        return FieldAttention(self, fields=fields, dim=dim, sets=sets)

    @override
    def head(self, width: int) -> nn.Module:
        if not self.hidden:
            return self.deep_head(width)
        return TwoBranchHead(width - self.hidden[0], self.deep_head(self.hidden[0]))


class FieldAttention(Interaction):
    """All fields after the last attention layer; beside them the first ReLU layer, if any."""

    def __init__(self, architecture: AutoInt, *, fields: int, dim: int, sets: int) -> None:
        super().__init__()
        heads, size = architecture.heads, architecture.head_dim
        inputs = [dim, *[heads * size] * (architecture.attention_layers - 1)]
        self.attention = nn.ModuleList(
            AttentionLayer(sets, before, heads=heads, size=size) for before in inputs
        )
        self.width = fields * heads * size
        self.projection = None
        if architecture.hidden:
            self.projection = architecture.projection(sets, fields * dim)
            self.width += architecture.hidden[0]

    @override
    def forward(
        self, embeddings: Float[Tensor, "batch sets fields dim"]
    ) -> Float[Tensor, "batch sets width"]:
        x = embeddings
        for layer in self.attention:
            x = layer(x)
        attended = x.flatten(start_dim=2)
        if self.projection is None:
            return attended
        return torch.cat([attended, self.projection(embeddings.flatten(start_dim=2))], dim=2)


class AttentionLayer(nn.Module):
    """`relu(attended + W_res e)`, heads side by side (Song et al., equations 5 to 8).

    The score of field m for field k is `<W_query e_m, W_key e_k>`, unscaled, and softmax over k
    weighs `W_value e_k`.
    """

    def __init__(self, sets: int, inputs: int, *, heads: int, size: int) -> None:
        super().__init__()
        self.heads = heads
        outputs = heads * size
        self.query = SetLinear(sets, inputs, outputs, bias=False)
        self.key = SetLinear(sets, inputs, outputs, bias=False)
        self.value = SetLinear(sets, inputs, outputs, bias=False)
        self.residual = SetLinear(sets, inputs, outputs, bias=False)

    def forward(
        self, fields: Float[Tensor, "batch sets fields inputs"]
    ) -> Float[Tensor, "batch sets fields outputs"]:
        """Let every field attend to all fields of its row and set."""
        batch, sets, count, _ = fields.shape
        rows = fields.transpose(1, 2).flatten(0, 1)  # (batch * fields, sets, inputs)
        maps = [self.query, self.key, self.value, self.residual]
        mapped = set_linear(rows, torch.cat([layer.weight for layer in maps], dim=1))
        # Each row of each set is one product in a batch of them; heads are apart, because columns
        # can be read in place, and moved before the fields they would be copied.
        mapped = mapped.transpose(0, 1).reshape(sets * batch, count, mapped.shape[2])
        query, key, value, residual = mapped.chunk(4, dim=2)
        heads = zip(*(part.chunk(self.heads, dim=2) for part in (query, key, value)), strict=True)
        attended = [F.softmax(q @ k.mT, dim=2) @ v for q, k, v in heads]
        joined = F.relu(torch.cat(attended, dim=2) + residual)
        return joined.unflatten(0, (sets, batch)).transpose(0, 1)
