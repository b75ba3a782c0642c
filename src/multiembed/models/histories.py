"""Histories of a field's values, such as clicks: the embeddings of all become one."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from multiembed.kernels.history_values import PaddedHistories, RowsRead
from multiembed.kernels.operations import set_linear
from multiembed.models.layers import SetLinear
from multiembed.models.naming import SequencePooling

UNITS = (32,)
"""Of the hidden layers of an attention, as in FuxiCTR's layer."""


@dataclass(frozen=True)
class Histories:
    """Which histories a model reads, and how the values of each become one embedding.

    Args:
        shares: For every history, the place of the field whose table it shares.
        pooling: `mean`; `attention`, a sum weighted by a `TargetAttention`; `softmax`, the same
            with weights that add up to 1.
        units: Hidden units of the attention's layers.
        positions: Whether the attention learns what the place in the history weighs.
    """

    shares: tuple[int, ...] = ()
    pooling: SequencePooling = "mean"
    units: Sequence[int] = UNITS
    positions: bool = False

    def attentions(self, sets: int, width: int, slots: Sequence[int]) -> nn.ModuleList | None:
        """Return what weighs the values of each history, or none for the mean.

        Args:
            sets: Embedding sets, each with an attention of its own.
            width: Numbers that one id has in one set.
            slots: Most values of every history.
        """
        if self.pooling == "mean" or not self.shares:
            return None
        softmax = self.pooling == "softmax"
        return nn.ModuleList(
            TargetAttention(
                sets,
                width,
                units=self.units,
                softmax=softmax,
                positions=most if self.positions else None,
            )
            for most in slots
        )


class TargetAttention(nn.Module):
    """What every value of a history weighs for the value at hand (DIN, Zhou et al., KDD 2018).

    The weight is what ReLU layers make of `[t, h, t - h, t * h]`, where t is the embedding at hand
    and h that of the value. Weights need not add up to 1, so that a sum tells how much of the
    history is like t; `softmax` makes them.

    DIFFERS: the paper has PReLU or Dice between layers; FuxiCTR, whose numbers these are, ReLU.

    The first layer is split, so that only the product is mapped pair by pair:
    `W [t, h, t - h, t * h] = (W1 + W3) t + (W2 - W3) h + W4 (t * h)`.

    Args:
        sets: Embedding sets, each with weights of its own.
        width: Numbers of t and of h in one set.
        units: Hidden units of every layer.
        softmax: Whether the weights of a history add up to 1.
        positions: Most values of a history, if every place is to have an embedding of its own,
            added to h. Places are counted from the last value; they begin at zero.
    """

    positions: nn.Parameter | None

    def __init__(
        self, sets: int, width: int, *, units: Sequence[int], softmax: bool, positions: int | None
    ) -> None:
        super().__init__()
        self.softmax = softmax
        sizes = [4 * width, *units, 1]
        pairs = itertools.pairwise(sizes)
        self._layers = [SetLinear(sets, before, after) for before, after in pairs]
        self.layers = nn.ModuleList(self._layers)
        table = None if positions is None else nn.Parameter(torch.zeros(positions, sets, width))
        self.register_parameter("positions", table)

    def forward(
        self,
        target: Float[Tensor, "batch sets width"],
        values: Float[Tensor, "values sets width"],
        histories: PaddedHistories,
    ) -> Float[Tensor, "values sets"]:
        """Return the weight of every value in every set; what padding has is of no meaning."""
        if self.positions is not None:
            values = values + self.positions[histories.ages]
        first, *others = self._layers
        of_target, of_value, of_difference, of_product = first.weight.chunk(4, dim=2)
        hidden = histories.spread(set_linear(target, of_target + of_difference, first.bias))
        hidden = hidden + set_linear(values, of_value - of_difference)
        hidden = hidden + set_linear(histories.spread(target) * values, of_product)
        for layer in others:
            hidden = layer(F.relu(hidden))
        scores = hidden.squeeze(2)
        return histories.normalised(scores) if self.softmax else scores


def pooled(
    histories: PaddedHistories,
    rows: RowsRead,
    target: Float[Tensor, "batch sets width"],
    attention: nn.Module | None,
) -> Float[Tensor, "batch sets width"]:
    """Make one embedding of the values of every history; zeros where there is none.

    Args:
        histories: Of the batch.
        rows: Of their values.
        target: Embeddings of the field whose table they share.
        attention: A `TargetAttention`; the mean without.
    """
    sets = target.shape[1]
    if attention is None:
        sums = histories.total(rows, None, sets)
        return sums / histories.sizes.clamp(min=1).view(-1, 1, 1)
    weights = attention(target, rows.copies(sets), histories)
    return histories.total(rows, weights, sets)
