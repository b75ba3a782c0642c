"""The compressed interaction network of xDeepFM; in training on a CPU, a few rows at a time.

A layer multiplies every field by every map of the layer before: for a batch, hundreds of times the
numbers that the tables gave. Those of a few rows stay in cache and are not kept; backwards they
are multiplied again.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from multiembed.base.loops import run_shares
from multiembed.base.memory import fitting
from multiembed.kernels.by_hand import derive_again, of_set, product_dtype
from multiembed.kernels.cpu.bfloat16 import bits
from multiembed.kernels.cpu.cin_loops import multiply_pairs, split_pairs
from multiembed.kernels.cpu.cpu_linear import product
from multiembed.models.layers import set_linear

Weights = Sequence[Float[Tensor, "parameter_sets _ _"]]
Biases = Sequence[Float[Tensor, "parameter_sets _"]]
CACHED = 1 << 19
"""Numbers that all pairs of a few rows may have."""


def compressed_interaction(
    x0: Float[Tensor, "batch sets fields dim"], weights: Weights, biases: Biases, *, training: bool
) -> Float[Tensor, "batch sets width"]:
    """Return the maps of all layers, each summed over its `dim` numbers.

    Map h of a layer is `relu(sum_ij W[h, i, j] * (x0_i * x_j) + b[h])`, number by number, where x
    are the maps of the layer before, at first the fields (Lian et al., equation 6).
    """
    dtype = product_dtype(x0, weights[0], training=training)
    if dtype is None or x0.dtype != torch.float32:
        return _plain(x0, *weights, *biases)
    return _Cin.apply(x0, dtype, *weights, *biases)


def _plain(
    x0: Float[Tensor, "batch sets fields dim"], *parameters: Float[Tensor, "parameter_sets ..."]
) -> Float[Tensor, "batch sets width"]:
    layers = len(parameters) // 2
    batch, _, fields, dim = x0.shape
    # A layer works on each of the dim numbers alone, so they are rows to it.
    start = x = x0.permute(0, 3, 1, 2).flatten(0, 1)  # (batch * dim, sets, fields)
    pooled = []
    for weight, bias in zip(parameters[:layers], parameters[layers:], strict=True):
        # Mixing x first and multiplying by x0 then leaves the products of all pairs unwritten.
        mixing = weight.view(len(weight), -1, x.shape[2])  # (sets, maps * fields, inputs)
        mixed = set_linear(x, mixing).unflatten(2, (-1, fields))
        x = F.relu((mixed @ start.unsqueeze(3)).squeeze(3) + bias)
        pooled.append(x.unflatten(0, (batch, dim)).sum(dim=1))
    return torch.cat(pooled, dim=2)


class _Cin(Function):
    """Keeps what it was given, and every layer's maps."""

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def forward(
        ctx: Any,  # noqa: ANN401
        x0: Tensor,
        dtype: torch.dtype,
        *parameters: Tensor,
    ) -> Float[Tensor, "batch sets width"]:
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

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,  # noqa: ANN401
        *gradients: Float[Tensor, "batch sets width"],
    ) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x0, kept, *parameters = ctx.saved_tensors
        if torch.is_grad_enabled():
            of_x0, _, *needed = ctx.needs_input_grad
            found = derive_again(_plain, [x0, *parameters], [of_x0, *needed], gradient)
            return found[0], None, *found[1:]
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
    run_shares(multiply_pairs, x is start, *arrays, work=pairs.numel())
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
        run_shares(split_pairs, k == 0, *arrays, work=of_pairs.numel())
        if k:
            of_outputs[k - 1] = of_outputs[k - 1] + of_x
    return of_start
