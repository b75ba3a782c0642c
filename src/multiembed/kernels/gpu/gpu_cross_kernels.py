"""What cross layers do number by number on a GPU, with kernels in Triton.

Rows that products read lie in memory in multiples of 32 numbers, filled up with zeros: with rows of
780 bytes a batched product takes three to five times as long as with rows of 832 (H200, bfloat16).
Numbers are kept in bfloat16 and computed with in float32.
"""

# ruff: noqa: ANN001, ANN202
# pyright: reportIndexIssue=false, reportMissingImports=false

from collections.abc import Sequence
from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

TOGETHER = tl.constexpr(32)
"""Rows are padded to a multiple of as many numbers."""
BLOCK = tl.constexpr(1024)
"""Numbers that one program takes from memory as they lie, 16 bytes for each thread."""
TILE_ROWS, TILE_COLUMNS = tl.constexpr(32), tl.constexpr(64)
"""Numbers that a program holds at once where columns are summed."""


def padded(width: int) -> int:
    """Return how many numbers a row of `width` takes in memory."""
    return triton.cdiv(width, TOGETHER.value) * TOGETHER.value


def chunk(rows: int, sets: int) -> int:
    """Return how many rows of a set one program sums: fewer where there are few in all.

    About 320 parts, each of as many programs as a row has blocks of columns, keep all
    multiprocessors busy. Beyond that longer parts only leave fewer sums to add.
    """
    return max(64, min(512, triton.next_power_of_2(rows * sets // 320)))


def chunks(rows: int, sets: int) -> int:
    """Return in how many parts columns of `rows` numbers are summed."""
    return triton.cdiv(rows, chunk(rows, sets))


def pad_rows(
    inputs: Sequence[Float[Tensor, "batch sets width"]],
    out: Float[Tensor, "inputs sets rows padded"],
) -> Float[Tensor, "inputs sets rows padded"]:
    """Write rows in the precision of `out`, with zeros to their right and below.

    Args:
        inputs: Of any strides, all of one precision.
        out: At least as many rows of each set, as long as the next multiple of 32 numbers;
            contiguous. Returned.
    """
    batch, sets, width = inputs[0].shape
    numbers = out.shape[2] * out.shape[3]
    _pad[_blocks(numbers, sets)](
        tuple(inputs),
        tuple(part.stride() for part in inputs),
        out,
        (batch, numbers),
        WIDTH=width,
        PADDED=out.shape[3],
        PARTS=len(inputs),
    )
    return out


def padded_rows(
    inputs: Float[Tensor, "batch sets width"], dtype: torch.dtype
) -> Float[Tensor, "sets batch padded"]:
    """Return the padded rows that others were cut from, or rows padded anew.

    What lies in the padding of those they were cut from is not looked at: zeros, in what layers
    here return.
    """
    batch, sets, width = inputs.shape
    shape = sets, batch, padded(width)
    strides = batch * shape[2], shape[2], 1
    start = inputs.storage_offset()
    end = (start + sets * strides[0]) * inputs.element_size()
    cut = inputs.transpose(0, 1).stride() == strides
    if inputs.dtype == dtype and cut and end <= inputs.untyped_storage().nbytes():
        return inputs.detach().as_strided(shape, strides, start)
    return pad_rows([inputs], inputs.new_empty(1, *shape, dtype=dtype))[0]


def cross_rows(
    x0: Float[Tensor, "own rows padded"],
    x: Float[Tensor, "own rows padded"],
    mapped: Float[Tensor, "own rows padded"],
    bias: Float[Tensor, "own padded"],
    crossed: Float[Tensor, "own rows padded"],
) -> None:
    """Write `x0 * (mapped + bias) + x` to `crossed`. What is padding stays zero."""
    own, rows, width = x0.shape
    numbers = rows * width
    _cross[_blocks(numbers, own)](x0, x, mapped, bias, crossed, numbers, PADDED=width)


def uncross_rows(
    gradient: Float[Tensor, "own rows padded"],
    further: tuple[Float[Tensor, "own rows padded"], Float[Tensor, "own rows padded"]] | None,
    x0: Float[Tensor, "own rows padded"],
    of_mapped: Float[Tensor, "own rows padded"],
    sums: Float[Tensor, "chunks own padded"],
    width: int,
) -> None:
    """Carry the gradient of a cross layer's output to what it mapped, zero in the padding.

    Args:
        gradient: Its way past the layers that follow; what is padding may be anything.
        further: What came through the next layer's map, and where its sum with `gradient` goes;
            `None` for the last layer.
        x0: What the first layer read.
        of_mapped: Filled.
        sums: Filled with sums of that over parts of the rows.
        width: Numbers of a row before the padding.
    """
    own, rows, padding = x0.shape
    added, whole = further or (None, None)
    grid = triton.cdiv(padding, TILE_COLUMNS.value), chunks(rows, own), own
    shape = {"WIDTH": width, "PADDED": padding, "CHUNK": chunk(rows, own)}
    _uncross[grid]((gradient, added, x0), (whole, of_mapped, sums), rows, **shape)


def sum_of_start(
    gradients: tuple[Float[Tensor, "own rows padded"], Float[Tensor, "others own rows padded"]],
    added: Float[Tensor, "own rows padded"],
    mapped: Float[Tensor, "layers own rows padded"],
    biases: Float[Tensor, "layers own padded"],
    of_x0: Float[Tensor, "sets batch width_or_padded"],
    width: int,
) -> None:
    """Fill the gradient of x0 from those of the output of every layer.

    Args:
        gradients: Of the last layer's output, and of those before it in their order.
        added: What came through the first layer's map.
        mapped: What every layer mapped, without the bias.
        biases: Of every layer.
        of_x0: Filled; contiguous. Its rows end with the width, or are padded with zeros.
        width: Numbers of a row before the padding.
    """
    layers, own, rows, padding = mapped.shape
    numbers = rows * padding
    sources = (*gradients, added, mapped, biases)
    shape = {"WIDTH": width, "TAKEN": of_x0.shape[2], "PADDED": padding, "LAYERS": layers}
    _sum_of_start[_blocks(numbers, own)](sources, of_x0, numbers, **shape)


def _blocks(numbers: int, own: int) -> tuple[int, int]:
    return triton.cdiv(numbers, BLOCK.value), own


# A program's place in memory is one number of 64 bits; what is added to it for each number that
# the program takes has 32.
@triton.jit
@no_type_check
def _place(numbers, PADDED: tl.constexpr):
    """Return a program's first number of those of a set, and row and column from its row on."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    place = tl.arange(0, BLOCK)
    inside = place < tl.minimum(numbers - start, BLOCK).to(tl.int32)
    number = (start % PADDED).to(tl.int32) + place
    # Said to the compiler, which then reads several biases at once.
    column = tl.max_contiguous(tl.multiple_of(number % PADDED, TOGETHER), TOGETHER)
    return start, place, inside, number // PADDED, column


@triton.jit
@no_type_check
def _pad(
    inputs, strides, out, sizes, WIDTH: tl.constexpr, PADDED: tl.constexpr, PARTS: tl.constexpr
):
    batch, numbers = sizes
    start, place, inside, row, column = _place(numbers, PADDED)
    m, sets = tl.program_id(1).to(tl.int64), tl.num_programs(1)
    first = start // PADDED
    known = inside & (column < WIDTH) & (row < tl.minimum(batch - first, BLOCK).to(tl.int32))
    for part in tl.static_range(PARTS):
        of_batch, of_set, of_column = strides[part]
        offset = row.to(tl.int64) * of_batch + column.to(tl.int64) * of_column
        source = inputs[part] + (m * of_set + first * of_batch)
        number = tl.load(source + offset, mask=known, other=0.0)
        tl.store(out + ((part * sets + m) * numbers + start) + place, number, mask=inside)


@triton.jit
@no_type_check
def _cross(x0, x, mapped, bias, crossed, numbers, PADDED: tl.constexpr):
    start, place, inside, _, column = _place(numbers, PADDED)
    m = tl.program_id(1).to(tl.int64)
    first = m * numbers + start
    shift = tl.load(bias + m * PADDED + column)
    from_start = tl.load(x0 + first + place, mask=inside).to(tl.float32)
    before = tl.load(x + first + place, mask=inside).to(tl.float32)
    number = tl.load(mapped + first + place, mask=inside).to(tl.float32)
    tl.store(crossed + first + place, from_start * (number + shift) + before, mask=inside)


@triton.jit
@no_type_check
def _uncross(
    tensors, results, rows, WIDTH: tl.constexpr, PADDED: tl.constexpr, CHUNK: tl.constexpr
):
    gradient, added, x0 = tensors
    whole, of_mapped, sums = results
    m = tl.program_id(2).to(tl.int64)
    first = tl.program_id(1).to(tl.int64) * CHUNK
    column = tl.program_id(0) * TILE_COLUMNS + tl.arange(0, TILE_COLUMNS)
    place = tl.arange(0, TILE_ROWS)[:, None] * PADDED + column[None, :]
    total = tl.zeros((TILE_ROWS, TILE_COLUMNS), dtype=tl.float32)
    for done in range(0, CHUNK, TILE_ROWS):
        here = (m * rows + first + done) * PADDED
        left = (rows - first - done).to(tl.int32)
        inside = (tl.arange(0, TILE_ROWS) < left)[:, None] & (column < PADDED)[None, :]
        slope = tl.load(gradient + here + place, mask=inside, other=0.0).to(tl.float32)
        if added is not None:
            slope += tl.load(added + here + place, mask=inside, other=0.0).to(tl.float32)
            tl.store(whole + here + place, slope, mask=inside)
        slope *= tl.load(x0 + here + place, mask=inside, other=0.0).to(tl.float32)
        slope = tl.where((column < WIDTH)[None, :], slope, 0.0)
        tl.store(of_mapped + here + place, slope, mask=inside)
        total += slope
    part = (tl.program_id(1) * tl.num_programs(2) + tl.program_id(2)).to(tl.int64) * PADDED
    tl.store(sums + part + column, tl.sum(total, 0), mask=column < PADDED)


@triton.jit
@no_type_check
def _sum_of_start(
    sources,
    of_x0,
    numbers,
    WIDTH: tl.constexpr,
    TAKEN: tl.constexpr,
    PADDED: tl.constexpr,
    LAYERS: tl.constexpr,
):
    last, others, added, mapped, biases = sources
    start, place, inside, row, column = _place(numbers, PADDED)
    m, own = tl.program_id(1).to(tl.int64), tl.num_programs(1)
    first = m * numbers + start
    total = tl.load(added + first + place, mask=inside).to(tl.float32)
    for layer in tl.static_range(LAYERS):
        of_layer = (layer * own + m) * numbers + start
        if layer == LAYERS - 1:
            slope = tl.load(last + first + place, mask=inside).to(tl.float32)
        else:
            slope = tl.load(others + of_layer + place, mask=inside).to(tl.float32)
        if layer == 0:
            total += slope
        number = tl.load(mapped + of_layer + place, mask=inside).to(tl.float32)
        shift = tl.load(biases + (layer * own + m) * PADDED + column)
        total += slope * (number + shift)
    if TAKEN == PADDED:
        total = tl.where(column < WIDTH, total, 0.0)
        tl.store(of_x0 + first + place, total, mask=inside)
    else:
        of_x0 += (m * (numbers // PADDED) + start // PADDED) * WIDTH
        tl.store(of_x0 + row * WIDTH + column, total, mask=inside & (column < WIDTH))
