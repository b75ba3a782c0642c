"""What cross layers do number by number, each in one pass over memory. Compiled, for CPU.

Arrays are `(rows, width)`, of float32 or of `bits`.
"""

# ruff: noqa: ANN001, ANN201

from typing import no_type_check

import numpy as np

from multiembed.base.loops import compiled
from multiembed.kernels.cpu.bfloat16 import narrow, widen


@compiled
@no_type_check
def cross_rows(share, shares, x0, x, mapped, bias, crossed, crossed_bits):
    """Write `x0 * (mapped + bias) + x` in float32, over x if wanted, and for products."""
    rows, width = x0.shape
    wide = np.empty(width, dtype=np.uint32)
    numbers = wide.view(np.float32)
    for row in range(share * rows // shares, (share + 1) * rows // shares):
        widen(mapped[row], wide)
        start, before, after = x0[row], x[row], crossed[row]
        for j in range(width):
            numbers[j] = start[j] * (numbers[j] + bias[j]) + before[j]
        for j in range(width):  # apart: `after` may be `before`, which no vector loop allows for
            after[j] = numbers[j]
        narrow(wide, crossed_bits[row])


@compiled
@no_type_check
def recross_rows(share, shares, x0, mapped, biases, operands):
    """Write again what each layer read, from what each of them mapped, to the same bits."""
    layers, rows, width = operands.shape
    wide = np.empty(width, dtype=np.uint32)
    numbers = wide.view(np.float32)
    x_bits = np.empty(width, dtype=np.uint32)
    x = x_bits.view(np.float32)
    for row in range(share * rows // shares, (share + 1) * rows // shares):
        start = x0[row]
        x[:] = start
        narrow(x_bits, operands[0][row])
        for layer in range(1, layers):
            widen(mapped[layer - 1][row], wide)
            bias = biases[layer - 1]
            for j in range(width):
                x[j] = start[j] * (numbers[j] + bias[j]) + x[j]
            narrow(x_bits, operands[layer][row])


@compiled
@no_type_check
def uncross_rows(share, shares, last, x0, mapped, bias, gradient, results):
    """Carry the gradient of a cross layer's output to what it was made of.

    `gradient` is that in two parts, `slope` and `added`: its way past the layers that follow, and
    that through the next one's map. Where the layer is the last, it is `added` alone. Their sum is
    left in `slope`.
    `results` are the gradients of x0, summed up over the layers, and of `mapped`.
    """
    slope, added = gradient
    of_x0, of_mapped = results
    rows, width = x0.shape
    wide = np.empty(width, dtype=np.uint32)
    numbers = wide.view(np.float32)
    whole = np.empty(width, dtype=np.float32)
    for row in range(share * rows // shares, (share + 1) * rows // shares):
        start, so_far, of_start = x0[row], slope[row], of_x0[row]
        widen(added[row], wide)
        if last:
            whole[:] = numbers
        else:
            for j in range(width):
                whole[j] = so_far[j] + numbers[j]
        widen(mapped[row], wide)
        if last:
            for j in range(width):
                of_start[j] = whole[j] * (numbers[j] + bias[j])
        else:
            for j in range(width):
                of_start[j] += whole[j] * (numbers[j] + bias[j])
        for j in range(width):
            so_far[j] = whole[j]
            numbers[j] = whole[j] * start[j]
        narrow(wide, of_mapped[row])


@compiled
@no_type_check
def add_rows(share, shares, slope, added, sums):
    """Add both parts of a gradient to `sums`."""
    rows, width = slope.shape
    wide = np.empty(width, dtype=np.uint32)
    numbers = wide.view(np.float32)
    for row in range(share * rows // shares, (share + 1) * rows // shares):
        widen(added[row], wide)
        so_far, total = slope[row], sums[row]
        for j in range(width):
            total[j] += so_far[j] + numbers[j]
