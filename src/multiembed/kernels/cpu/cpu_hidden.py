"""Linear, batch norm, ReLU and dropout in training on a CPU, forwards and backwards set by set.

What is done number by number takes one pass over memory forwards and two backwards. Kept are the
map's inputs and outputs and the activations, which are positive exactly where ReLU and dropout
let a unit through. Compiled loops take arrays `(rows, width)` of `bits`, or one number for each
unit; they carry no annotations: Numba sees the types of each call.
"""

# ruff: noqa: ANN001, ANN202

from collections.abc import Sequence
from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from multiembed.base.loops import compiled, run_shares
from multiembed.base.splitmix import GOLDEN, mix64
from multiembed.kernels.cpu.cpu_linear import (
    bits,
    fold,
    narrow,
    of_set,
    product,
    sum_of_outer,
    widen,
)
from multiembed.kernels.cpu.cpu_memory import fitting
from multiembed.kernels.operations import DROPOUT_LEVELS, BatchNorm, HiddenLayer, dropped_levels
from multiembed.kernels.own_gradient import Context, own_gradient
from multiembed.kernels.route import product_dtype

_BLOCK = 32
"""Rows that are summed in float32 before they are added to a sum in float64."""


def hidden_layer_on_cpu(
    layer: HiddenLayer,
    inputs: Float[Tensor, "batch sets inputs"],
    parameters: Sequence[Tensor],
) -> Float[Tensor, "batch sets outputs"]:
    """Do what `operations.hidden_layer` does in training, in the precision of products."""
    return _apply(layer, product_dtype("cpu"), inputs, *parameters)


def dropout_by_levels(hidden: Float[Tensor, "*shape"], share: float) -> Float[Tensor, "*shape"]:
    """Do what `operations.dropout` does in training, by random numbers drawn by the block.

    One random number of 64 bits decides about four units: 10 ms for 3.3 million units where
    torch's own dropout takes 29.
    """
    dropped, count = dropped_levels(share), hidden.numel()
    drawn = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    levels = drawn.view(torch.int16)[:count].view(hidden.shape)  # from -2**15
    kept = (levels >= dropped - DROPOUT_LEVELS // 2).to(hidden.dtype)
    return hidden * kept.mul_(DROPOUT_LEVELS / (DROPOUT_LEVELS - dropped))


def _hidden(
    ctx: Context, layer: HiddenLayer, dtype: torch.dtype, inputs: Tensor, *parameters: Tensor
) -> Float[Tensor, "batch sets outputs"]:
    batch, sets, _ = inputs.shape
    operands = inputs.detach().to(dtype)
    active = fitting(sets, batch, parameters[0].shape[1], dtype=dtype)
    seed = int(torch.empty((), dtype=torch.int64).random_())
    kept = []
    for m, rows in enumerate(operands.unbind(1)):
        weight, bias, *affine = (of_set(parameter, m) for parameter in parameters)
        mapped = fitting(batch, len(weight), dtype=dtype)
        product(rows, weight.to(dtype), out=mapped)
        mean, rate = _statistics(layer.norm, mapped, bias, m)
        # A batch norm takes away what the bias added.
        scale, shift = affine or (rate, bias)
        scale = layer.dropout_scale * rate * scale
        run_shares(
            _activate_rows,
            bits(mapped),
            scale.numpy(),
            (layer.dropout_scale * shift - mean * scale).numpy(),
            (np.uint64(seed), m * batch, layer.dropped),
            bits(active[m]),
            work=mapped.numel(),
        )
        # Without a batch norm nothing else of what was mapped is wanted again.
        kept += [mapped if affine else active[m], mean, rate]
    output = active.transpose(0, 1)
    ctx.save_for_backward(output, operands, *parameters, *kept)
    ctx.layer, ctx.parameters, ctx.input_dtype = layer, len(parameters), inputs.dtype
    return output


def _hidden_gradient(
    ctx: Context, gradient: Float[Tensor, "batch sets outputs"]
) -> tuple[Tensor | None, ...]:
    active, operands, *saved = ctx.saved_tensors
    parameters, kept = saved[: ctx.parameters], saved[ctx.parameters :]
    of_inputs = fitting(*operands.transpose(0, 1).shape, dtype=ctx.input_dtype)
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
    return None, None, of_inputs.transpose(0, 1), *of_parameters


_apply = own_gradient(_hidden, _hidden_gradient)


def _statistics(
    norm: BatchNorm | None,
    mapped: Float[Tensor, "batch width"],
    bias: Float[Tensor, " width"],
    m: int,
) -> tuple[Float[Tensor, " width"], Float[Tensor, " width"]]:
    """Return the mean of what a unit mapped and the inverse of its deviation, or 0 and 1.

    The running mean is that with the bias.
    """
    if norm is None:
        width = mapped.shape[1]
        return torch.zeros(width), torch.ones(width)
    own, momentum = of_set(norm.mean, m), norm.momenta[m]
    mean, var = torch.batch_norm_update_stats(mapped, own, of_set(norm.var, m), momentum)
    own.add_(bias, alpha=momentum)
    return mean, (var + norm.eps).rsqrt()


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
    factors[0], factors[3], of_affine = layer.dropout_scale * rate, mean, []
    if scale is not None:
        sums = torch.zeros(2, len(mean), dtype=torch.float64)
        run_shares(_sum_slopes, *arrays, mean.numpy(), sums.numpy(), work=mapped.numel())
        total, along = (layer.dropout_scale * sums).float()
        of_affine = [along * rate, total]
        slope = scale * rate
        factors[0] *= scale
        factors[1] = -slope * rate.square() * along / len(mapped)
        factors[2] = -slope * total / len(mapped)
    of_mapped = fitting(*mapped.shape, dtype=mapped.dtype)
    work = mapped.numel()
    run_shares(_deactivate_rows, *arrays, factors.numpy(), bits(of_mapped), work=work)
    return of_mapped, of_affine


@compiled
@no_type_check
def _draw(seed, first, levels):
    """Fill with random 64 bits: numbers `first`, `first + 1`, … of a stream of SplitMix64."""
    for j in range(len(levels)):
        levels[j] = mix64(seed + (np.uint64(first + j) + np.uint64(1)) * GOLDEN)


@compiled
@no_type_check
def _activate_rows(share, shares, mapped, scale, shift, random, active):
    """Write `relu(scale * mapped + shift)`, with units dropped whose random 16 bits are low.

    `random` is a seed, how many rows came before, and how many of the 65536 levels are low. The
    bits of a unit depend on its place alone.
    """
    seed, before, low = random
    rows, width = mapped.shape
    wide = np.empty(width, dtype=np.uint32)
    numbers = wide.view(np.float32)
    drawn = np.empty((width + 3) // 4, dtype=np.uint64)
    levels = drawn.view(np.uint16)
    for row in range(share * rows // shares, (share + 1) * rows // shares):
        if low > 0:
            _draw(seed, (before + row) * len(drawn), drawn)
        widen(mapped[row], wide)
        for j in range(width):
            number = numbers[j] * scale[j] + shift[j]
            kept = (low == 0 or levels[j] >= low) and not number <= 0
            numbers[j] = number if kept else np.float32(0)
        narrow(wide, active[row])


@compiled
@no_type_check
def _read_active(gradient, active, wide_bits):
    """Widen a row of gradients, with zeros for units that are not active."""
    widen(gradient, wide_bits)
    for j in range(len(wide_bits)):
        if active[j] == 0:
            wide_bits[j] = 0


@compiled
@no_type_check
def _read_centred(mapped, mean, wide_bits, numbers):
    """Widen a row of what was mapped, and take it from its mean; both views are of one row."""
    widen(mapped, wide_bits)
    for j in range(len(numbers)):
        numbers[j] -= mean[j]


# Loops of few arrays each: numba makes vector loops only where it can tell that none overlap.
@compiled
@no_type_check
def _sum_slopes(share, shares, gradient, active, mapped, mean, sums):
    """Sum over rows, unit by unit: what comes back through active units, and that times `mapped`.

    `mapped` is taken from its mean. Shares are of units: the order of a sum is always the same.
    """
    rows, width = mapped.shape
    start, end = share * width // shares, (share + 1) * width // shares
    slope_bits = np.empty(end - start, dtype=np.uint32)
    centred_bits = np.empty(end - start, dtype=np.uint32)
    slope, centred = slope_bits.view(np.float32), centred_bits.view(np.float32)
    total = np.empty(end - start, dtype=np.float32)
    along = np.empty(end - start, dtype=np.float32)
    for block in range(0, rows, _BLOCK):
        total[:] = 0
        along[:] = 0
        for row in range(block, min(block + _BLOCK, rows)):
            _read_active(gradient[row, start:end], active[row, start:end], slope_bits)
            _read_centred(mapped[row, start:end], mean[start:end], centred_bits, centred)
            for j in range(end - start):
                total[j] += slope[j]
                along[j] += slope[j] * centred[j]
        sums[0, start:end] += total
        sums[1, start:end] += along


@compiled
@no_type_check
def _deactivate_rows(share, shares, gradient, active, mapped, factors, of_mapped):
    """Write the gradient of `mapped`.

    It is `a * gradient`, where the unit is active, plus `b * (mapped - mean) + c`.
    """
    rows, width = mapped.shape
    a, b, c, mean = factors[0], factors[1], factors[2], factors[3]
    slope_bits = np.empty(width, dtype=np.uint32)
    centred_bits = np.empty(width, dtype=np.uint32)
    slope, centred = slope_bits.view(np.float32), centred_bits.view(np.float32)
    for row in range(share * rows // shares, (share + 1) * rows // shares):
        _read_active(gradient[row], active[row], slope_bits)
        _read_centred(mapped[row], mean, centred_bits, centred)
        for j in range(width):
            centred[j] = b[j] * centred[j] + c[j]
        for j in range(width):
            slope[j] = a[j] * slope[j] + centred[j]
        narrow(slope_bits, of_mapped[row])
