"""Linear, batch norm, ReLU and dropout in training on a GPU, in bfloat16, for all sets at once.

What is done number by number takes two passes over memory forwards and two backwards. Nothing waits
for the GPU, so that a CUDA graph may hold it all. Kept is what `hidden` keeps.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from multiembed.kernels.gpu.gpu_cross import product_in
from multiembed.kernels.gpu.gpu_cross_kernels import pad_rows, padded, padded_rows
from multiembed.kernels.gpu.gpu_hidden_kernels import (
    Normal,
    activate_rows,
    deactivate_rows,
    find_statistics,
    sum_slopes,
)
from multiembed.kernels.operations import HiddenLayer
from multiembed.kernels.own_gradient import Context, own_gradient

PRODUCT_MULTIPLE = 8
"""Numbers in 16 bytes of bfloat16: products want rows of a multiple of them, and wherever in
memory they lie, they take three to four times as long over others (H200, 390 and 392 numbers)."""


def hidden_layer_on_gpu(
    layer: HiddenLayer,
    inputs: Float[Tensor, "batch sets inputs"],
    parameters: Sequence[Tensor],
) -> Float[Tensor, "batch sets outputs"]:
    """Do what `operations.hidden_layer` does in training, in bfloat16.

    Inputs are in float32 or bfloat16; rows cut from padded ones are read as they lie.
    """
    return _apply(layer, inputs, *parameters)


def _gpu_hidden(
    ctx: Context, layer: HiddenLayer, inputs: Tensor, *parameters: Tensor
) -> Float[Tensor, "batch sets outputs"]:
    weight, bias, *affine = parameters
    sets, outputs = inputs.shape[1], weight.shape[1]
    operands, weights = _operands(inputs), _padded(weight).expand(sets, -1, -1)
    mapped = torch.bmm(operands, weights[:, :, : operands.shape[2]].mT)
    if layer.norm is None:
        mean, rate = bias.new_zeros(sets, outputs), bias.new_ones(sets, outputs)
    else:
        mean, rate = find_statistics(layer.norm, mapped, bias)
    # A batch norm takes away what the bias added.
    scale, shift = (part.expand(sets, -1).contiguous() for part in affine or (rate, bias))
    normal = Normal(mean, rate, scale, shift)
    seed = torch.empty((), dtype=torch.int64, device=inputs.device).random_()
    active = torch.empty_like(mapped)
    activate_rows(layer, mapped, normal, seed, active)
    # Without a batch norm nothing else of what was mapped is wanted again.
    kept = mapped if affine else active
    ctx.save_for_backward(inputs, *parameters, operands, weights, active, kept, *normal)
    ctx.layer = layer
    return active[..., :outputs].transpose(0, 1)


def _gpu_hidden_gradient(
    ctx: Context, gradient: Float[Tensor, "batch sets outputs"]
) -> tuple[Tensor | None, ...]:
    inputs, *parameters, operands, weights, active, kept, mean, rate, scale, shift = (
        ctx.saved_tensors
    )
    normal, dropout_scale = Normal(mean, rate, scale, shift), ctx.layer.dropout_scale
    outputs, width = parameters[0].shape[1:]
    sums = sum_slopes((gradient, active, kept), normal, dropout_scale)
    normalised = ctx.layer.norm is not None
    factors = dropout_scale, 1 / len(gradient) if normalised else 0.0
    of_mapped = torch.empty_like(active)
    deactivate_rows((gradient, active, kept), normal, sums, factors, of_mapped)
    of_weight = product_in(torch.float32, of_mapped.mT, operands)[:, :outputs, :width]
    of_scale, of_shift = sums
    # A batch norm takes away what the bias added.
    of_bias = [torch.zeros_like(parameters[1]), of_scale] if normalised else []
    of_parameters = [
        _of_owners(part, parameter)
        for part, parameter in zip((of_weight, *of_bias, of_shift), parameters, strict=True)
    ]
    of_inputs = product_in(inputs.dtype, of_mapped, weights)[..., :width]
    return None, of_inputs.transpose(0, 1), *of_parameters


_apply = own_gradient(_gpu_hidden, _gpu_hidden_gradient)


def _operands(
    inputs: Float[Tensor, "batch sets inputs"],
) -> Float[Tensor, "sets batch operands"]:
    """Return rows as products read them: as they lie, if that serves, or padded with zeros."""
    *outer, inner = inputs.stride()
    fits = not any(number % PRODUCT_MULTIPLE for number in (*outer, inputs.shape[2]))
    if inputs.dtype == torch.bfloat16 and inner == 1 and fits:
        return inputs.detach().transpose(0, 1)
    return padded_rows(inputs, torch.bfloat16)


def _padded(
    weight: Float[Tensor, "own outputs inputs"],
) -> Float[Tensor, "own padded_outputs padded_inputs"]:
    """Return weights in bfloat16 with zeros around them, fewest where outputs can do without."""
    own, outputs, inputs = weight.shape
    rows = padded(outputs) if outputs % PRODUCT_MULTIPLE else outputs
    whole = weight.new_empty(1, own, rows, padded(inputs), dtype=torch.bfloat16)
    return pad_rows([weight.transpose(0, 1)], whole)[0]


def _of_owners(gradient: Float[Tensor, "..."], parameter: Tensor) -> Tensor:
    """Return a parameter's gradient from those of all sets, which may share it."""
    if len(parameter) == 1 and gradient.ndim > 1:
        return gradient.sum(dim=0, keepdim=True)
    return gradient.expand_as(parameter).contiguous()
