"""Cross layers of DCN V2 in training on a GPU, in bfloat16, forwards and backwards for all sets.

Products are batched over the sets; what is done number by number takes one pass over memory for
each layer. Nothing waits for the GPU, so that a CUDA graph may hold it all. Where all sets share
their parameters, they are one set with the rows of all.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from multiembed.models.by_hand import derive_again, product_in
from multiembed.models.gpu_cross_kernels import (
    chunks,
    cross_rows,
    pad_rows,
    padded,
    padded_rows,
    sum_of_start,
    uncross_rows,
)


def cross_on_gpu(
    plain: Callable[..., Tensor],
    x0: Float[Tensor, "batch sets width"],
    matrices: Sequence[Float[Tensor, "parameter_sets width width"]],
    biases: Sequence[Float[Tensor, "parameter_sets width"]],
) -> Float[Tensor, "batch sets width"]:
    """Repeat `x <- x0 * (W x + b) + x` from `x = x0`; the result is in bfloat16.

    Its rows are cut from padded ones, as the next product wants them.

    Args:
        plain: Computes the same from x0, matrices and biases by torch's own operators.
        x0: In float32 or bfloat16.
        matrices: One for each layer; at least one.
        biases: One for each layer.
    """
    return _GpuCross.apply(plain, x0, *matrices, *biases)


class _GpuCross(Function):
    """Keeps what every layer read and `W x`, of all sets."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        plain: Callable[..., Tensor],
        x0: Tensor,
        *parameters: Tensor,
    ) -> Float[Tensor, "batch sets width"]:
        batch, sets, width = x0.shape
        weights, biases = _padded(parameters)
        layers, own, padding, _ = weights.shape
        read = weights.new_empty(layers, own, sets * batch // own, padding)
        mapped, output = torch.empty_like(read), torch.empty_like(read[0])
        pad_rows(x0, read[0])
        for layer, crossed in enumerate([*read[1:], output]):
            torch.bmm(read[layer], weights[layer].mT, out=mapped[layer])
            cross_rows(read[0], read[layer], mapped[layer], biases[layer], crossed)
        ctx.save_for_backward(x0, *parameters, weights, biases, read, mapped)
        ctx.plain = plain
        return output.view(sets, batch, padding)[..., :width].transpose(0, 1)

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,  # noqa: ANN401
        *gradients: Float[Tensor, "batch sets width"],
    ) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x0, *parameters, weights, biases, read, mapped = ctx.saved_tensors
        if torch.is_grad_enabled():
            plain = partial(_in_precision_of_parameters, ctx.plain)
            needed = ctx.needs_input_grad[1:]
            return None, *derive_again(plain, [x0, *parameters], needed, gradient)
        layers, own, rows, _ = read.shape
        width = x0.shape[2]
        last = padded_rows(gradient, torch.bfloat16).view_as(read[0])
        others = torch.empty_like(read[1:])
        slopes = [*others, last]  # gradients of what the layers gave
        of_mapped, added = torch.empty_like(last), torch.empty_like(last)
        sums = biases.new_empty(layers, chunks(rows), own, read.shape[3])
        of_weights = []
        for layer in reversed(range(layers)):
            after = slopes[min(layer + 1, layers - 1)]
            further = (added, slopes[layer]) if layer < layers - 1 else None
            uncross_rows(after, further, read[0], of_mapped, sums[layer], width)
            of_weight = product_in(torch.float32, of_mapped.mT, read[layer])
            of_weights.insert(0, of_weight[:, :width, :width].contiguous())
            torch.bmm(of_mapped, weights[layer], out=added)
        of_x0 = x0.new_empty(x0.shape[1], x0.shape[0], width)
        sum_of_start((last, others), added, mapped, biases, of_x0)
        of_biases = sums.sum(dim=1)[..., :width].contiguous()
        return None, of_x0.transpose(0, 1), *of_weights, *of_biases


def _in_precision_of_parameters(
    plain: Callable[..., Tensor], x0: Tensor, *parameters: Tensor
) -> Tensor:
    return plain(x0.to(parameters[0].dtype), *parameters)


def _padded(
    parameters: tuple[Tensor, ...],
) -> tuple[Float[Tensor, "layers own padded padded"], Float[Tensor, "layers own padded"]]:
    """Return weights as products read them, and biases, with zeros around them."""
    layers = len(parameters) // 2
    own, width = parameters[-1].shape
    shape = layers, own, padded(width), padded(width)
    weights = parameters[0].new_zeros(shape, dtype=torch.bfloat16)
    for layer in range(layers):
        weights[layer, :, :width, :width] = parameters[layer]
    return weights, F.pad(torch.stack(parameters[layers:]), (0, padded(width) - width))
