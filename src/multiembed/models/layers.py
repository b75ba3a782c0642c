"""Layers whose parameters carry a leading `sets` axis, so that M sets are one module.

Activations are `(batch, sets, width)`, in memory as `kernels.operations` says. A layer built with
one set serves any number of them (a *shared* interaction).
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from multiembed.kernels.operations import (
    BatchNorm,
    HiddenLayer,
    batch_norm,
    hidden_layer,
    set_linear,
)


class SetLinear(nn.Module):
    """An affine map for every set: `weight` (sets, outputs, inputs), `bias` (sets, outputs).

    Initialised as `torch.nn.Linear` is: uniform within `1 / sqrt(inputs)`.
    """

    bias: nn.Parameter | None

    def __init__(self, sets: int, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(sets, outputs, inputs).uniform_(-bound, bound))
        self.register_parameter(
            "bias",
            nn.Parameter(torch.empty(sets, outputs).uniform_(-bound, bound)) if bias else None,
        )

    def forward(
        self, inputs: Float[Tensor, "batch sets inputs"]
    ) -> Float[Tensor, "batch sets outputs"]:
        """Map every set by its own weights, or all by the one set of weights there is."""
        return set_linear(inputs, self.weight, self.bias)


class SetBatchNorm(nn.Module):
    """Batch normalisation over the rows, apart for every set and unit.

    A shared layer normalises each set by that set's own batch statistics and folds them into
    its running ones set after set, as calling one `torch.nn.BatchNorm1d` per set would.

    DIFFERS: the first batch replaces the running statistics of a new layer. Torch averages it with
    the zeros and ones they begin with, whose share after n batches is 0.9^n: after 50 batches
    still more than the variance of units that read small embeddings.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, sets: int, width: int, *, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum = momentum
        self.eps = eps
        self.untouched = True
        """Whether the running statistics are those of no batch."""
        self.register_load_state_dict_post_hook(_touch)
        self.weight = nn.Parameter(torch.ones(sets, width))
        self.bias = nn.Parameter(torch.zeros(sets, width))
        self.register_buffer("running_mean", torch.zeros(sets, width))
        self.register_buffer("running_var", torch.ones(sets, width))

    def forward(
        self, inputs: Float[Tensor, "batch sets width"]
    ) -> Float[Tensor, "batch sets width"]:
        """Normalise by the batch in training, by the running statistics in evaluation."""
        statistics = self.statistics(inputs.shape[1])
        return batch_norm(inputs, self.weight, self.bias, statistics, training=self.training)

    def statistics(self, sets: int) -> BatchNorm:
        """Return the running statistics, for a batch of so many sets to be folded into."""
        momenta = [self.momentum] * sets
        if self.training and self.untouched:
            # Of several sets with the same statistics the first replaces them.
            own = 1 if len(self.weight) == 1 else sets
            momenta[:own] = [1.0] * own
            self.untouched = False
        return BatchNorm(self.running_mean, self.running_var, momenta, self.eps)


def _touch(norm: nn.Module, _: object) -> None:
    """Take statistics that were loaded for those of rows."""
    assert isinstance(norm, SetBatchNorm)
    norm.untouched = False


class SetBlock(nn.Module):
    """Linear, batch norm (unless switched off), ReLU, dropout: the reference's hidden layer."""

    def __init__(
        self, sets: int, inputs: int, outputs: int, *, dropout: float, batch_norm: bool
    ) -> None:
        super().__init__()
        self.linear = SetLinear(sets, inputs, outputs)
        self.norm = SetBatchNorm(sets, outputs) if batch_norm else None
        self.dropout = dropout

    def forward(
        self, inputs: Float[Tensor, "batch sets inputs"]
    ) -> Float[Tensor, "batch sets outputs"]:
        """Apply the block to every set."""
        parameters = list(self.linear.parameters())
        if self.norm is not None:
            parameters += self.norm.parameters()
        layer = self.layer(inputs.shape[1])
        return hidden_layer(layer, inputs, parameters, training=self.training)

    def layer(self, sets: int) -> HiddenLayer:
        """Return what the block is beside its parameters, for a batch of so many sets."""
        return HiddenLayer(self.dropout, self.norm and self.norm.statistics(sets))


def set_mlp(
    sets: int, inputs: int, hidden: Sequence[int], *, dropout: float, batch_norm: bool
) -> nn.Sequential:
    """Chain one `SetBlock` for each size in `hidden`; the identity for none."""
    sizes = [inputs, *hidden]
    return nn.Sequential(
        *(
            SetBlock(sets, before, after, dropout=dropout, batch_norm=batch_norm)
            for before, after in itertools.pairwise(sizes)
        )
    )


@contextmanager
def observing(module: nn.Module) -> Iterator[None]:
    """Run a block in evaluation mode and without gradients; then every part is as it was."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode
