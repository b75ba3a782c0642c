"""Cross layers of DCN V2 in training on a CPU, forwards and backwards set by set.

What is done number by number takes one pass over memory for each layer, the gradients of x0 are
summed in place, and only what products gave, under autocast in bfloat16, is kept. Compiled loops
take arrays `(rows, width)` of float32 or of `bits`; they carry no annotations: Numba sees the types
of each call.
"""

# ruff: noqa: ANN001, ANN202

from collections.abc import Iterator, Sequence
from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from multiembed.base.loops import compiled, run_shares
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
from multiembed.kernels.operations import LayerBiases, LayerWeights
from multiembed.kernels.own_gradient import Context, own_gradient
from multiembed.kernels.route import product_dtype


def cross_on_cpu(
    x0: Float[Tensor, "batch sets width"], weights: LayerWeights, biases: LayerBiases
) -> Float[Tensor, "batch sets width"]:
    """Do what `operations.cross` does; the result is in the precision of products."""
    return _apply(x0, product_dtype("cpu"), *weights, *biases)


def _cross(
    ctx: Context, x0: Tensor, dtype: torch.dtype, *parameters: Tensor
) -> Float[Tensor, "batch sets width"]:
    """Keeps `W x` of every set and layer, in the precision of the products.

    What layers read and weights in that precision are computed again set by set: cheaper than the
    memory that all sets would take at once.
    """
    output = fitting(*x0.transpose(0, 1).shape, dtype=dtype)
    kept = []
    for m, start in enumerate(x0.detach().unbind(1)):
        weights, biases = _of_set(parameters, m, dtype)
        kept += _forwards(start.contiguous(), weights, biases, output[m])
    ctx.save_for_backward(x0, *parameters, *kept)
    return output.transpose(0, 1)


def _cross_gradient(
    ctx: Context, gradient: Float[Tensor, "batch sets width"]
) -> tuple[Tensor | None, ...]:
    x0, *saved = ctx.saved_tensors
    of_x0, _, *needed = ctx.needs_input_grad
    parameters, kept = saved[: len(needed)], saved[len(needed) :]
    layers = len(parameters) // 2
    of_x0 = fitting(*x0.transpose(0, 1).shape)
    of_parameters = [fitting(*parameter.shape) for parameter in parameters]
    for m, start in enumerate(x0.detach().unbind(1)):
        mapped = kept[layers * m : layers * (m + 1)]
        own = _of_set(parameters, m, mapped[0].dtype)
        slopes = _backwards(gradient[:, m], start.contiguous(), mapped, *own, of_x0[m])
        for layer, (of_weight, of_bias) in zip(reversed(range(layers)), slopes, strict=True):
            fold(of_parameters[layer], m, of_weight)
            fold(of_parameters[layers + layer], m, of_bias)
    return of_x0.transpose(0, 1), None, *of_parameters


_apply = own_gradient(_cross, _cross_gradient)


def _of_set(
    parameters: Sequence[Tensor], m: int, dtype: torch.dtype
) -> tuple[list[Float[Tensor, "width width"]], Float[Tensor, "layers width"]]:
    """Return what set `m` uses: the weights as products read them, and the biases."""
    own = [of_set(parameter, m) for parameter in parameters]
    layers = len(own) // 2
    return [weight.to(dtype) for weight in own[:layers]], torch.stack(own[layers:])


def _forwards(
    start: Float[Tensor, "batch width"],
    weights: Sequence[Float[Tensor, "width width"]],
    biases: Float[Tensor, "layers width"],
    output: Float[Tensor, "batch width"],
) -> list[Float[Tensor, "batch width"]]:
    """Fill `output` with one set's x after all layers; return what each layer mapped."""
    kept = []
    x, crossed = start, fitting(*start.shape)
    operand = start.to(output.dtype)
    for weight, bias in zip(weights, biases, strict=True):
        mapped = product(operand, weight, out=fitting(*output.shape, dtype=output.dtype))
        kept.append(mapped)
        operand = output  # which the next layer reads before it is written again
        run_shares(
            _cross_rows,
            start.numpy(),
            x.numpy(),
            bits(mapped),
            bias.numpy(),
            crossed.numpy(),
            bits(operand),
            work=start.numel(),
        )
        x = crossed
    return kept


def _backwards(
    gradient: Float[Tensor, "batch width"],
    start: Float[Tensor, "batch width"],
    kept: Sequence[Float[Tensor, "batch width"]],
    weights: Sequence[Float[Tensor, "width width"]],
    biases: Float[Tensor, "layers width"],
    of_start: Float[Tensor, "batch width"],
) -> Iterator[tuple[Float[Tensor, "width width"], Float[Tensor, " width"]]]:
    """Fill the gradient of one set's x0; yield those of weight and bias, from the last layer."""
    layers, dtype = len(kept), kept[0].dtype
    operands = fitting(layers, *start.shape, dtype=dtype)
    run_shares(
        _recross_rows,
        start.numpy(),
        tuple(bits(mapped) for mapped in kept),
        biases.numpy(),
        bits(operands),
        work=operands.numel(),
    )
    slope = fitting(*start.shape)
    added, of_mapped = gradient, fitting(*start.shape, dtype=dtype)
    for layer in reversed(range(layers)):
        run_shares(
            _uncross_rows,
            layer == layers - 1,
            start.numpy(),
            bits(kept[layer]),
            biases[layer].numpy(),
            (slope.numpy(), bits(added)),
            (of_start.numpy(), bits(of_mapped)),
            work=start.numel(),
        )
        yield sum_of_outer(of_mapped, operands[layer]), of_mapped.sum(dim=0)
        added = product(of_mapped, weights[layer].mT)
    run_shares(_add_rows, slope.numpy(), bits(added), of_start.numpy(), work=start.numel())


@compiled
@no_type_check
def _cross_rows(share, shares, x0, x, mapped, bias, crossed, crossed_bits):
    """Write `x0 * (mapped + bias) + x` in float32, over x if wanted, and for products."""
    rows, width = x0.shape
    wide = np.empty(width, dtype=np.uint32)
    numbers = wide.view(np.float32)
    for row in range(share * rows // shares, (share + 1) * rows // shares):
        widen(mapped[row], wide)
        start, before, after = x0[row], x[row], crossed[row]
        for j in range(width):
            numbers[j] = start[j] * (numbers[j] + bias[j]) + before[j]
        for j in range(width):  # apart: `after` may be `before`, which no vector loop allows for
            after[j] = numbers[j]
        narrow(wide, crossed_bits[row])


@compiled
@no_type_check
def _recross_rows(share, shares, x0, mapped, biases, operands):
    """Write again what each layer read, from what each of them mapped, to the same bits."""
    layers, rows, width = operands.shape
    wide = np.empty(width, dtype=np.uint32)
    numbers = wide.view(np.float32)
    x_bits = np.empty(width, dtype=np.uint32)
    x = x_bits.view(np.float32)
    for row in range(share * rows // shares, (share + 1) * rows // shares):
        start = x0[row]
        x[:] = start
        narrow(x_bits, operands[0][row])
        for layer in range(1, layers):
            widen(mapped[layer - 1][row], wide)
            bias = biases[layer - 1]
            for j in range(width):
                x[j] = start[j] * (numbers[j] + bias[j]) + x[j]
            narrow(x_bits, operands[layer][row])


@compiled
@no_type_check
def _uncross_rows(share, shares, last, x0, mapped, bias, gradient, results):
    """Carry the gradient of a cross layer's output to what it was made of.

    `gradient` is that in two parts, `slope` and `added`: its way past the layers that follow, and
    that through the next one's map. Where the layer is the last, it is `added` alone. Their sum is
    left in `slope`.
    `results` are the gradients of x0, summed up over the layers, and of `mapped`.
    """
    slope, added = gradient
    of_x0, of_mapped = results
    rows, width = x0.shape
    wide = np.empty(width, dtype=np.uint32)
    numbers = wide.view(np.float32)
    whole = np.empty(width, dtype=np.float32)
    for row in range(share * rows // shares, (share + 1) * rows // shares):
        start, so_far, of_start = x0[row], slope[row], of_x0[row]
        widen(added[row], wide)
        if last:
            whole[:] = numbers
        else:
            for j in range(width):
                whole[j] = so_far[j] + numbers[j]
        widen(mapped[row], wide)
        if last:
            for j in range(width):
                of_start[j] = whole[j] * (numbers[j] + bias[j])
        else:
            for j in range(width):
                of_start[j] += whole[j] * (numbers[j] + bias[j])
        for j in range(width):
            so_far[j] = whole[j]
            numbers[j] = whole[j] * start[j]
        narrow(wide, of_mapped[row])


@compiled
@no_type_check
def _add_rows(share, shares, slope, added, sums):
    """Add both parts of a gradient to `sums`."""
    rows, width = slope.shape
    wide = np.empty(width, dtype=np.uint32)
    numbers = wide.view(np.float32)
    for row in range(share * rows // shares, (share + 1) * rows // shares):
        widen(added[row], wide)
        so_far, total = slope[row], sums[row]
        for j in range(width):
            total[j] += so_far[j] + numbers[j]
