"""The pairs of a compressed interaction, of a few rows in cache. Compiled, for CPU.

Arrays end in numbers: those of the first row's embedding, then of the next. Pairs are of a field
and a map; in the first layer, where both are fields, of fields i <= j.
"""

# ruff: noqa: ANN001, ANN201

from typing import no_type_check

import numpy as np

from multiembed.base.loops import compiled
from multiembed.kernels.cpu.bfloat16 import narrow, widen


@compiled
@no_type_check
def multiply_pairs(share, shares, first_layer, x0, x, pairs):
    """Write every field times every map, in the precision of products."""
    first, last = share * x0.shape[1] // shares, (share + 1) * x0.shape[1] // shares
    wide = np.empty(last - first, dtype=np.uint32)
    numbers = wide.view(np.float32)
    pair = 0
    for i in range(len(x0)):
        for j in range(i if first_layer else 0, len(x)):
            one, other = x0[i, first:last], x[j, first:last]
            for k in range(len(numbers)):
                numbers[k] = one[k] * other[k]
            narrow(wide, pairs[pair, first:last])
            pair += 1


@compiled
@no_type_check
def split_pairs(share, shares, first_layer, x0, x, of_pairs, of_x0, of_x):
    """Add the gradient of the pairs to those of fields and maps, in the first layer the same."""
    first, last = share * x0.shape[1] // shares, (share + 1) * x0.shape[1] // shares
    wide = np.empty(last - first, dtype=np.uint32)
    numbers = wide.view(np.float32)
    pair = 0
    for i in range(len(x0)):
        for j in range(i if first_layer else 0, len(x)):
            widen(of_pairs[pair, first:last], wide)
            one, other = x0[i, first:last], x[j, first:last]
            of_one, of_other = of_x0[i, first:last], of_x[j, first:last]
            for k in range(len(numbers)):
                of_one[k] += numbers[k] * other[k]
            for k in range(len(numbers)):
                of_other[k] += numbers[k] * one[k]
            pair += 1
