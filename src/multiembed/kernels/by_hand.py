"""When gradients written by hand serve, and what they have in common."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from multiembed.base.devices import has_triton


def product_dtype(inputs: Tensor, weight: Tensor, *, training: bool) -> torch.dtype | None:
    """Return the precision of products in which gradients written by hand serve, or `None`.

    They serve training on a CPU, in float32 or under autocast to bfloat16; `by_triton` says where
    they serve on a GPU. Everything else is torch's own operators: evaluation, export and other
    precisions.
    """
    if (
        not training
        or not torch.is_grad_enabled()
        or inputs.device.type != "cpu"
        or weight.dtype != torch.float32
        or torch.compiler.is_compiling()
    ):
        return None
    if not torch.is_autocast_enabled("cpu"):
        return torch.float32 if inputs.dtype == torch.float32 else None
    autocast = torch.get_autocast_dtype("cpu")
    return autocast if autocast == torch.bfloat16 else None


def by_triton(inputs: Tensor, weight: Tensor, *, training: bool) -> bool:
    """Say whether gradients written by hand, with kernels in Triton, serve on a GPU.

    They serve training under autocast to bfloat16, where Triton can be used.
    """
    return (
        training
        and inputs.is_cuda
        and torch.is_grad_enabled()
        and inputs.dtype in {torch.float32, torch.bfloat16}
        and weight.dtype == torch.float32
        and torch.is_autocast_enabled("cuda")
        and torch.get_autocast_dtype("cuda") == torch.bfloat16
        and not torch.compiler.is_compiling()
        and has_triton()
    )


def product_in(dtype: torch.dtype, one: Tensor, other: Tensor) -> Tensor:
    """Return a batched product of bfloat16 matrices, rounded once, to `dtype`."""
    if one.dtype == dtype:
        return torch.bmm(one, other)
    if one.is_cuda:
        return torch.bmm(one, other, out_dtype=dtype)
    return torch.bmm(one.to(dtype), other.to(dtype))


def derive_again(
    plain: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    needed: Sequence[bool],
    gradient: Tensor,
) -> list[Tensor | None]:
    """Return gradients that can be differentiated in turn, by torch's own operators.

    Args:
        plain: Computes the output from `inputs`.
        inputs: As the function that is differentiated received them.
        needed: Which of them want a gradient.
        gradient: That of the output.
    """
    wanted = [tensor for tensor, need in zip(inputs, needed, strict=True) if need]
    output = plain(*inputs)
    found = iter(torch.autograd.grad(output, wanted, gradient.to(output.dtype), create_graph=True))
    return [next(found) if need else None for need in needed]


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
