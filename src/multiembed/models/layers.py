"""Layers whose parameters carry a leading `sets` axis, so that M sets are one module.

Activations are `(batch, sets, width)` by meaning. In memory the sets come first: one set's
rows are then contiguous, which a loop over sets on a CPU and a batched product on a GPU both want.
A layer built with one set serves any number of them (a *shared* interaction).
"""

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from multiembed.kernels.by_hand import by_triton, product_dtype
from multiembed.kernels.cpu.cpu_dropout import LEVELS, dropout
from multiembed.kernels.cpu.cpu_hidden import HiddenLayer, Running, hidden_layer
from multiembed.kernels.cpu.cpu_linear import linear


def stack_sets(views: Sequence[Float[Tensor, "batch width"]]) -> Float[Tensor, "batch sets width"]:
    """Join one activation per set into one tensor, the sets outermost in memory."""
    if len(views) == 1:
        return views[0].unsqueeze(1)
    return torch.stack(list(views)).transpose(0, 1)


def set_linear(
    inputs: Float[Tensor, "batch sets inputs"],
    weight: Float[Tensor, "parameter_sets outputs inputs"],
    bias: Float[Tensor, "parameter_sets outputs"] | None = None,
) -> Float[Tensor, "batch sets outputs"]:
    """Map every set by its own weights, or all by the one set of weights there is."""
    sets_first = inputs.transpose(0, 1)  # (sets, batch, inputs)
    if len(weight) == 1:
        rows = sets_first.flatten(0, 1)
        mapped = linear(rows, weight[0], None if bias is None else bias[0])
        return mapped.unflatten(0, sets_first.shape[:2]).transpose(0, 1)
    if inputs.device.type == "cpu":
        # A set's activations stay in cache: measured about 5% faster than one batched product.
        # One unbinding has one gradient of the whole; every `inputs[:, m]` would have one, too.
        biases = [None] * len(weight) if bias is None else list(bias.unbind(0))
        by_set = zip(sets_first.unbind(0), weight.unbind(0), biases, strict=True)
        return stack_sets([linear(rows, w, b) for rows, w, b in by_set])
    if bias is None:
        return torch.bmm(sets_first, weight.mT).transpose(0, 1)
    return torch.baddbmm(bias.unsqueeze(1), sets_first, weight.mT).transpose(0, 1)


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
        momenta = self.momenta(inputs.shape[1])
        by_set = zip(inputs.unbind(1), momenta, strict=True)
        return stack_sets([self._normalise(rows, m, own) for m, (rows, own) in enumerate(by_set)])

    def momenta(self, sets: int) -> list[float]:
        """Return the share of every set's batch in the running statistics it is folded into."""
        momenta = [self.momentum] * sets
        if self.training and self.untouched:
            # Of several sets with the same statistics the first replaces them.
            own = 1 if len(self.weight) == 1 else sets
            momenta[:own] = [1.0] * own
            self.untouched = False
        return momenta

    def _normalise(
        self, rows: Float[Tensor, "batch width"], m: int, momentum: float
    ) -> Float[Tensor, "batch width"]:
        m = 0 if len(self.weight) == 1 else m
        return F.batch_norm(
            rows,
            self.running_mean[m],
            self.running_var[m],
            self.weight[m],
            self.bias[m],
            training=self.training,
            momentum=momentum,
            eps=self.eps,
        )


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
        weight, training = self.linear.weight, self.training
        dtype = product_dtype(inputs, weight, training=training)
        # One row is batch norm's to refuse.
        if dtype is not None and len(inputs) > 1:
            return hidden_layer(*self._by_hand(inputs, dtype))
        if by_triton(inputs, weight, training=training) and len(inputs) > 1:
            from multiembed.kernels.gpu.gpu_hidden import hidden_layer_on_gpu  # needs Triton

            return hidden_layer_on_gpu(*self._by_hand(inputs, torch.bfloat16))
        hidden = self.linear(inputs)
        if self.norm is not None:
            hidden = self.norm(hidden)
        return dropout(F.relu(hidden), self.dropout, self.training)

    def _by_hand(
        self, inputs: Float[Tensor, "batch sets inputs"], dtype: torch.dtype
    ) -> tuple[HiddenLayer, Float[Tensor, "batch sets inputs"], Sequence[nn.Parameter]]:
        """Return what layers written by hand are applied to."""
        norm, running = self.norm, None
        if norm is not None:
            momenta = norm.momenta(inputs.shape[1])
            running = Running(norm.running_mean, norm.running_var, momenta, norm.eps)
        layer = HiddenLayer(dtype, round(self.dropout * LEVELS), running)
        parameters = [*self.linear.parameters(), *([] if norm is None else norm.parameters())]
        return layer, inputs, parameters


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
