"""What a hidden layer does number by number on a GPU, with kernels in Triton.

Activations are `(sets, rows, padded)` in bfloat16, computed with in float32: rows of as many units
as `outputs`, and zeros. Sums over rows are taken part by part, always in the same order.
"""

# ruff: noqa: ANN001, ANN202
# pyright: reportIndexIssue=false, reportMissingImports=false

from collections.abc import Sequence
from typing import NamedTuple, no_type_check

import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from multiembed.kernels.gpu.gpu_cross_kernels import TILE_COLUMNS, TILE_ROWS, chunk, chunks
from multiembed.kernels.operations import BatchNorm, HiddenLayer

STRIP, RANDOM_DRAWS = tl.constexpr(16), tl.constexpr(8)
"""Rows that a program holds at once where nothing is summed, and how many times.

A draw of 128 random bits decides about the units of one column in eight strips, by 16 bits each.
"""


class Normal(NamedTuple):
    """How numbers that were mapped are normalised."""

    mean: Float[Tensor, "sets outputs"]
    rate: Float[Tensor, "sets outputs"]
    """The inverse of the deviation."""
    scale: Float[Tensor, "sets outputs"]
    shift: Float[Tensor, "sets outputs"]


def find_statistics(
    norm: BatchNorm,
    mapped: Float[Tensor, "sets rows padded"],
    bias: Float[Tensor, "parameter_sets outputs"],
) -> tuple[Float[Tensor, "sets outputs"], Float[Tensor, "sets outputs"]]:
    """Return mean and inverse deviation of every unit; the running statistics move.

    The running mean is that with the bias.
    """
    sets, rows, padded = mapped.shape
    own, outputs = bias.shape
    shape = {"WIDTH": outputs, "CHUNK": chunk(rows, sets)}
    parts = bias.new_empty(2, sets, chunks(rows, sets), outputs)
    columns, second = triton.cdiv(outputs, TILE_COLUMNS.value), parts.stride(0)
    grid = columns, parts.shape[2], sets
    _sum_moments[grid](mapped, parts, second, rows, PADDED=padded, **shape)
    mean, rate = bias.new_empty(2, sets, outputs)
    # Of the momenta the first is that of every first set folded in, the last that of all others.
    _merge_moments[columns, own](
        (parts, second, rows, sets // own),
        (norm.mean, norm.var, bias, norm.eps),
        (norm.momenta[0], norm.momenta[-1]),
        (mean, rate),
        **shape,
    )
    return mean, rate


def activate_rows(
    layer: HiddenLayer,
    mapped: Float[Tensor, "sets rows padded"],
    normal: Normal,
    seed: Int[Tensor, ""],
    active: Float[Tensor, "sets rows padded"],
) -> None:
    """Fill `active` with what normalisation, ReLU and dropout leave of `mapped`.

    Which units are dropped depends on their places and the seed alone.
    """
    _activate[_strips(mapped)](
        (mapped, active),
        tuple(normal),
        (seed, layer.dropout_scale),
        mapped.shape[1],
        DROPPED=layer.dropped,
        WIDTH=normal.mean.shape[1],
        PADDED=mapped.shape[2],
    )


def sum_slopes(
    tensors: Sequence[Tensor], normal: Normal, dropout_scale: float
) -> Float[Tensor, "2 sets outputs"]:
    """Return the gradients of scale and shift, of every set.

    `tensors` are the gradient of the activations, `(rows, sets, outputs)` of any strides;
    activations and `mapped`, `(sets, rows, padded)`.
    """
    rows, sets, outputs = tensors[0].shape
    shape = {"WIDTH": outputs, "CHUNK": chunk(rows, sets)}
    parts = normal.mean.new_empty(2, sets, chunks(rows, sets), outputs)
    columns, second = triton.cdiv(outputs, TILE_COLUMNS.value), parts.stride(0)
    grid = columns, parts.shape[2], sets
    strides, padded = tensors[0].stride(), tensors[2].shape[2]
    sums, moved = (parts, second), (normal.mean, rows)
    _sum_slopes[grid](tuple(tensors), strides, sums, moved, PADDED=padded, **shape)
    of_scale, of_shift = results = normal.mean.new_empty(2, sets, outputs)
    _merge_slopes[columns, sets](
        (parts, second, rows), (normal.rate, dropout_scale), (of_scale, of_shift), **shape
    )
    return results


def deactivate_rows(
    tensors: Sequence[Tensor],
    normal: Normal,
    sums: Float[Tensor, "2 sets outputs"],
    factors: tuple[float, float],
    of_mapped: Float[Tensor, "sets rows padded"],
) -> None:
    """Fill the gradient of `mapped`, zero in the padding; `tensors` as `sum_slopes` takes them.

    `sums` is what that returned; `factors` are the dropout scale, one row's share in statistics.
    """
    _deactivate[_strips(of_mapped)](
        (*tensors, of_mapped),
        tensors[0].stride(),
        (normal.mean, normal.rate, normal.scale, *sums),
        factors,
        of_mapped.shape[1],
        WIDTH=normal.mean.shape[1],
        PADDED=of_mapped.shape[2],
    )


def _strips(mapped: Float[Tensor, "sets rows padded"]) -> tuple[int, int, int]:
    sets, rows, padded = mapped.shape
    return (
        triton.cdiv(padded, TILE_COLUMNS.value),
        triton.cdiv(rows, STRIP.value * RANDOM_DRAWS.value),
        sets,
    )


@triton.jit
@no_type_check
def _sum_moments(
    mapped, parts, second, rows, WIDTH: tl.constexpr, PADDED: tl.constexpr, CHUNK: tl.constexpr
):
    """Welford's sums of every place in the tile, merged at the end (Chan et al.)."""
    m = tl.program_id(2).to(tl.int64)
    first = tl.program_id(1).to(tl.int64) * CHUNK
    column = tl.program_id(0) * TILE_COLUMNS + tl.arange(0, TILE_COLUMNS)
    place = tl.arange(0, TILE_ROWS)[:, None] * PADDED + column[None, :]
    mean = tl.zeros((TILE_ROWS, TILE_COLUMNS), dtype=tl.float32)
    square = tl.zeros((TILE_ROWS, TILE_COLUMNS), dtype=tl.float32)
    count = tl.zeros((TILE_ROWS, 1), dtype=tl.float32)
    for done in range(0, CHUNK, TILE_ROWS):
        left = (rows - first - done).to(tl.int32)
        there = (tl.arange(0, TILE_ROWS) < left)[:, None]
        here = (m * rows + first + done) * PADDED
        inside = there & (column < PADDED)[None, :]
        number = tl.load(mapped + here + place, mask=inside, other=0.0).to(tl.float32)
        count += there.to(tl.float32)
        away = tl.where(there, number - mean, 0.0)
        mean += away / tl.maximum(count, 1.0)
        square += away * (number - mean)
    rows_here = tl.sum(count)
    whole = tl.sum(count * mean, 0) / rows_here
    away = mean - whole[None, :]
    square = tl.sum(square + count * away * away, 0)
    part = (m * tl.num_programs(1) + tl.program_id(1)) * WIDTH + column
    tl.store(parts + part, whole, mask=column < WIDTH)
    tl.store(parts + second + part, square, mask=column < WIDTH)


@triton.jit
@no_type_check
def _merge_moments(sums, running, momenta, results, WIDTH: tl.constexpr, CHUNK: tl.constexpr):
    parts, second, rows, turns = sums
    running_mean, running_var, bias, eps = running
    first_momentum, next_momentum = momenta
    to_mean, to_rate = results
    column = tl.program_id(0) * TILE_COLUMNS + tl.arange(0, TILE_COLUMNS)
    known = column < WIDTH
    own = tl.program_id(1) * WIDTH + column
    past_mean = tl.load(running_mean + own, mask=known, other=0.0)
    past_var = tl.load(running_var + own, mask=known, other=0.0)
    shift = tl.load(bias + own, mask=known, other=0.0)
    count = tl.cdiv(rows, CHUNK)
    for turn in range(0, turns):
        m = tl.program_id(1) + turn  # of several turns all are of program 0
        mean = tl.zeros((TILE_COLUMNS,), dtype=tl.float32)
        for done in range(0, count, TILE_ROWS):
            share, inside, place = _parts(m, done, count, rows, WIDTH, CHUNK)
            mean += tl.sum(share * tl.load(parts + place, mask=inside, other=0.0), 0)
        square = tl.zeros((TILE_COLUMNS,), dtype=tl.float32)
        for done in range(0, count, TILE_ROWS):
            share, inside, place = _parts(m, done, count, rows, WIDTH, CHUNK)
            away = tl.load(parts + place, mask=inside, other=0.0) - mean[None, :]
            within = tl.load(parts + second + place, mask=inside, other=0.0)
            square += tl.sum(share * away * away + within / rows, 0)
        momentum = tl.where(turn == 0, first_momentum, next_momentum)
        past_mean += momentum * (mean + shift - past_mean)
        past_var += momentum * (square * (rows / (rows - 1)) - past_var)
        tl.store(to_mean + m * WIDTH + column, mean, mask=known)
        tl.store(to_rate + m * WIDTH + column, 1 / tl.sqrt_rn(square + eps), mask=known)
    tl.store(running_mean + own, past_mean, mask=known)
    tl.store(running_var + own, past_var, mask=known)


@triton.jit
@no_type_check
def _parts(m, done, count, rows, WIDTH: tl.constexpr, CHUNK: tl.constexpr):
    """Return the shares of parts in all rows, which numbers there are, and where they lie."""
    part = done + tl.arange(0, TILE_ROWS)
    column = tl.program_id(0) * TILE_COLUMNS + tl.arange(0, TILE_COLUMNS)
    share = tl.minimum(tl.maximum(rows - part * CHUNK, 0), CHUNK).to(tl.float32) / rows
    inside = (part < count)[:, None] & (column < WIDTH)[None, :]
    return share[:, None], inside, (m * count + part)[:, None] * WIDTH + column[None, :]


@triton.jit
@no_type_check
def _activate(
    tensors, normal, chance, rows, DROPPED: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr
):
    mapped, active = tensors
    means, rates, scales, shifts = normal
    seed, dropout_scale = chance
    m = tl.program_id(2).to(tl.int64)
    first = tl.program_id(1).to(tl.int64) * (STRIP * RANDOM_DRAWS)
    column = tl.program_id(0) * TILE_COLUMNS + tl.arange(0, TILE_COLUMNS)
    known = column < WIDTH
    unit = m * WIDTH + column
    mean = tl.load(means + unit, mask=known, other=0.0)
    scale = dropout_scale * tl.load(rates + unit, mask=known, other=0.0)
    scale *= tl.load(scales + unit, mask=known, other=0.0)
    shift = dropout_scale * tl.load(shifts + unit, mask=known, other=0.0)
    place = tl.arange(0, STRIP)[:, None] * PADDED + column[None, :]
    # Counters: place in a strip, block of rows, set.
    nothing = place * 0
    block, apart = nothing + tl.program_id(1), nothing + tl.program_id(2)
    words = tl.philox(tl.load(seed), place, block, apart, nothing)
    for draw in tl.static_range(RANDOM_DRAWS):
        here = (m * rows + first + draw * STRIP) * PADDED
        left = (rows - first - draw * STRIP).to(tl.int32)
        inside = (tl.arange(0, STRIP) < left)[:, None] & (column < PADDED)[None, :]
        number = tl.load(mapped + here + place, mask=inside, other=0.0).to(tl.float32)
        number = (number - mean[None, :]) * scale[None, :] + shift[None, :]
        dropped = number <= 0
        if DROPPED > 0:
            level = (words[draw // 2] >> (16 * (draw % 2))) & 0xFFFF
            dropped |= level < DROPPED
        tl.store(active + here + place, tl.where(dropped, 0.0, number), mask=inside)


@triton.jit
@no_type_check
def _sum_slopes(
    tensors, strides, sums, moved, WIDTH: tl.constexpr, PADDED: tl.constexpr, CHUNK: tl.constexpr
):
    parts, second = sums
    means, rows = moved
    m = tl.program_id(2).to(tl.int64)
    first = tl.program_id(1).to(tl.int64) * CHUNK
    column = tl.program_id(0) * TILE_COLUMNS + tl.arange(0, TILE_COLUMNS)
    known = column < WIDTH
    mean = tl.load(means + m * WIDTH + column, mask=known, other=0.0)
    total = tl.zeros((TILE_ROWS, TILE_COLUMNS), dtype=tl.float32)
    along = tl.zeros((TILE_ROWS, TILE_COLUMNS), dtype=tl.float32)
    for done in range(0, CHUNK, TILE_ROWS):
        row = first + done + tl.arange(0, TILE_ROWS)
        slope, number = _slopes(tensors, strides, row, column, rows, WIDTH, PADDED)
        total += slope
        along += slope * (number - mean[None, :])
    part = (m * tl.num_programs(1) + tl.program_id(1)) * WIDTH + column
    tl.store(parts + part, tl.sum(along, 0), mask=known)
    tl.store(parts + second + part, tl.sum(total, 0), mask=known)


@triton.jit
@no_type_check
def _merge_slopes(sums, factors, results, WIDTH: tl.constexpr, CHUNK: tl.constexpr):
    parts, second, rows = sums
    rates, dropout_scale = factors
    of_scale, of_shift = results
    m = tl.program_id(1).to(tl.int64)
    column = tl.program_id(0) * TILE_COLUMNS + tl.arange(0, TILE_COLUMNS)
    known = column < WIDTH
    count = tl.cdiv(rows, CHUNK)
    along = tl.zeros((TILE_COLUMNS,), dtype=tl.float32)
    total = tl.zeros((TILE_COLUMNS,), dtype=tl.float32)
    for done in range(0, count, TILE_ROWS):
        _, inside, place = _parts(m, done, count, rows, WIDTH, CHUNK)
        along += tl.sum(tl.load(parts + place, mask=inside, other=0.0), 0)
        total += tl.sum(tl.load(parts + second + place, mask=inside, other=0.0), 0)
    unit = m * WIDTH + column
    rate = tl.load(rates + unit, mask=known, other=0.0)
    tl.store(of_scale + unit, dropout_scale * rate * along, mask=known)
    tl.store(of_shift + unit, dropout_scale * total, mask=known)


@triton.jit
@no_type_check
def _deactivate(tensors, strides, normal, factors, rows, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    gradient, active, mapped, of_mapped = tensors
    means, rates, scales, alongs, totals = normal
    dropout_scale, share = factors
    m = tl.program_id(2).to(tl.int64)
    first = tl.program_id(1).to(tl.int64) * (STRIP * RANDOM_DRAWS)
    column = tl.program_id(0) * TILE_COLUMNS + tl.arange(0, TILE_COLUMNS)
    known = column < WIDTH
    unit = m * WIDTH + column
    mean = tl.load(means + unit, mask=known, other=0.0)
    rate = tl.load(rates + unit, mask=known, other=0.0)
    scale = rate * tl.load(scales + unit, mask=known, other=0.0)
    total = share * tl.load(totals + unit, mask=known, other=0.0)
    along = share * rate * tl.load(alongs + unit, mask=known, other=0.0)
    for strip in tl.static_range(RANDOM_DRAWS):
        row = first + strip * STRIP + tl.arange(0, STRIP)
        three = gradient, active, mapped
        slope, number = _slopes(three, strides, row, column, rows, WIDTH, PADDED)
        slope = dropout_scale * slope - total[None, :] - along[None, :] * (number - mean[None, :])
        to = of_mapped + (m * rows + first + strip * STRIP) * PADDED
        place = tl.arange(0, STRIP)[:, None] * PADDED + column[None, :]
        inside = (row < rows)[:, None] & (column < PADDED)[None, :]
        tl.store(to + place, scale[None, :] * slope, mask=inside)


@triton.jit
@no_type_check
def _slopes(tensors, strides, row, column, rows, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Read gradients, zero where a unit is not active, and what was mapped."""
    gradient, active, mapped = tensors
    of_row, of_set, of_column = strides
    m = tl.program_id(2).to(tl.int64)
    there = (row < rows)[:, None]
    inside = there & (column < PADDED)[None, :]
    place = (m * rows + row)[:, None] * PADDED + column[None, :]
    gradient += m * of_set
    offset = row[:, None] * of_row + column[None, :].to(tl.int64) * of_column
    slope = tl.load(gradient + offset, mask=there & (column < WIDTH)[None, :], other=0.0)
    through = tl.load(active + place, mask=inside, other=0.0) != 0
    number = tl.load(mapped + place, mask=inside, other=0.0).to(tl.float32)
    return tl.where(through, slope.to(tl.float32), 0.0), number
