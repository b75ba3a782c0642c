"""Linear, batch norm, ReLU and dropout in training on a CPU, forwards and backwards set by set.

What is done number by number takes one pass over memory forwards and two backwards. Kept are the
map's inputs and outputs and the activations, which are positive exactly where ReLU and dropout
let a unit through.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd import Function

from multiembed.base.loops import run_shares
from multiembed.base.memory import fitting
from multiembed.kernels.by_hand import derive_again, fold, of_set
from multiembed.kernels.cpu.bfloat16 import bits
from multiembed.kernels.cpu.cpu_dropout import LEVELS
from multiembed.kernels.cpu.cpu_linear import product, sum_of_outer
from multiembed.kernels.cpu.hidden_loops import activate_rows, deactivate_rows, sum_slopes


class Running(NamedTuple):
    """Statistics that a batch norm keeps for evaluation, one row for each set of parameters."""

    mean: Float[Tensor, "parameter_sets width"]
    var: Float[Tensor, "parameter_sets width"]
    momenta: Sequence[float]
    """Of every set's batch."""
    eps: float


class HiddenLayer(NamedTuple):
    """What a layer is beside its parameters."""

    dtype: torch.dtype
    """Precision of the products, and of the activations."""
    dropped: int
    """How many units of `LEVELS` are set to zero."""
    running: Running | None
    """None where there is no batch norm."""

    @property
    def grown(self) -> float:
        """What the units that are left are multiplied by."""
        return LEVELS / (LEVELS - self.dropped)


def hidden_layer(
    layer: HiddenLayer,
    inputs: Float[Tensor, "batch sets inputs"],
    parameters: Sequence[Tensor],
) -> Float[Tensor, "batch sets outputs"]:
    """Apply the layer as training does; its running statistics move.

    Args:
        layer: What it is.
        inputs: Of every set.
        parameters: Weight and bias of the map; those of the batch norm, if there is one.
    """
    return _Hidden.apply(layer, inputs, *parameters)


class _Hidden(Function):
    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def forward(
        ctx: Any,  # noqa: ANN401
        layer: HiddenLayer,
        inputs: Tensor,
        *parameters: Tensor,
    ) -> Float[Tensor, "batch sets outputs"]:
        batch, sets, _ = inputs.shape
        operands = inputs.detach().to(layer.dtype)
        active = fitting(sets, batch, parameters[0].shape[1], dtype=layer.dtype)
        seed = int(torch.empty((), dtype=torch.int64).random_())
        kept = []
        for m, rows in enumerate(operands.unbind(1)):
            weight, bias, *affine = (of_set(parameter, m) for parameter in parameters)
            mapped = fitting(batch, len(weight), dtype=layer.dtype)
            product(rows, weight.to(layer.dtype), out=mapped)
            mean, rate = _statistics(layer.running, mapped, bias, m)
            # A batch norm takes away what the bias added.
            scale, shift = affine or (rate, bias)
            scale = layer.grown * rate * scale
            run_shares(
                activate_rows,
                bits(mapped),
                scale.numpy(),
                (layer.grown * shift - mean * scale).numpy(),
                (np.uint64(seed), m * batch, layer.dropped),
                bits(active[m]),
                work=mapped.numel(),
            )
            # Without a batch norm nothing else of what was mapped is wanted again.
            kept += [mapped if affine else active[m], mean, rate]
        output = active.transpose(0, 1)
        ctx.save_for_backward(output, inputs, *parameters, operands, *kept)
        ctx.layer, ctx.parameters = layer, len(parameters)
        return output

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,  # noqa: ANN401
        *gradients: Float[Tensor, "batch sets outputs"],
    ) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        active, inputs, *saved = ctx.saved_tensors
        parameters, (operands, *kept) = saved[: ctx.parameters], saved[ctx.parameters :]
        if torch.is_grad_enabled():
            plain = partial(plain_hidden, ctx.layer, active != 0)
            return None, *derive_again(
                plain, [inputs, *parameters], ctx.needs_input_grad[1:], gradient
            )
        of_inputs = fitting(*inputs.transpose(0, 1).shape, dtype=inputs.dtype)
        of_parameters = [fitting(*parameter.shape) for parameter in parameters]
        for m, rows in enumerate(operands.unbind(1)):
            weight, _, *affine = (of_set(parameter, m) for parameter in parameters)
            scale = affine[0] if affine else None
            of_mapped, of_affine = _of_mapped(
                ctx.layer, gradient[:, m], active[:, m], kept[3 * m : 3 * m + 3], scale
            )
            of_map = sum_of_outer(of_mapped, rows), of_mapped.sum(dim=0)
            for whole, part in zip(of_parameters, (*of_map, *of_affine), strict=True):
                fold(whole, m, part)
            product(of_mapped, weight.to(of_mapped.dtype).mT, out=of_inputs[m])
        return None, of_inputs.transpose(0, 1), *of_parameters


def _statistics(
    running: Running | None,
    mapped: Float[Tensor, "batch width"],
    bias: Float[Tensor, " width"],
    m: int,
) -> tuple[Float[Tensor, " width"], Float[Tensor, " width"]]:
    """Return the mean of what a unit mapped and the inverse of its deviation, or 0 and 1.

    The running mean is that with the bias.
    """
    if running is None:
        width = mapped.shape[1]
        return torch.zeros(width), torch.ones(width)
    own, momentum = of_set(running.mean, m), running.momenta[m]
    mean, var = torch.batch_norm_update_stats(mapped, own, of_set(running.var, m), momentum)
    own.add_(bias, alpha=momentum)
    return mean, (var + running.eps).rsqrt()


def _of_mapped(
    layer: HiddenLayer,
    gradient: Float[Tensor, "batch width"],
    active: Float[Tensor, "batch width"],
    kept: Sequence[Tensor],
    scale: Float[Tensor, " width"] | None,
) -> tuple[Float[Tensor, "batch width"], Sequence[Float[Tensor, " width"]]]:
    """Return the gradient of what one set's map gave, and those of scale and shift after it."""
    mapped, mean, rate = kept
    arrays = bits(gradient), bits(active), bits(mapped)
    factors = torch.zeros(4, len(mean))
    factors[0], factors[3], of_affine = layer.grown * rate, mean, []
    if scale is not None:
        sums = torch.zeros(2, len(mean), dtype=torch.float64)
        run_shares(sum_slopes, *arrays, mean.numpy(), sums.numpy(), work=mapped.numel())
        total, along = (layer.grown * sums).float()
        of_affine = [along * rate, total]
        slope = scale * rate
        factors[0] *= scale
        factors[1] = -slope * rate.square() * along / len(mapped)
        factors[2] = -slope * total / len(mapped)
    of_mapped = fitting(*mapped.shape, dtype=mapped.dtype)
    work = mapped.numel()
    run_shares(deactivate_rows, *arrays, factors.numpy(), bits(of_mapped), work=work)
    return of_mapped, of_affine


def plain_hidden(
    layer: HiddenLayer,
    kept: Bool[Tensor, "batch sets outputs"],
    inputs: Float[Tensor, "batch sets inputs"],
    *parameters: Tensor,
) -> Float[Tensor, "batch sets outputs"]:
    """Compute the layer by torch's own operators, units dropped as they were.

    Args:
        layer: What it is; its running statistics stay.
        kept: Which units ReLU and dropout let through.
        inputs: Of every set.
        parameters: As `hidden_layer` takes them.
    """
    weights, biases, *affine = parameters
    weights = weights.expand(inputs.shape[1], -1, -1)
    hidden = torch.einsum("bsi,soi->bso", inputs.to(weights.dtype), weights) + biases
    if layer.running is not None:
        scale, shift = affine
        hidden = hidden - hidden.mean(dim=0)
        deviation = (hidden.square().mean(dim=0) + layer.running.eps).sqrt()
        hidden = hidden / deviation * scale + shift
    return layer.grown * hidden * kept
