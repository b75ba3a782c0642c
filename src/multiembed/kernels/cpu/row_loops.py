"""Loops over the ids of a batch and the rows they name. Compiled, for CPU.

Compiled functions carry no annotations: numba sees the types of each call.
"""

# ruff: noqa: ANN001, ANN201

from typing import no_type_check

import numpy as np

from multiembed.base.loops import compiled

LINE = 16
"""Numbers of 32 bits in a line of a CPU's cache."""


@compiled
@no_type_check
def mark_rows(share, shares, ids, offsets, last, index, found):
    """Number the distinct rows of each field by first appearance, in `index` and `found`.

    `index` is laid out field by field here, so that no two threads write to one line of a cache.

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
def number_rows(keys, marked_rows, last, order, touched_rows, touched_last):
    """Write rows and steps in the order of `keys`, put `last` back, and invert the order."""
    for position in range(len(keys)):
        place = keys[position] & 0xFFFFFFFF
        row = marked_rows[place]
        touched_rows[position] = row
        touched_last[position] = last[row] = keys[position] >> 32
        order[place] = position


@compiled
@no_type_check
def renumber(share, shares, index, order, positions):
    """Turn the numbers that `mark_rows` gave into positions among all touched rows."""
    batch, fields = positions.shape
    start, end = share * batch // shares, (share + 1) * batch // shares
    for block in range(start, end, LINE):
        for field in range(fields):
            for sample in range(block, min(block + LINE, end)):
                positions[sample, field] = order[field * batch + index[field, sample]]


@compiled
@no_type_check
def copy_rows(share, shares, values, index, embeddings):
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
def sum_rows(share, shares, gradients, index, sums):
    """Add up the gradients of every row. A row has one field, whose share is one thread's."""
    sets, batch, fields, dim = gradients.shape
    for part in range(sets):
        for sample in range(batch):
            for field in range(share * fields // shares, (share + 1) * fields // shares):
                source = gradients[part, sample, field]
                target = sums[index[sample, field], part * dim : (part + 1) * dim]
                for column in range(dim):
                    target[column] += source[column]
