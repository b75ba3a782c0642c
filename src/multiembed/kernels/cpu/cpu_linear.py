"""What loops over layers on a CPU share: products, gradients of sets, bfloat16 as bits.

A bfloat16 number is the upper half of a float32 one: widening is a shift, and narrowing one with
rounding to the nearest, ties to even. Compiled functions carry no annotations: numba sees the
types of each call, and all that depends on the width of a number is settled then.
"""

# ruff: noqa: ANN001, ANN201

from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float, UInt
from torch import Tensor

from multiembed.base.loops import compiled
from multiembed.kernels import route
from multiembed.kernels.cpu.cpu_memory import fitting
from multiembed.kernels.operations import join_sets, linear
from multiembed.kernels.own_gradient import Context, own_gradient

MANY_ROWS = 1 << 14


def onednn_linear(
    inputs: Float[Tensor, "rows inputs"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"] | None,
) -> Float[Tensor, "rows outputs"]:
    """Return `F.linear(inputs, weight, bias)` in float32; its gradients come from oneDNN, too."""
    return _apply(inputs, weight, bias)


def linear_set_by_set(
    inputs: Float[Tensor, "batch sets inputs"],
    weight: Float[Tensor, "sets outputs inputs"],
    bias: Float[Tensor, "sets outputs"] | None,
) -> Float[Tensor, "batch sets outputs"]:
    """Map every set by its own weights, one after the other.

    A set's activations stay in cache: measured about 5% faster than one batched product.
    """
    # One unbinding has one gradient of the whole; every `inputs[:, m]` would have one, too.
    biases = [None] * len(weight) if bias is None else list(bias.unbind(0))
    by_set = zip(inputs.unbind(1), weight.unbind(0), biases, strict=True)
    return join_sets([linear(rows, w, b) for rows, w, b in by_set])


def _onednn_linear(
    ctx: Context, inputs: Tensor, weight: Tensor, bias: Tensor | None
) -> Float[Tensor, "rows outputs"]:
    ctx.save_for_backward(inputs, weight)
    return _onednn(inputs, weight, bias)


def _onednn_linear_gradient(
    ctx: Context, gradient: Float[Tensor, "rows outputs"]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    inputs, weight = ctx.saved_tensors
    of_inputs, of_weight, of_bias = ctx.needs_input_grad
    return (
        _onednn(gradient, weight.mT) if of_inputs else None,
        sum_of_outer(gradient, inputs) if of_weight else None,
        gradient.sum(dim=0) if of_bias else None,
    )


_apply = own_gradient(_onednn_linear, _onednn_linear_gradient)


def product(
    inputs: Float[Tensor, "rows inputs"],
    weight: Float[Tensor, "outputs inputs"],
    *,
    out: Float[Tensor, "rows outputs"] | None = None,
) -> Float[Tensor, "rows outputs"]:
    """Return `F.linear` on a CPU by the fastest library, for code that knows its own gradients.

    `out` receives the result, whatever its precision.
    """
    if inputs.dtype == torch.float32 and route.onednn_is_faster():
        mapped = _onednn(inputs, weight)
    elif out is not None and out.dtype == inputs.dtype:
        return torch.mm(inputs, weight.mT, out=out)
    else:
        mapped = fitting(len(inputs), len(weight), dtype=inputs.dtype)
        torch.mm(inputs, weight.mT, out=mapped)
    return mapped if out is None else out.copy_(mapped)


def sum_of_outer(
    gradient: Float[Tensor, "rows outputs"],
    inputs: Float[Tensor, "rows inputs"],
) -> Float[Tensor, "outputs inputs"]:
    """Return the gradient of a map's weight from those of its outputs, and its inputs."""
    # oneDNN copies its transposed operand, which over many rows costs more than it gains; MKL
    # wants the narrower operand first (79872 x 10 by 79872 x 256: 12 ms; 154 the other way).
    if len(inputs) > MANY_ROWS:
        return (inputs.mT @ gradient).mT
    return product(gradient.mT, inputs.mT)


def _onednn(
    inputs: Float[Tensor, "rows inputs"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"] | None = None,
) -> Float[Tensor, "rows outputs"]:
    # The operator that torch's own compiler puts in the place of `F.linear`. Of a weight with gaps
    # between its rows oneDNN knows nothing but a reference loop, hundreds of times slower.
    if not (weight.is_contiguous() or weight.mT.is_contiguous()):
        weight = weight.contiguous()
    return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")


def of_set(parameter: Tensor, m: int) -> Tensor:
    """Return what set `m` uses of a parameter: its own part, or the one that all sets share."""
    return parameter.detach()[m if len(parameter) > 1 else 0]


def fold(whole: Tensor, m: int, part: Tensor) -> None:
    """Fold a gradient that set `m` has into those of parameters, which are uninitialised at first.

    Args:
        whole: Gradients of the parameters of all sets, or of those that all sets share; written
            for set 0 before any other.
        m: Number of the set.
        part: Its gradient.
    """
    if m == 0 or len(whole) > 1:
        whole[m] = part
    else:
        whole[0] += part


def bits(tensor: Float[Tensor, "*shape"]) -> UInt[np.ndarray, "*shape"]:
    """View a tensor's numbers as bits, row after row in memory; a copy if they lie otherwise."""
    width = torch.uint16 if tensor.dtype == torch.bfloat16 else torch.uint32
    return tensor.detach().contiguous().view(width).numpy()


@compiled
@no_type_check
def widen(narrow_bits, wide_bits):
    """Write numbers of either width as bits of float32."""
    shift = np.uint32(32 - 8 * narrow_bits.itemsize)
    for j in range(len(wide_bits)):
        wide_bits[j] = np.uint32(narrow_bits[j]) << shift


@compiled
@no_type_check
def narrow(wide_bits, narrow_bits):
    """Round bits of float32 to the width of the result."""
    shift = np.uint32(32 - 8 * narrow_bits.itemsize)
    half = np.uint32(0x7FFF if shift else 0)
    last = np.uint32(1 if shift else 0)
    # What is no number stays none: a CPU's own have zeros where rounding could carry from.
    for j in range(len(narrow_bits)):
        number = wide_bits[j]
        narrow_bits[j] = (number + half + ((number >> shift) & last)) >> shift
