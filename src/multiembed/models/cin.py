"""The compressed interaction network of xDeepFM; in training on a CPU, a few rows at a time.

Before they are summed, a layer has `maps * fields` numbers for every number of an embedding: for a
batch, hundreds of times what the tables gave. Those of a few rows stay in cache. None is kept;
backwards they are computed again, which costs a third more products and less time.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from multiembed.allocator import fitting
from multiembed.compiling import run_shares
from multiembed.models.bits import bits
from multiembed.models.by_hand import derive_again, product_dtype
from multiembed.models.cin_kernels import join_maps, split_maps
from multiembed.models.layers import set_linear
from multiembed.models.products import product

Weights = Sequence[Float[Tensor, "parameter_sets _ _"]]
Biases = Sequence[Float[Tensor, "parameter_sets _"]]
CACHED = 1 << 19
"""Numbers that a layer of a few rows may have before they are summed."""


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
        mixed = set_linear(x, _mixing(weight, fields)).unflatten(2, (-1, fields))
        x = F.relu((mixed @ start.unsqueeze(3)).squeeze(3) + bias)
        pooled.append(x.unflatten(0, (batch, dim)).sum(dim=1))
    return torch.cat(pooled, dim=2)


def _mixing(
    weight: Float[Tensor, "parameter_sets maps pairs"], fields: int
) -> Float[Tensor, "parameter_sets mixed inputs"]:
    """View a layer's weight as the map of x to a number for every map and field."""
    return weight.reshape(len(weight), -1, weight.shape[2] // fields)


class _Cin(Function):
    """Keeps what it was given."""

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def forward(
        ctx: Any,  # noqa: ANN401
        x0: Tensor,
        dtype: torch.dtype,
        *parameters: Tensor,
    ) -> Float[Tensor, "batch sets width"]:
        ctx.save_for_backward(x0, *parameters)
        ctx.dtype = dtype
        batch, sets, fields, dim = x0.shape
        stack = [_layers_of(parameters, fields, m, dtype) for m in range(sets)]
        pooled = fitting(sets, batch, sum(len(layer.bias) for layer in stack[0]))
        for m, layers in enumerate(stack):
            for few in _few(layers, batch, dim):
                _forwards(_columns(x0.detach()[few, m]), layers, pooled[m, few])
        return pooled.transpose(0, 1)

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,  # noqa: ANN401
        *gradients: Float[Tensor, "batch sets width"],
    ) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x0, *parameters = ctx.saved_tensors
        if torch.is_grad_enabled():
            of_x0, _, *needed = ctx.needs_input_grad
            found = derive_again(_plain, [x0, *parameters], [of_x0, *needed], gradient)
            return found[0], None, *found[1:]
        batch, sets, fields, dim = x0.shape
        of_x0 = fitting(sets, batch, fields, dim)
        of_parameters = [torch.zeros_like(parameter) for parameter in parameters]
        gradient = gradient.float()
        for m in range(sets):
            layers = _layers_of(parameters, fields, m, ctx.dtype)
            slopes = _layers_of(of_parameters, fields, m, torch.float32)
            for few in _few(layers, batch, dim):
                of_start = _backwards(_columns(x0[few, m]), layers, gradient[few, m], slopes)
                of_x0[m, few] = of_start.unflatten(1, (-1, dim)).transpose(0, 1)
        return of_x0.transpose(0, 1), None, *of_parameters


class _Layer(NamedTuple):
    weight: Float[Tensor, "mixed inputs"]
    bias: Float[Tensor, " maps"]


def _layers_of(
    parameters: Sequence[Tensor], fields: int, m: int, dtype: torch.dtype
) -> list[_Layer]:
    """Return one set's layers: weights in the precision of products, biases in float32."""
    half = len(parameters) // 2
    layers = []
    for weight, bias in zip(parameters[:half], parameters[half:], strict=True):
        own = m if len(weight) > 1 else 0
        layers.append(_Layer(_mixing(weight.detach(), fields)[own].to(dtype), bias.detach()[own]))
    return layers


def _few(layers: Sequence[_Layer], batch: int, dim: int) -> list[slice]:
    """Cut a batch into pieces whose numbers stay in cache."""
    size = max(1, CACHED // (dim * max(len(layer.weight) for layer in layers)))
    return [slice(start, min(start + size, batch)) for start in range(0, batch, size)]


def _columns(x0: Float[Tensor, "few fields dim"]) -> Float[Tensor, "fields numbers"]:
    """Lay the numbers of a few rows side by side: loops run along them."""
    return x0.transpose(0, 1).flatten(1)


def _forwards(
    start: Float[Tensor, "fields numbers"],
    layers: Sequence[_Layer],
    pooled: Float[Tensor, "few width"],
) -> list[tuple[Float[Tensor, "inputs numbers"], Float[Tensor, "mixed numbers"]]]:
    """Fill `pooled` with a few rows' maps; return what each layer read and mixed, and the last x.

    The last x stands where a further layer would read it, and has nothing mixed.
    """
    kept, first = [], 0
    x = start.to(layers[0].weight.dtype)
    for weight, bias in layers:
        mixed = product(weight, x.mT)
        kept.append((x, mixed))
        x = fitting(len(bias), start.shape[1], dtype=weight.dtype)
        run_shares(
            join_maps,
            bits(mixed).reshape(len(bias), *start.shape),
            start.numpy(),
            bias.numpy(),
            pooled[:, first : first + len(bias)].numpy(),
            bits(x),
            work=mixed.numel(),
        )
        first += len(bias)
    return [*kept, (x, x[:0])]


def _backwards(
    start: Float[Tensor, "fields numbers"],
    layers: Sequence[_Layer],
    gradient: Float[Tensor, "few width"],
    slopes: Sequence[_Layer],
) -> Float[Tensor, "fields numbers"]:
    """Add to the gradients of one set's parameters; return that of x0."""
    kept = _forwards(start, layers, fitting(*gradient.shape))
    of_start, last = torch.zeros_like(start), gradient.shape[1]
    added = kept[-1][0]
    for k in reversed(range(len(layers))):
        (x, mixed), (after, _), maps = kept[k], kept[k + 1], len(layers[k].bias)
        of_maps = fitting(maps, start.shape[1])
        run_shares(
            split_maps,
            k == len(layers) - 1,
            bits(mixed).reshape(maps, *start.shape),
            start.numpy(),
            gradient[:, last - maps : last].numpy(),
            (bits(added), bits(after)),
            (of_maps.numpy(), of_start.numpy()),
            work=mixed.numel(),
        )
        last -= maps
        slopes[k].weight.add_(product(mixed, x))
        slopes[k].bias.add_(of_maps.sum(dim=1))
        added = product(layers[k].weight.mT, mixed.mT)
    return of_start.add_(added)
