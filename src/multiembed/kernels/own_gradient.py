"""Operations whose gradients are computed by code of our own."""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

Context: TypeAlias = Any
"""What an operation keeps for its gradient: `save_for_backward`, `saved_tensors`, attributes."""


def own_gradient(
    forward: Callable[..., Tensor], backward: Callable[..., Any]
) -> Callable[..., Tensor]:
    """Return an operation that torch differentiates once, by `backward`.

    Both run without a CPU's autocast: they choose the precision of their products themselves.

    Args:
        forward: Takes a context and the arguments of the operation.
        backward: Takes the context and the output's gradient; returns one for every argument.
    """

    @torch.autocast("cpu", enabled=False)
    def forwards(ctx: Context, *arguments: object) -> Tensor:
        return forward(ctx, *arguments)

    @once_differentiable
    @torch.autocast("cpu", enabled=False)
    def backwards(ctx: Context, *gradients: Tensor) -> object:
        return backward(ctx, *gradients)

    # Profilers and `grad_fn` name a node after its class.
    name = forward.__name__.title().replace("_", "")
    steps = {"forward": staticmethod(forwards), "backward": staticmethod(backwards)}
    return type(Function)(name, (Function,), steps).apply  # pyright: ignore
