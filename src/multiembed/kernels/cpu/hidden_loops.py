"""What a hidden layer does number by number, each in one pass over memory. Compiled, for CPU.

Arrays are `(rows, width)` of `bits`, or one number for each unit.
"""

# ruff: noqa: ANN001, ANN201

from typing import no_type_check

import numpy as np

from multiembed.base.loops import compiled
from multiembed.kernels.cpu.bfloat16 import narrow, widen

BLOCK = 32
"""Rows that are summed in float32 before they are added to a sum in float64."""


@compiled
@no_type_check
def draw(seed, first, levels):
    """Fill with random 64 bits: numbers `first`, `first + 1`, … of a stream.

    SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), which reaches any number at once.
    """
    for j in range(len(levels)):
        z = seed + (np.uint64(first + j) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        levels[j] = z ^ (z >> np.uint64(31))


@compiled
@no_type_check
def activate_rows(share, shares, mapped, scale, shift, random, active):
    """Write `relu(scale * mapped + shift)`, with units dropped whose random 16 bits are low.

    `random` is a seed, how many rows came before, and how many of the 65536 levels are low. The
    bits of a unit depend on its place alone.
    """
    seed, before, low = random
    rows, width = mapped.shape
    wide = np.empty(width, dtype=np.uint32)
    numbers = wide.view(np.float32)
    drawn = np.empty((width + 3) // 4, dtype=np.uint64)
    levels = drawn.view(np.uint16)
    for row in range(share * rows // shares, (share + 1) * rows // shares):
        if low > 0:
            draw(seed, (before + row) * len(drawn), drawn)
        widen(mapped[row], wide)
        for j in range(width):
            number = numbers[j] * scale[j] + shift[j]
            kept = (low == 0 or levels[j] >= low) and not number <= 0
            numbers[j] = number if kept else np.float32(0)
        narrow(wide, active[row])


@compiled
@no_type_check
def read_active(gradient, active, wide_bits):
    """Widen a row of gradients, with zeros for units that are not active."""
    widen(gradient, wide_bits)
    for j in range(len(wide_bits)):
        if active[j] == 0:
            wide_bits[j] = 0


@compiled
@no_type_check
def read_centred(mapped, mean, wide_bits, numbers):
    """Widen a row of what was mapped, and take it from its mean; both views are of one row."""
    widen(mapped, wide_bits)
    for j in range(len(numbers)):
        numbers[j] -= mean[j]


# Loops of few arrays each: numba makes vector loops only where it can tell that none overlap.
@compiled
@no_type_check
def sum_slopes(share, shares, gradient, active, mapped, mean, sums):
    """Sum over rows, unit by unit: what comes back through active units, and that times `mapped`.

    `mapped` is taken from its mean. Shares are of units: the order of a sum is always the same.
    """
    rows, width = mapped.shape
    start, end = share * width // shares, (share + 1) * width // shares
    slope_bits = np.empty(end - start, dtype=np.uint32)
    centred_bits = np.empty(end - start, dtype=np.uint32)
    slope, centred = slope_bits.view(np.float32), centred_bits.view(np.float32)
    total = np.empty(end - start, dtype=np.float32)
    along = np.empty(end - start, dtype=np.float32)
    for block in range(0, rows, BLOCK):
        total[:] = 0
        along[:] = 0
        for row in range(block, min(block + BLOCK, rows)):
            read_active(gradient[row, start:end], active[row, start:end], slope_bits)
            read_centred(mapped[row, start:end], mean[start:end], centred_bits, centred)
            for j in range(end - start):
                total[j] += slope[j]
                along[j] += slope[j] * centred[j]
        sums[0, start:end] += total
        sums[1, start:end] += along


@compiled
@no_type_check
def deactivate_rows(share, shares, gradient, active, mapped, factors, of_mapped):
    """Write the gradient of `mapped`.

    It is `a * gradient`, where the unit is active, plus `b * (mapped - mean) + c`.
    """
    rows, width = mapped.shape
    a, b, c, mean = factors[0], factors[1], factors[2], factors[3]
    slope_bits = np.empty(width, dtype=np.uint32)
    centred_bits = np.empty(width, dtype=np.uint32)
    slope, centred = slope_bits.view(np.float32), centred_bits.view(np.float32)
    for row in range(share * rows // shares, (share + 1) * rows // shares):
        read_active(gradient[row], active[row], slope_bits)
        read_centred(mapped[row], mean, centred_bits, centred)
        for j in range(width):
            centred[j] = b[j] * centred[j] + c[j]
        for j in range(width):
            slope[j] = a[j] * slope[j] + centred[j]
        narrow(slope_bits, of_mapped[row])
