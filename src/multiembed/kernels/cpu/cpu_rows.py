"""The rows of a batch on a CPU: found without sorting ids, and gathered by compiled loops.

Compiled functions carry no annotations: numba sees the types of each call.
"""

# ruff: noqa: ANN001, ANN202

from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from multiembed.base.loops import compiled, run_shares
from multiembed.kernels.cpu.cpu_memory import fitting
from multiembed.kernels.own_gradient import Context, own_gradient
from multiembed.kernels.rows import TouchedRows

LINE = 16
"""Numbers of 32 bits in a line of a CPU's cache."""


def find_rows_on_cpu(
    ids: Int[Tensor, "batch fields"], offsets: Int[Tensor, " fields"], last: Int[Tensor, " rows"]
) -> TouchedRows:
    """Find the distinct rows of a batch, see `rows.find_rows`; no two columns share rows.

    Ids are not sorted: `last` itself notes, for a moment, which rows were seen.
    """
    batch, fields = ids.shape
    index, order, rows, positions = np.empty((4, batch * fields), dtype=np.int32)
    index, positions = index.reshape(fields, batch), positions.reshape(batch, fields)
    keys = np.empty((fields, batch), dtype=np.int64)
    counts = np.zeros(fields, dtype=np.int64)
    found = rows.reshape(fields, batch), keys, counts
    table = offsets.numpy(), last.numpy()
    run_shares(_mark_rows, ids.numpy(), *table, index, found, work=batch * fields)
    # Numbers that take their digits from the step first sort by step, then by appearance.
    keys = np.sort(np.concatenate([keys[field, : counts[field]] for field in range(fields)]))
    touched_rows, touched_last = np.empty((2, len(keys)), dtype=np.int32)
    _number_rows(keys, rows, last.numpy(), order, touched_rows, touched_last)
    run_shares(_renumber, index, order, positions, work=batch * fields)
    found = touched_rows, touched_last, positions
    return TouchedRows(*(torch.from_numpy(part) for part in found))


def gather_rows_on_cpu(
    values: Float[Tensor, "touched numbers"], positions: Int[Tensor, "batch fields"], sets: int
) -> Float[Tensor, "batch sets fields dim"]:
    """Read embeddings from float32 rows, see `rows.gather_rows`; sets come first in memory.

    No two columns share positions. The gradient is summed in the order of the batch, whatever the
    number of threads.
    """
    return _apply(values, positions, sets)  # pyright: ignore[reportReturnType]


def _gather(
    ctx: Context, values: Tensor, index: Tensor, sets: int
) -> Float[Tensor, "batch sets fields dim"]:
    dim = values.shape[1] // sets
    embeddings = fitting(sets, *index.shape, dim)
    arrays = values.detach().numpy(), index.numpy(), embeddings.numpy()
    run_shares(_copy_rows, *arrays, work=embeddings.numel())
    ctx.save_for_backward(index)
    ctx.touched = len(values)
    return embeddings.transpose(0, 1)


def _gather_gradient(
    ctx: Context, gradient: Float[Tensor, "batch sets fields dim"]
) -> tuple[Tensor, None, None]:
    (index,) = ctx.saved_tensors
    _, sets, _, dim = gradient.shape
    by_set = gradient.transpose(0, 1).contiguous()
    sums = fitting(ctx.touched, sets * dim).zero_()
    arrays = by_set.numpy(), index.numpy(), sums.numpy()
    run_shares(_sum_rows, *arrays, work=gradient.numel())
    return sums, None, None


_apply = own_gradient(_gather, _gather_gradient)


@compiled
@no_type_check
def _mark_rows(share, shares, ids, offsets, last, index, found):
    """Number the distinct rows of each field by first appearance, in `index` and `found`.

    `index` is laid out field by field, so that no two threads write to one line of a cache.

    A row seen in this batch has minus its number minus one in `last`. What stood there goes to the
    upper half of `keys`; the lower half says where the row stands in `rows`.
    """
    rows, keys, counts = found
    batch, fields = ids.shape
    for field in range(share * fields // shares, (share + 1) * fields // shares):
        number = 0
        for sample in range(batch):
            row = offsets[field] + ids[sample, field]
            step = last[row]
            if step < 0:
                index[field, sample] = -step - 1
                continue
            last[row] = -number - 1
            index[field, sample] = number
            rows[field, number] = row
            keys[field, number] = (np.int64(step) << 32) | (field * batch + number)
            number += 1
        counts[field] = number


@compiled
@no_type_check
def _number_rows(keys, marked_rows, last, order, touched_rows, touched_last):
    """Write rows and steps in the order of `keys`, put `last` back, and invert the order."""
    for position in range(len(keys)):
        place = keys[position] & 0xFFFFFFFF
        row = marked_rows[place]
        touched_rows[position] = row
        touched_last[position] = last[row] = keys[position] >> 32
        order[place] = position


@compiled
@no_type_check
def _renumber(share, shares, index, order, positions):
    """Turn the numbers that `_mark_rows` gave into positions among all touched rows."""
    batch, fields = positions.shape
    start, end = share * batch // shares, (share + 1) * batch // shares
    for block in range(start, end, LINE):
        for field in range(fields):
            for sample in range(block, min(block + LINE, end)):
                positions[sample, field] = order[field * batch + index[field, sample]]


@compiled
@no_type_check
def _copy_rows(share, shares, values, index, embeddings):
    """Write the row of every id, parted into its sets."""
    sets, batch, fields, dim = embeddings.shape
    for sample in range(share * batch // shares, (share + 1) * batch // shares):
        for part in range(sets):
            for field in range(fields):
                source = values[index[sample, field], part * dim : (part + 1) * dim]
                target = embeddings[part, sample, field]
                for column in range(dim):
                    target[column] = source[column]


@compiled
@no_type_check
def _sum_rows(share, shares, gradients, index, sums):
    """Add up the gradients of every row. A row has one field, whose share is one thread's."""
    sets, batch, fields, dim = gradients.shape
    for part in range(sets):
        for sample in range(batch):
            for field in range(share * fields // shares, (share + 1) * fields // shares):
                source = gradients[part, sample, field]
                target = sums[index[sample, field], part * dim : (part + 1) * dim]
                for column in range(dim):
                    target[column] += source[column]
