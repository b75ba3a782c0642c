"""What a compressed interaction does number by number, on a few rows in cache. Compiled, for CPU.

Arrays end in `numbers`: the `dim` numbers of the first row, then of the next. Those of `bits` are
in the precision of products.
"""

# ruff: noqa: ANN001, ANN201

from typing import no_type_check

import numpy as np

from multiembed.compiling import compiled
from multiembed.models.bits import narrow, widen


@compiled
@no_type_check
def join_maps(share, shares, mixed, x0, bias, pooled, maps):
    """Write `relu(sum_i x0_i * mixed_i + bias)`, and its sum over the numbers of every row."""
    few = len(pooled)
    dim = x0.shape[1] // few
    rows = range(share * few // shares, (share + 1) * few // shares)
    first, last = rows.start * dim, rows.stop * dim
    wide = np.empty(last - first, dtype=np.uint32)
    numbers = wide.view(np.float32)
    sums = np.empty(last - first, dtype=np.float32)
    for h in range(len(mixed)):
        sums[:] = bias[h]
        for i in range(len(x0)):
            widen(mixed[h, i, first:last], wide)
            field = x0[i, first:last]
            for j in range(len(sums)):
                sums[j] += field[j] * numbers[j]
        for j in range(len(sums)):
            numbers[j] = np.float32(0) if sums[j] <= 0 else sums[j]
        for row in rows:
            pooled[row, h] = numbers[row * dim - first : (row + 1) * dim - first].sum()
        narrow(wide, maps[h, first:last])


@compiled
@no_type_check
def split_maps(share, shares, last_layer, mixed, x0, gradient, maps, results):
    """Carry the gradient of a layer's maps to what they were made of; that of `mixed` over it.

    `maps` are the gradient through the next layer, where there is one, and the maps themselves.
    `results` are the gradient before ReLU, and that of x0, summed up over the layers.
    """
    added, active = maps
    of_maps, of_x0 = results
    few = len(gradient)
    dim = x0.shape[1] // few
    rows = range(share * few // shares, (share + 1) * few // shares)
    first, last = rows.start * dim, rows.stop * dim
    wide = np.empty(last - first, dtype=np.uint32)
    numbers = wide.view(np.float32)
    for h in range(len(mixed)):
        slope = of_maps[h, first:last]
        slope[:] = 0
        if not last_layer:
            widen(added[h, first:last], wide)
            slope[:] = numbers
        for row in rows:
            slope[row * dim - first : (row + 1) * dim - first] += gradient[row, h]
        widen(active[h, first:last], wide)
        for j in range(len(slope)):
            slope[j] = np.float32(0) if numbers[j] <= 0 else slope[j]
        for i in range(len(x0)):
            widen(mixed[h, i, first:last], wide)
            field, of_field = x0[i, first:last], of_x0[i, first:last]
            for j in range(len(slope)):
                of_field[j] += slope[j] * numbers[j]
            for j in range(len(slope)):
                numbers[j] = slope[j] * field[j]
            narrow(wide, mixed[h, i, first:last])
