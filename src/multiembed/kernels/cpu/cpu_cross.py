"""Cross layers of DCN V2; in training on a CPU, forwards and backwards set by set.

What is done number by number takes one pass over memory for each layer, the gradients of x0 are
summed in place, and only what products gave, under autocast in bfloat16, is kept. On a GPU, in
bfloat16, `gpu_crossing` does all sets at once.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from multiembed.base.loops import run_shares
from multiembed.base.memory import fitting
from multiembed.kernels.by_hand import by_triton, derive_again, fold, of_set, product_dtype
from multiembed.kernels.cpu.bfloat16 import bits
from multiembed.kernels.cpu.cpu_linear import product, sum_of_outer
from multiembed.kernels.cpu.cross_loops import add_rows, cross_rows, recross_rows, uncross_rows
from multiembed.models.layers import set_linear

Matrices = Sequence[Float[Tensor, "parameter_sets width width"]]
Biases = Sequence[Float[Tensor, "parameter_sets width"]]


def cross(
    x0: Float[Tensor, "batch sets width"], matrices: Matrices, biases: Biases, *, training: bool
) -> Float[Tensor, "batch sets width"]:
    """Repeat `x <- x0 * (W x + b) + x` from `x = x0` (Wang et al., equation 1).

    In training under autocast to bfloat16 the result is in bfloat16, as the next product will read
    it: on a CPU, and on a GPU where Triton is installed.
    """
    if matrices and by_triton(x0, matrices[0], training=training):
        from multiembed.kernels.gpu.gpu_cross import cross_on_gpu  # needs Triton to be defined

        return cross_on_gpu(_plain, x0, matrices, biases)
    dtype = product_dtype(x0, matrices[0], training=training) if matrices else None
    if dtype is None or x0.dtype != torch.float32:
        return _plain(x0, *matrices, *biases)
    return _Cross.apply(x0, dtype, *matrices, *biases)


def _plain(
    x0: Float[Tensor, "batch sets width"], *parameters: Float[Tensor, "parameter_sets ..."]
) -> Float[Tensor, "batch sets width"]:
    layers = len(parameters) // 2
    x = x0
    for weight, bias in zip(parameters[:layers], parameters[layers:], strict=True):
        x = torch.addcmul(x, x0, set_linear(x, weight, bias))
    return x


class _Cross(Function):
    """Keeps `W x` of every set and layer, in the precision of the products.

    What layers read and weights in that precision are computed again set by set: cheaper than the
    memory that all sets would take at once.
    """

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def forward(
        ctx: Any,  # noqa: ANN401
        x0: Tensor,
        dtype: torch.dtype,
        *parameters: Tensor,
    ) -> Float[Tensor, "batch sets width"]:
        output = fitting(*x0.transpose(0, 1).shape, dtype=dtype)
        kept = []
        for m, start in enumerate(x0.detach().unbind(1)):
            weights, biases = _of_set(parameters, m, dtype)
            kept += _forwards(start.contiguous(), weights, biases, output[m])
        ctx.save_for_backward(x0, *parameters, *kept)
        return output.transpose(0, 1)

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,  # noqa: ANN401
        *gradients: Float[Tensor, "batch sets width"],
    ) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x0, *saved = ctx.saved_tensors
        of_x0, _, *needed = ctx.needs_input_grad
        parameters, kept = saved[: len(needed)], saved[len(needed) :]
        if torch.is_grad_enabled():
            found = derive_again(_plain, [x0, *parameters], [of_x0, *needed], gradient)
            return found[0], None, *found[1:]
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
            cross_rows,
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
        recross_rows,
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
            uncross_rows,
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
    run_shares(add_rows, slope.numpy(), bits(added), of_start.numpy(), work=start.numel())
