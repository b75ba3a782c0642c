"""Cross layers of DCN V2 in training on a GPU, in bfloat16, forwards and backwards for all sets.

Products are batched over the sets; what is done number by number takes one pass over memory for
each layer. Nothing waits for the GPU, so that a CUDA graph may hold it all. Where all sets share
their parameters, they are one set with the rows of all.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from multiembed.kernels.gpu.gpu_cross_kernels import (
    chunks,
    cross_rows,
    pad_rows,
    padded,
    padded_rows,
    sum_of_start,
    uncross_rows,
)
from multiembed.kernels.operations import LayerBiases, LayerWeights
from multiembed.kernels.own_gradient import Context, own_gradient


def cross_on_gpu(
    x0: Float[Tensor, "batch sets width"], weights: LayerWeights, biases: LayerBiases
) -> Float[Tensor, "batch sets width"]:
    """Do what `operations.cross` does; the result is in bfloat16.

    Its rows are cut from padded ones, as the next product wants them. Such rows of `x0` in
    bfloat16, with zeros in the padding, are read as they lie; so is its gradient cut in turn.
    """
    return _apply(x0, *weights, *biases)


def _gpu_cross(ctx: Context, x0: Tensor, *parameters: Tensor) -> Float[Tensor, "batch sets width"]:
    """Keeps what every layer read and `W x`, of all sets.

    What the first layer read is apart from the rest, because x0 may lie in memory as it should.
    """
    batch, sets, width = x0.shape
    weights, biases = _padded(parameters)
    layers, own, padding, _ = weights.shape
    start = padded_rows(x0, torch.bfloat16).view(own, -1, padding)
    mapped = weights.new_empty(layers, *start.shape)
    read, output = torch.empty_like(mapped[1:]), torch.empty_like(mapped[0])
    x = start
    for layer, crossed in enumerate([*read, output]):
        torch.bmm(x, weights[layer].mT, out=mapped[layer])
        cross_rows(start, x, mapped[layer], biases[layer], crossed)
        x = crossed
    ctx.save_for_backward(x0, weights, biases, start, read, mapped)
    return output.view(sets, batch, padding)[..., :width].transpose(0, 1)


def _gpu_cross_gradient(
    ctx: Context, gradient: Float[Tensor, "batch sets width"]
) -> tuple[Tensor | None, ...]:
    x0, weights, biases, start, read, mapped = ctx.saved_tensors
    layers, own, rows, padding = mapped.shape
    batch, sets, width = x0.shape
    last = padded_rows(gradient, torch.bfloat16).view_as(start)
    others = torch.empty_like(read)
    slopes = [*others, last]  # gradients of what the layers gave
    of_mapped, added = torch.empty_like(mapped), torch.empty_like(mapped[0])
    sums = biases.new_empty(layers, chunks(rows, own), own, padding)
    for layer in reversed(range(layers)):
        after = slopes[min(layer + 1, layers - 1)]
        further = (added, slopes[layer]) if layer < layers - 1 else None
        uncross_rows(after, further, start, of_mapped[layer], sums[layer], width)
        torch.bmm(of_mapped[layer], weights[layer], out=added)
    of_weights = _of_weights(of_mapped, start, read, width)
    of_biases = sums[..., :width].sum(dim=1)
    taken = padding if x0.dtype == torch.bfloat16 else width
    of_x0 = x0.new_empty(sets, batch, taken)
    sum_of_start((last, others), added, mapped, biases, of_x0, width)
    return of_x0[..., :width].transpose(0, 1), *of_weights, *of_biases


_apply = own_gradient(_gpu_cross, _gpu_cross_gradient)


def _of_weights(
    of_mapped: Float[Tensor, "layers own rows padded"],
    start: Float[Tensor, "own rows padded"],
    read: Float[Tensor, "others own rows padded"],
    width: int,
) -> Float[Tensor, "layers own width width"]:
    """Return the gradients of all layers' weights, from few products that fill the GPU."""
    pairs = [(of_mapped[0], start)]
    if len(read):
        pairs.append((of_mapped[1:].flatten(0, 1), read.flatten(0, 1)))
    products = [product_in(torch.float32, slopes.mT, rows) for slopes, rows in pairs]
    whole = torch.cat([product[:, :width, :width] for product in products])
    return whole.view(len(of_mapped), -1, width, width)


def product_in(dtype: torch.dtype, one: Tensor, other: Tensor) -> Tensor:
    """Return a batched product of bfloat16 matrices, rounded once, to `dtype`."""
    if one.dtype == dtype:
        return torch.bmm(one, other)
    if one.is_cuda:
        return torch.bmm(one, other, out_dtype=dtype)
    return torch.bmm(one.to(dtype), other.to(dtype))


def _padded(
    parameters: tuple[Tensor, ...],
) -> tuple[Float[Tensor, "layers own padded padded"], Float[Tensor, "layers own padded"]]:
    """Return weights as products read them, and biases, with zeros around them."""
    layers = len(parameters) // 2
    own, width = parameters[-1].shape
    padding = padded(width)
    weights = parameters[0].new_empty(layers, own, padding, padding, dtype=torch.bfloat16)
    pad_rows([weight.transpose(0, 1) for weight in parameters[:layers]], weights)
    biases = parameters[-1].new_empty(layers, 1, own, padding)
    pad_rows([bias[:, None] for bias in parameters[layers:]], biases)
    return weights, biases[:, 0]
