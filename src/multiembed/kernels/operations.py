"""The operations of layers in plain torch; each runs in the form that its route names.

Activations are `(batch, sets, width)` by meaning. In memory the sets come first: one set's
rows are then contiguous, which a loop over sets on a CPU and a batched product on a GPU both want.
Parameters carry a leading axis of sets: one for each, or one that all sets share.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from multiembed.kernels.route import fast_form
from multiembed.kernels.rows import Row

LayerWeights = Sequence[Float[Tensor, "parameter_sets _ _"]]
LayerBiases = Sequence[Float[Tensor, "parameter_sets _"]]

DROPOUT_LEVELS = 1 << 16
"""Fast forms drop a unit by 16 random bits, and so by shares that are multiples of 2**-16."""


def join_sets(views: Sequence[Float[Tensor, "batch width"]]) -> Float[Tensor, "batch sets width"]:
    """Join one activation per set into one tensor, the sets outermost in memory."""
    if len(views) == 1:
        return views[0].unsqueeze(1)
    return torch.stack(list(views)).transpose(0, 1)


def linear(
    inputs: Float[Tensor, "rows inputs"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"] | None = None,
) -> Float[Tensor, "rows outputs"]:
    """Return `F.linear(inputs, weight, bias)`, to float32 rounding."""
    form = fast_form("linear", inputs, weight, training=True)
    return (form or F.linear)(inputs, weight, bias)


def set_linear(
    inputs: Float[Tensor, "batch sets inputs"],
    weight: Float[Tensor, "parameter_sets outputs inputs"],
    bias: Float[Tensor, "parameter_sets outputs"] | None = None,
) -> Float[Tensor, "batch sets outputs"]:
    """Map every set by its own weights, or all by the one set of weights there is."""
    if len(weight) == 1:
        sets_first = inputs.transpose(0, 1)
        mapped = linear(sets_first.flatten(0, 1), weight[0], None if bias is None else bias[0])
        return mapped.unflatten(0, sets_first.shape[:2]).transpose(0, 1)
    form = fast_form("set_linear", inputs, weight, training=True)
    if form is not None:
        return form(inputs, weight, bias)
    sets_first = inputs.transpose(0, 1)
    if bias is None:
        return torch.bmm(sets_first, weight.mT).transpose(0, 1)
    return torch.baddbmm(bias.unsqueeze(1), sets_first, weight.mT).transpose(0, 1)


def dropout(
    hidden: Float[Tensor, "*shape"], share: float, *, training: bool
) -> Float[Tensor, "*shape"]:
    """Set a share of the numbers to zero in training; scale the rest so that the mean stays."""
    form = fast_form("dropout", hidden, hidden, training=training)
    if form is None or dropped_levels(share) == 0:
        return F.dropout(hidden, share, training)
    return form(hidden, share)


def dropped_levels(share: float) -> int:
    """Return how many of `DROPOUT_LEVELS` are dropped, the nearest number to a share of them.

    One level at least is kept, however near to 1 the share is: what is left can then be scaled so
    that the mean stays.
    """
    return min(round(share * DROPOUT_LEVELS), DROPOUT_LEVELS - 1)


class BatchNorm(NamedTuple):
    """What a batch norm knows beside its scale and shift, for every set of parameters."""

    mean: Float[Tensor, "parameter_sets width"]
    """The running one, for evaluation; training moves it."""
    var: Float[Tensor, "parameter_sets width"]
    """The running variance."""
    momenta: Sequence[float]
    """Share of every set's batch in the running statistics it is folded into."""
    eps: float


def batch_norm(
    inputs: Float[Tensor, "batch sets width"],
    scale: Float[Tensor, "parameter_sets width"],
    shift: Float[Tensor, "parameter_sets width"],
    norm: BatchNorm,
    *,
    training: bool,
) -> Float[Tensor, "batch sets width"]:
    """Normalise every set by its batch in training, by the running statistics in evaluation."""
    views = []
    for m, rows in enumerate(inputs.unbind(1)):
        own = 0 if len(scale) == 1 else m
        kept = norm.mean[own], norm.var[own], scale[own], shift[own]
        views.append(F.batch_norm(rows, *kept, training, norm.momenta[m], norm.eps))
    return join_sets(views)


class HiddenLayer(NamedTuple):
    """What a layer of linear map, batch norm, ReLU and dropout is beside its parameters."""

    dropout: float
    """Share of the units that is set to zero in training."""
    norm: BatchNorm | None
    """None where there is no batch norm."""

    @property
    def dropped(self) -> int:
        """How many of `DROPOUT_LEVELS` fast forms drop."""
        return dropped_levels(self.dropout)

    @property
    def dropout_scale(self) -> float:
        """What fast forms multiply the units by that are kept."""
        return DROPOUT_LEVELS / (DROPOUT_LEVELS - self.dropped)


def hidden_layer(
    layer: HiddenLayer,
    inputs: Float[Tensor, "batch sets inputs"],
    parameters: Sequence[Tensor],
    *,
    training: bool,
) -> Float[Tensor, "batch sets outputs"]:
    """Apply linear map, batch norm, ReLU and dropout; in training running statistics move.

    In training under autocast to bfloat16, fast forms return bfloat16, as the next product will
    read it.

    Args:
        layer: What it is.
        inputs: Of every set.
        parameters: Weight and bias of the map; those of the batch norm, if there is one.
        training: Whether batches are normalised by themselves, and units dropped.
    """
    form = fast_form("hidden_layer", inputs, parameters[0], training=training)
    if form is not None:
        return form(layer, inputs, parameters)
    weight, bias, *affine = parameters
    hidden = set_linear(inputs, weight, bias)
    if layer.norm is not None:
        scale, shift = affine
        hidden = batch_norm(hidden, scale, shift, layer.norm, training=training)
    return dropout(F.relu(hidden), layer.dropout, training=training)


def cross(
    x0: Float[Tensor, "batch sets width"],
    weights: LayerWeights,
    biases: LayerBiases,
    *,
    training: bool,
) -> Float[Tensor, "batch sets width"]:
    """Repeat `x <- x0 * (W x + b) + x` from `x = x0` (Wang et al., equation 1).

    In training under autocast to bfloat16, fast forms return bfloat16, as the next product will
    read it.

    Args:
        x0: The embeddings of every set, side by side.
        weights: One matrix `(parameter_sets, width, width)` for each layer.
        biases: One `(parameter_sets, width)` for each layer.
        training: Whether gradients will be wanted.
    """
    form = fast_form("cross", x0, weights[0], training=training) if weights else None
    if form is not None:
        return form(x0, weights, biases)
    x = x0
    for weight, bias in zip(weights, biases, strict=True):
        x = torch.addcmul(x, x0, set_linear(x, weight, bias))
    return x


def compressed_interaction(
    x0: Float[Tensor, "batch sets fields dim"],
    weights: LayerWeights,
    biases: LayerBiases,
    *,
    training: bool,
) -> Float[Tensor, "batch sets width"]:
    """Return the maps of all layers of a CIN, each summed over its `dim` numbers.

    Map h of a layer is `relu(sum_ij W[h, i, j] * (x0_i * x_j) + b[h])`, number by number, where x
    are the maps of the layer before, at first the fields (Lian et al., equation 6).

    Args:
        x0: The embeddings.
        weights: One `(parameter_sets, maps, fields * inputs)` for each layer.
        biases: One `(parameter_sets, maps)` for each layer.
        training: Whether gradients will be wanted.
    """
    form = fast_form("compressed_interaction", x0, weights[0], training=training)
    if form is not None:
        return form(x0, weights, biases)
    batch, _, fields, dim = x0.shape
    # A layer works on each of the dim numbers alone, so they are rows to it.
    start = x = x0.permute(0, 3, 1, 2).flatten(0, 1)  # (batch * dim, sets, fields)
    pooled = []
    for weight, bias in zip(weights, biases, strict=True):
        # Mixing x first and multiplying by x0 then leaves the products of all pairs unwritten.
        mixing = weight.view(len(weight), -1, x.shape[2])  # (sets, maps * fields, inputs)
        mixed = set_linear(x, mixing).unflatten(2, (-1, fields))
        x = F.relu((mixed @ start.unsqueeze(3)).squeeze(3) + bias)
        pooled.append(x.unflatten(0, (batch, dim)).sum(dim=1))
    return torch.cat(pooled, dim=2)


def field_aware_products(
    embeddings: Float[Tensor, "batch sets fields columns"], row: Row, *, training: bool
) -> Float[Tensor, "batch sets"]:
    """Return the sum over fields i < j of `<e_i for j, e_j for i>`, and of first-order weights.

    Args:
        embeddings: Rows of a table, with one embedding for every field (Juan et al., equation 4).
        row: What they hold: blocks for all fields, or for all but the field itself.
        training: Whether gradients will be wanted.
    """
    form = fast_form("field_aware_products", embeddings, embeddings, training=training)
    if form is not None:
        return form(embeddings, row)
    fields = embeddings.shape[2]
    numbers, first_order = row.split(embeddings)
    blocks = numbers.unflatten(3, (row.blocks, -1))
    i, j = torch.triu_indices(fields, fields, 1, device=embeddings.device)
    # Without own blocks, field i's embedding for a later field j stands one place earlier.
    for_later = blocks[:, :, i, j if row.blocks == fields else j - 1]
    for_earlier = blocks[:, :, j, i]
    score = (for_later * for_earlier).sum(dim=(2, 3))
    return score if first_order is None else score + first_order.sum(dim=2)
