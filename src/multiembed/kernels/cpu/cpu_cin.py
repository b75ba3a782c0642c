"""The compressed interaction network of xDeepFM in training on a CPU, a few rows at a time.

A layer multiplies every field by every map of the layer before: for a batch, hundreds of times the
numbers that the tables gave. Those of a few rows stay in cache and are not kept; backwards they
are multiplied again.

Arrays of compiled loops end in numbers: those of the first row's embedding, then of the next. Pairs
are of a field and a map; in the first layer, where both are fields, of fields i <= j. Loops carry
no annotations: Numba sees the types of each call.
"""

# ruff: noqa: ANN001, ANN202

from collections.abc import Sequence
from typing import NamedTuple, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from multiembed.base.loops import compiled, run_shares
from multiembed.kernels.cpu.cpu_linear import bits, narrow, of_set, product, widen
from multiembed.kernels.cpu.cpu_memory import fitting
from multiembed.kernels.operations import LayerBiases, LayerWeights
from multiembed.kernels.own_gradient import Context, own_gradient
from multiembed.kernels.route import product_dtype

CACHED = 1 << 19
"""Numbers that all pairs of a few rows may have."""


def cin_on_cpu(
    x0: Float[Tensor, "batch sets fields dim"], weights: LayerWeights, biases: LayerBiases
) -> Float[Tensor, "batch sets width"]:
    """Do what `operations.compressed_interaction` does."""
    return _apply(x0, product_dtype("cpu"), *weights, *biases)


def _cin(
    ctx: Context, x0: Tensor, dtype: torch.dtype, *parameters: Tensor
) -> Float[Tensor, "batch sets width"]:
    """Keeps what it was given, and every layer's maps."""
    batch, sets, fields, dim = x0.shape
    width = sum(bias.shape[1] for bias in parameters[len(parameters) // 2 :])
    pooled, kept = fitting(sets, batch, width), fitting(sets, width, batch * dim)
    for m in range(sets):
        layers = _layers_of(parameters, fields, m, dtype)
        for few in _few(layers, batch, dim):
            maps = _forwards(_columns(x0.detach()[few, m]), layers)
            pooled[m, few] = maps.unflatten(1, (-1, dim)).sum(dim=2).mT
            kept[m, :, few.start * dim : few.stop * dim] = maps
    ctx.save_for_backward(x0, kept, *parameters)
    ctx.dtype = dtype
    return pooled.transpose(0, 1)


def _cin_gradient(
    ctx: Context, gradient: Float[Tensor, "batch sets width"]
) -> tuple[Tensor | None, ...]:
    x0, kept, *parameters = ctx.saved_tensors
    batch, sets, fields, dim = x0.shape
    of_x0 = fitting(sets, batch, fields, dim)
    of_parameters = [torch.zeros_like(parameter) for parameter in parameters]
    for m in range(sets):
        layers = _layers_of(parameters, fields, m, ctx.dtype)
        slopes = [_Layer(*(torch.zeros(part.shape) for part in layer)) for layer in layers]
        for few in _few(layers, batch, dim):
            maps = kept[m, :, few.start * dim : few.stop * dim]
            of_maps = gradient[few, m].mT.float().repeat_interleave(dim, dim=1)
            of_start = _backwards(_columns(x0[few, m]), layers, maps, of_maps, slopes)
            of_x0[m, few] = of_start.unflatten(1, (-1, dim)).transpose(0, 1)
        _add_slopes(of_parameters, fields, m, slopes)
    return of_x0.transpose(0, 1), None, *of_parameters


_apply = own_gradient(_cin, _cin_gradient)


class _Layer(NamedTuple):
    """One set's weights of all pairs, in the first layer of fields i <= j alone, and biases."""

    weight: Float[Tensor, "maps pairs"]
    bias: Float[Tensor, " maps"]


def _layers_of(
    parameters: Sequence[Tensor], fields: int, m: int, dtype: torch.dtype
) -> list[_Layer]:
    half, layers = len(parameters) // 2, []
    for k, (weights, biases) in enumerate(zip(parameters[:half], parameters[half:], strict=True)):
        weight = of_set(weights, m)
        if k == 0:  # both factors are the fields
            square = weight.unflatten(1, (fields, fields))
            i, j = torch.triu_indices(fields, fields)
            weight = (square + square.mT.triu(1))[:, i, j]
        layers.append(_Layer(weight.to(dtype), of_set(biases, m)))
    return layers


def _add_slopes(
    of_parameters: Sequence[Tensor], fields: int, m: int, slopes: Sequence[_Layer]
) -> None:
    """Add the gradients of one set's layers to those of the parameters they were made of."""
    for k, (of_weight, of_bias) in enumerate(slopes):
        whole_weight, whole_bias = (of_set(of_parameters[n], m) for n in (k, len(slopes) + k))
        whole_bias += of_bias
        if k == 0:
            square = of_weight.new_zeros(len(of_weight), fields, fields)
            i, j = torch.triu_indices(fields, fields)
            square[:, i, j] = of_weight
            of_weight = (square + square.triu(1).mT).flatten(1)
        whole_weight += of_weight


def _few(layers: Sequence[_Layer], batch: int, dim: int) -> list[slice]:
    """Cut a batch into pieces whose pairs stay in cache."""
    size = max(1, CACHED // (dim * max(layer.weight.shape[1] for layer in layers)))
    return [slice(start, min(start + size, batch)) for start in range(0, batch, size)]


def _columns(x0: Float[Tensor, "few fields dim"]) -> Float[Tensor, "fields numbers"]:
    """Lay the numbers of a few rows side by side: loops run along them."""
    return x0.transpose(0, 1).flatten(1)


def _pairs(
    start: Float[Tensor, "fields numbers"], x: Float[Tensor, "inputs numbers"], layer: _Layer
) -> Float[Tensor, "pairs numbers"]:
    pairs = fitting(layer.weight.shape[1], start.shape[1], dtype=layer.weight.dtype)
    arrays = start.numpy(), x.numpy(), bits(pairs)
    run_shares(_multiply_pairs, x is start, *arrays, work=pairs.numel())
    return pairs


def _forwards(
    start: Float[Tensor, "fields numbers"], layers: Sequence[_Layer]
) -> Float[Tensor, "width numbers"]:
    """Return the maps of all layers, of a few rows."""
    maps, x = [], start
    for layer in layers:
        mapped = product(layer.weight, _pairs(start, x, layer).mT)
        x = (mapped.float() + layer.bias.unsqueeze(1)).relu_()
        maps.append(x)
    return torch.cat(maps)


def _backwards(
    start: Float[Tensor, "fields numbers"],
    layers: Sequence[_Layer],
    maps: Float[Tensor, "width numbers"],
    of_maps: Float[Tensor, "width numbers"],
    slopes: Sequence[_Layer],
) -> Float[Tensor, "fields numbers"]:
    """Add to the gradients of one set's layers; return that of the fields."""
    sizes = [len(layer.bias) for layer in layers]
    outputs, of_outputs = maps.split(sizes), list(of_maps.split(sizes))
    of_start = torch.zeros_like(start)
    for k in reversed(range(len(layers))):
        x = outputs[k - 1].contiguous() if k else start
        of_x = torch.zeros_like(x) if k else of_start
        slope = torch.ops.aten.threshold_backward(of_outputs[k], outputs[k], 0)
        operand = slope.to(layers[k].weight.dtype)
        slopes[k].weight.add_(product(operand, _pairs(start, x, layers[k])))
        slopes[k].bias.add_(slope.sum(dim=1))
        of_pairs = product(layers[k].weight.mT, operand.mT)
        arrays = start.numpy(), x.numpy(), bits(of_pairs), of_start.numpy(), of_x.numpy()
        run_shares(_split_pairs, k == 0, *arrays, work=of_pairs.numel())
        if k:
            of_outputs[k - 1] = of_outputs[k - 1] + of_x
    return of_start


@compiled
@no_type_check
def _multiply_pairs(share, shares, first_layer, x0, x, pairs):
    """Write every field times every map, in the precision of products."""
    first, last = share * x0.shape[1] // shares, (share + 1) * x0.shape[1] // shares
    wide = np.empty(last - first, dtype=np.uint32)
    numbers = wide.view(np.float32)
    pair = 0
    for i in range(len(x0)):
        for j in range(i if first_layer else 0, len(x)):
            one, other = x0[i, first:last], x[j, first:last]
            for k in range(len(numbers)):
                numbers[k] = one[k] * other[k]
            narrow(wide, pairs[pair, first:last])
            pair += 1


@compiled
@no_type_check
def _split_pairs(share, shares, first_layer, x0, x, of_pairs, of_x0, of_x):
    """Add the gradient of the pairs to those of fields and maps, in the first layer the same."""
    first, last = share * x0.shape[1] // shares, (share + 1) * x0.shape[1] // shares
    wide = np.empty(last - first, dtype=np.uint32)
    numbers = wide.view(np.float32)
    pair = 0
    for i in range(len(x0)):
        for j in range(i if first_layer else 0, len(x)):
            widen(of_pairs[pair, first:last], wide)
            one, other = x0[i, first:last], x[j, first:last]
            of_one, of_other = of_x0[i, first:last], of_x[j, first:last]
            for k in range(len(numbers)):
                of_one[k] += numbers[k] * other[k]
            for k in range(len(numbers)):
                of_other[k] += numbers[k] * one[k]
            pair += 1
