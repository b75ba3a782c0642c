"""From the distinct rows of a batch to its embeddings, and back from their gradient."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from multiembed.base.loops import run_shares
from multiembed.base.memory import fitting
from multiembed.kernels.cpu.row_loops import copy_rows, sum_rows


def gather_embeddings(
    values: Float[Tensor, "touched columns"], index: Int[Tensor, "batch fields"], sets: int
) -> Float[Tensor, "batch sets fields dim"]:
    """Read embeddings from rows that hold all sets side by side; sets come first in memory.

    The gradient is summed in the order of the batch, whatever the number of threads.

    Args:
        values: Rows that gradients are wanted for.
        index: Position in `values` of every id. Two fields share no position.
        sets: Number of sets in a row.
    """
    if values.device.type == "cpu" and values.dtype == torch.float32:
        return _Gather.apply(values, index, sets)
    return gather_shared(values, index, sets)


def gather_shared(
    values: Float[Tensor, "touched columns"], index: Int[Tensor, "batch fields"], sets: int
) -> Float[Tensor, "batch sets fields dim"]:
    """Do the same where columns of ids may share positions, as those of a field's values do."""
    batch, fields = index.shape
    return F.embedding(index, values).view(batch, fields, sets, -1).transpose(1, 2)


class _Gather(Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        values: Tensor,
        index: Tensor,
        sets: int,
    ) -> Float[Tensor, "batch sets fields dim"]:
        dim = values.shape[1] // sets
        embeddings = fitting(sets, *index.shape, dim)
        arrays = values.detach().numpy(), index.numpy(), embeddings.numpy()
        run_shares(copy_rows, *arrays, work=embeddings.numel())
        ctx.save_for_backward(index)
        ctx.touched = len(values)
        return embeddings.transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,  # noqa: ANN401
        *gradients: Float[Tensor, "batch sets fields dim"],
    ) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        (index,) = ctx.saved_tensors
        _, sets, _, dim = gradient.shape
        by_set = gradient.transpose(0, 1).contiguous()
        sums = fitting(ctx.touched, sets * dim).zero_()
        arrays = by_set.numpy(), index.numpy(), sums.numpy()
        run_shares(sum_rows, *arrays, work=gradient.numel())
        return sums, None, None
