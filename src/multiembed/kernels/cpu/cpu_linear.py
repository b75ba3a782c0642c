"""Linear maps by the library that computes float32 products fastest here."""

import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from multiembed.base.memory import fitting

MANY_ROWS = 1 << 14


def linear(
    inputs: Float[Tensor, "rows inputs"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"] | None = None,
) -> Float[Tensor, "rows outputs"]:
    """Return `F.linear(inputs, weight, bias)`, to float32 rounding.

    On an AMD CPU, oneDNN computes the product and those of its gradient. Everything else is
    torch's own choice, and so is what a model is exported to.
    """
    if _computes_in_float32(inputs, weight) and onednn_is_faster():
        return _OneDnnLinear.apply(inputs, weight, bias)
    return F.linear(inputs, weight, bias)


@cache
def onednn_is_faster() -> bool:
    """Say whether torch's float32 products go to MKL on a CPU where oneDNN outruns it.

    On an AMD EPYC (Zen 4), one thread, GFLOP/s of MKL and of oneDNN: 49 to 84 and 95 to 102 for
    2048 x 390 by 390 x 390, forward; 54 and 95 for its input's gradient; 60 to 67 and 98 for
    2048 x 3900 by 3900 x 3900. On Zen 5, two threads: 222 and 490. On Intel's CPUs MKL is at home.
    """
    return torch.backends.mkldnn.is_available() and "AuthenticAMD" in _cpu()


def _cpu() -> str:
    """Return text in which the CPU's vendor is named."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:  # no Linux
        return platform.processor()


def _computes_in_float32(inputs: Tensor, weight: Tensor) -> bool:
    return (
        inputs.device.type == "cpu"
        and inputs.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


class _OneDnnLinear(Function):
    """The gradient is made of `linear` again, so that it can be differentiated in turn."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
    ) -> Float[Tensor, "rows outputs"]:
        ctx.save_for_backward(inputs, weight)
        return _onednn(inputs, weight, bias)

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,  # noqa: ANN401
        *gradients: Float[Tensor, "rows outputs"],
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (gradient,) = gradients
        inputs, weight = ctx.saved_tensors
        map_rows = linear if torch.is_grad_enabled() else _onednn
        of_inputs, of_weight, of_bias = ctx.needs_input_grad
        return (
            map_rows(gradient, weight.mT) if of_inputs else None,
            sum_of_outer(gradient, inputs, map_rows) if of_weight else None,
            gradient.sum(dim=0) if of_bias else None,
        )


def product(
    inputs: Float[Tensor, "rows inputs"],
    weight: Float[Tensor, "outputs inputs"],
    *,
    out: Float[Tensor, "rows outputs"] | None = None,
) -> Float[Tensor, "rows outputs"]:
    """Return `F.linear` on a CPU by the fastest library, for code that knows its own gradients.

    `out` receives the result, whatever its precision.
    """
    if inputs.dtype == torch.float32 and onednn_is_faster():
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
    map_rows: Callable[[Tensor, Tensor], Tensor] = product,
) -> Float[Tensor, "outputs inputs"]:
    """Return the gradient of a map's weight from those of its outputs, and its inputs."""
    # oneDNN copies its transposed operand, which over many rows costs more than it gains; MKL
    # wants the narrower operand first (79872 x 10 by 79872 x 256: 12 ms; 154 the other way).
    if len(inputs) > MANY_ROWS:
        return (inputs.mT @ gradient).mT
    return map_rows(gradient.mT, inputs.mT)


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
