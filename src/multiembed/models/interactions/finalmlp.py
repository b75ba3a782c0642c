"""FinalMLP: two streams of ReLU layers, fused bilinearly (Mao et al., AAAI 2023)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override

from multiembed.base.bounds import OptionalWidth
from multiembed.models.interactions.base import DeepArchitecture, Interaction
from multiembed.models.layers import SetLinear, set_mlp


class FinalMlp(DeepArchitecture):
    """Two streams over the same embeddings; all their ReLU layers belong to each set."""

    # DIFFERS: Mao et al. put a gate before each stream; we put none by default, as in the
    # reference's runs, whose code has the gates commented out; a size switches them on.
    feature_selection: OptionalWidth = 0
    """Hidden units of the gate before each stream; 0 for no gates."""

    @override
    def interaction(self, *, fields: int, dim: int, sets: int) -> Interaction:
        return TwoStreams(self, fields=fields, dim=dim, sets=sets)

    @override
    def head(self, width: int) -> nn.Module:
        return BilinearFusion(width // 2)


class TwoStreams(Interaction):
    """The last hidden layers of both streams of every set, side by side."""

    def __init__(self, architecture: FinalMlp, *, fields: int, dim: int, sets: int) -> None:
        super().__init__()
        self.width = 2 * architecture.hidden[-1]
        inputs = fields * dim
        gate = architecture.feature_selection
        self.gates = nn.ModuleList(
            FeatureGate(sets, inputs, hidden=gate, context=dim) for _ in range(2 if gate else 0)
        )
        self.streams = nn.ModuleList(
            set_mlp(
                sets,
                inputs,
                architecture.hidden,
                dropout=architecture.dropout,
                batch_norm=architecture.batch_norm,
            )
            for _ in range(2)
        )

    @override
    def forward(
        self, embeddings: Float[Tensor, "batch sets fields dim"]
    ) -> Float[Tensor, "batch sets width"]:
        flat = embeddings.flatten(start_dim=2)
        views = [gate(flat) for gate in self.gates] if len(self.gates) else [flat, flat]
        return torch.cat(
            [stream(view) for stream, view in zip(self.streams, views, strict=True)], dim=2
        )


class FeatureGate(nn.Module):
    """Multiplies every input by `2 * sigmoid(MLP(context))` (Mao et al., feature selection).

    The context is a learnt vector: no field is singled out.
    """

    def __init__(self, sets: int, inputs: int, *, hidden: int, context: int) -> None:
        super().__init__()
        self.context = nn.Parameter(torch.randn(sets, context))
        self.hidden = SetLinear(sets, context, hidden)
        self.gate = SetLinear(sets, hidden, inputs)

    def forward(
        self, inputs: Float[Tensor, "batch sets inputs"]
    ) -> Float[Tensor, "batch sets inputs"]:
        """Weigh the inputs of every set."""
        hidden = self.hidden(self.context.unsqueeze(0)).relu()
        return 2 * self.gate(hidden).sigmoid() * inputs


class BilinearFusion(nn.Module):
    """`w_x . x + w_y . y + x' W y + b` of the two streams' mean outputs, with one head.

    W begins at zero, as in the reference code.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, 1)
        self.second = nn.Linear(width, 1)
        self.bilinear = nn.Parameter(torch.zeros(width, width))

    def forward(self, mean: Float[Tensor, "batch width"]) -> Float[Tensor, " batch"]:
        """Return one logit per row."""
        x, y = mean.chunk(2, dim=1)
        linear = (self.first(x) + self.second(y)).squeeze(1)
        return linear + ((x @ self.bilinear) * y).sum(dim=1)
