"""Histories on a CPU without padding: the values that are there, one after another.

Compiled functions carry no annotations: numba sees the types of each call.
"""

# ruff: noqa: ANN001, ANN202

from typing import no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import override

from multiembed.base.loops import compiled, run_shares
from multiembed.kernels.cpu.cpu_memory import fitting
from multiembed.kernels.history_values import PaddedHistories, RowsRead
from multiembed.kernels.own_gradient import Context, own_gradient


class RaggedHistories(PaddedHistories):
    """See `PaddedHistories`: the same of the values that are there alone."""

    def __init__(self, ids: Int[Tensor, "batch slots"]) -> None:
        there = ids >= 0
        self.batch = len(ids)
        self.sizes = there.sum(dim=1)
        self.ids = ids[there]
        self._owners = torch.repeat_interleave(self.sizes)
        self._ends = self.sizes.cumsum(0)

    @property
    @override
    def ages(self) -> Int[Tensor, " values"]:
        return self._ends[self._owners] - 1 - torch.arange(len(self._owners))

    @override
    def spread(self, of_rows: Float[Tensor, "batch *shape"]) -> Float[Tensor, "values *shape"]:
        return of_rows.index_select(0, self._owners)

    @override
    def normalised(self, scores: Float[Tensor, "values sets"]) -> Float[Tensor, "values sets"]:
        sets, owners = scores.shape[1], self._owners.unsqueeze(1).expand_as(scores)
        highest = scores.new_zeros(self.batch, sets).scatter_reduce(
            0, owners, scores.detach(), "amax", include_self=False
        )
        powers = (scores - self.spread(highest)).exp()
        sums = scores.new_zeros(self.batch, sets).index_add(0, self._owners, powers)
        return powers / self.spread(sums)

    @override
    def total(
        self, rows: RowsRead, weights: Float[Tensor, "values sets"] | None, sets: int
    ) -> Float[Tensor, "batch sets width"]:
        if weights is None:
            weights = rows.table.new_ones(len(self.ids), sets)
        places = torch.arange(len(self.ids)) if rows.places is None else rows.places
        sums = _apply(rows.table, weights, places, self._ends)
        return sums.unflatten(1, (sets, -1))


def _total(
    ctx: Context, table: Tensor, weights: Tensor, places: Tensor, ends: Tensor
) -> Float[Tensor, "batch numbers"]:
    sums = fitting(len(ends), table.shape[1])
    arrays = (part.detach().numpy() for part in (table, weights, places, ends, sums))
    run_shares(_sum_values, *arrays, work=len(places) * table.shape[1])
    ctx.save_for_backward(table, weights, places, ends)
    return sums


def _total_gradient(ctx: Context, gradient: Float[Tensor, "batch numbers"]) -> tuple:
    table, weights, places, ends = ctx.saved_tensors
    of_table, of_weights = None, None
    work = len(places) * table.shape[1]
    wanted = ctx.needs_input_grad
    gradient = gradient.contiguous()
    if wanted[0]:
        of_table = fitting(*table.shape).zero_()
        arrays = (part.numpy() for part in (gradient, weights, places, ends, of_table))
        run_shares(_give_back, *arrays, work=work)
    if wanted[1]:
        of_weights = torch.empty(weights.shape)
        arrays = (part.numpy() for part in (gradient, table, places, ends, of_weights))
        run_shares(_weigh_back, *arrays, work=work)
    return of_table, of_weights, None, None


_apply = own_gradient(_total, _total_gradient)


@compiled
@no_type_check
def _sum_values(share, shares, table, weights, places, ends, sums):
    """Add up the weighted rows of the values of every row of the batch."""
    batch, numbers = sums.shape
    sets = weights.shape[1]
    width = numbers // sets
    for row in range(share * batch // shares, (share + 1) * batch // shares):
        target = sums[row]
        for column in range(numbers):
            target[column] = 0
        for value in range(ends[row - 1] if row else 0, ends[row]):
            source = table[places[value]]
            for part in range(sets):
                factor = weights[value, part]
                for column in range(part * width, (part + 1) * width):
                    target[column] += factor * source[column]


@compiled
@no_type_check
def _give_back(share, shares, gradient, weights, places, ends, of_table):
    """Add up the gradient of every row of the table; a thread has some of the columns."""
    batch, numbers = gradient.shape
    width = numbers // weights.shape[1]
    first, last = share * numbers // shares, (share + 1) * numbers // shares
    value = 0
    for row in range(batch):
        source = gradient[row]
        while value < ends[row]:
            target = of_table[places[value]]
            for column in range(first, last):
                target[column] += weights[value, column // width] * source[column]
            value += 1


@compiled
@no_type_check
def _weigh_back(share, shares, gradient, table, places, ends, of_weights):
    """Write the gradient of every weight: the product of its row and what became of the sum."""
    batch, numbers = gradient.shape
    sets = of_weights.shape[1]
    width = numbers // sets
    for row in range(share * batch // shares, (share + 1) * batch // shares):
        for value in range(ends[row - 1] if row else 0, ends[row]):
            source = table[places[value]]
            for part in range(sets):
                product = gradient[row, part * width] * source[part * width]
                for column in range(part * width + 1, (part + 1) * width):
                    product += gradient[row, column] * source[column]
                of_weights[value, part] = product
