"""Which form of an operation runs: one table, and nothing else asks for device or precision.

Every operation has a plain form in torch, which runs on any device, in any precision, and is what
is exported. Fast forms are named as `module:function` and loaded when one is first wanted, so that
Triton need not be there.
"""

import platform
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from multiembed.base.devices import has_triton
from multiembed.kernels.setting import chosen_kernels


class FastForm(NamedTuple):
    """A form of an operation that is faster than plain torch where it serves."""

    serves: Callable[[Tensor, Tensor, bool], bool]
    """Of inputs, weight and whether this is training: whether the form computes that."""
    function: str
    """`module:function`."""


def fast_form(
    operation: str, inputs: Tensor, weight: Tensor, *, training: bool
) -> Callable[..., Any] | None:
    """Return the fast form of an operation that serves here, or None: plain torch does.

    Args:
        operation: A name in `ROUTES`.
        inputs: What the operation is applied to.
        weight: Its parameter, or one of them; `inputs` again where it has none.
        training: Whether the module that asks is in training mode.
    """
    if chosen_kernels() == "torch":
        return None
    for form in ROUTES[operation]:
        if form.serves(inputs, weight, training):
            return _loaded(form.function)
    return None


def product_dtype(device: str) -> torch.dtype:
    """Return the precision of products on `cpu` or `cuda`: autocast's, or float32."""
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return torch.float32


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


@cache
def _loaded(function: str) -> Callable[..., Any]:
    module, _, name = function.partition(":")
    return getattr(import_module(module), name)


def _on_cpu(inputs: Tensor, weight: Tensor, training: bool) -> bool:
    return inputs.device.type == "cpu"


def _trains_on_cpu(inputs: Tensor, weight: Tensor, training: bool) -> bool:
    """Training on a CPU, in float32 or under autocast to bfloat16, with weights in float32."""
    if (
        not training
        or not torch.is_grad_enabled()
        or inputs.device.type != "cpu"
        or weight.dtype != torch.float32
        or torch.compiler.is_compiling()
    ):
        return False
    if torch.is_autocast_enabled("cpu"):
        return product_dtype("cpu") == torch.bfloat16
    return inputs.dtype == torch.float32


def _trains_float32_on_cpu(inputs: Tensor, weight: Tensor, training: bool) -> bool:
    """The same where what is read is in float32, whatever products are computed in."""
    return inputs.dtype == torch.float32 and _trains_on_cpu(inputs, weight, training)


def _trains_rows_on_cpu(inputs: Tensor, weight: Tensor, training: bool) -> bool:
    """The same for several rows: one is batch norm's to refuse."""
    return _trains_on_cpu(inputs, weight, training) and len(inputs) > 1


def _trains_on_gpu(inputs: Tensor, weight: Tensor, training: bool) -> bool:
    """Training on a GPU under autocast to bfloat16, where Triton can be used."""
    return (
        training
        and inputs.is_cuda
        and torch.is_grad_enabled()
        and inputs.dtype in {torch.float32, torch.bfloat16}
        and weight.dtype == torch.float32
        and product_dtype("cuda") == torch.bfloat16
        and not torch.compiler.is_compiling()
        and has_triton()
    )


def _trains_rows_on_gpu(inputs: Tensor, weight: Tensor, training: bool) -> bool:
    """The same for several rows."""
    return _trains_on_gpu(inputs, weight, training) and len(inputs) > 1


def _onednn_computes(inputs: Tensor, weight: Tensor, training: bool) -> bool:
    """Float32 on a CPU where oneDNN is faster; what is exported is torch's own."""
    return (
        inputs.device.type == "cpu"
        and inputs.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and onednn_is_faster()
    )


def _drops_on_cpu(inputs: Tensor, weight: Tensor, training: bool) -> bool:
    return training and inputs.device.type == "cpu"


def _float32_on_cpu(inputs: Tensor, weight: Tensor, training: bool) -> bool:
    return inputs.device.type == "cpu" and inputs.dtype == torch.float32


def _reads_float32_on_cpu(inputs: Tensor, weight: Tensor, training: bool) -> bool:
    """Float32 on a CPU; what is exported has the shapes of the plain form."""
    return _float32_on_cpu(inputs, weight, training) and not torch.compiler.is_compiling()


def _float32_on_gpu(inputs: Tensor, weight: Tensor, training: bool) -> bool:
    return inputs.is_cuda and inputs.dtype == torch.float32 and has_triton()


_CPU, _GPU = "multiembed.kernels.cpu", "multiembed.kernels.gpu"
ROUTES: dict[str, tuple[FastForm, ...]] = {
    "linear": (FastForm(_onednn_computes, f"{_CPU}.cpu_linear:onednn_linear"),),
    "set_linear": (FastForm(_on_cpu, f"{_CPU}.cpu_linear:linear_set_by_set"),),
    "dropout": (FastForm(_drops_on_cpu, f"{_CPU}.cpu_hidden:dropout_by_levels"),),
    "hidden_layer": (
        FastForm(_trains_rows_on_cpu, f"{_CPU}.cpu_hidden:hidden_layer_on_cpu"),
        FastForm(_trains_rows_on_gpu, f"{_GPU}.gpu_hidden:hidden_layer_on_gpu"),
    ),
    "cross": (
        FastForm(_trains_float32_on_cpu, f"{_CPU}.cpu_cross:cross_on_cpu"),
        FastForm(_trains_on_gpu, f"{_GPU}.gpu_cross:cross_on_gpu"),
    ),
    "compressed_interaction": (FastForm(_trains_float32_on_cpu, f"{_CPU}.cpu_cin:cin_on_cpu"),),
    "field_aware_products": (
        FastForm(_trains_float32_on_cpu, f"{_CPU}.cpu_field_pairs:field_aware_products_on_cpu"),
    ),
    "find_rows": (FastForm(_on_cpu, f"{_CPU}.cpu_rows:find_rows_on_cpu"),),
    "gather_rows": (FastForm(_float32_on_cpu, f"{_CPU}.cpu_rows:gather_rows_on_cpu"),),
    "histories": (FastForm(_reads_float32_on_cpu, f"{_CPU}.cpu_histories:RaggedHistories"),),
    "adam_rows": (
        FastForm(_float32_on_cpu, f"{_CPU}.cpu_adam:CompiledAdamRows"),
        FastForm(_float32_on_gpu, f"{_GPU}.gpu_adam:TritonAdamRows"),
    ),
}
"""Every operation's fast forms; the first that serves is taken."""
