"""What Deferred Adam does to a table on a GPU, row by row, in Triton.

A batch's ids are sorted; a *piece* is a run of equal ones, cut at every so many ids, so
that no program has much more to do than another. A row belongs to the first of its pieces, its
*head*. Programs take pieces in turns; how many there are only the device knows, so that no step
waits for it.
"""

# ruff: noqa: ANN001, ANN201, ANN202

import math
from typing import no_type_check

import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]

from multiembed.kernels import adam_rows
from multiembed.kernels.adam_rows import BETA1, BETA2

LOOK = tl.constexpr(8)
"""Gradients, or pieces, that are on their way at the same time."""

# Kernels see only such constants of their module; adam_rows says what they mean.
_GAIN1, _GAIN2 = tl.constexpr(1 - BETA1), tl.constexpr(1 - BETA2)
_LOG_BETA2 = tl.constexpr(math.log(BETA2))
_WINDOW = tl.constexpr(adam_rows.WINDOW)
_FAINT_VALUE = tl.constexpr(float(adam_rows.FAINT_VALUE))
_FAINT_MOMENT = tl.constexpr(float(adam_rows.FAINT_MOMENT))


@triton.jit(do_not_specialize=["rows"])
@no_type_check
def replay_all(table, schedule, rows, COLUMNS: tl.constexpr, BLOCK: tl.constexpr):
    """Take every row through the steps it missed."""
    row = tl.program_id(0).to(tl.int64)
    if row < rows:
        _replay(row, table, schedule, COLUMNS, BLOCK)


@triton.jit(do_not_specialize=["ids"])
@no_type_check
def mark_pieces(keys, begins, ids, LONGEST: tl.constexpr, BLOCK: tl.constexpr):
    """Say where a piece begins."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    key = tl.load(keys + place, mask=place < ids)
    before = tl.load(keys + place - 1, mask=(place > 0) & (place < ids), other=-1)
    marks = (place % LONGEST == 0) | (key != before)
    tl.store(begins + place, marks.to(tl.int32), mask=place < ids)


@triton.jit(do_not_specialize=["ids"])
@no_type_check
def note_pieces(begins, numbers, starts, ids, BLOCK: tl.constexpr):
    """Note where every piece begins, and behind the last one where it ends."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    number = tl.load(numbers + place, mask=place < ids, other=0)
    begin = tl.load(begins + place, mask=place < ids, other=0) != 0
    tl.store(starts + number - 1, place, mask=begin)
    tl.store(starts + number, place + 1, mask=place == ids - 1)


@triton.jit
@no_type_check
def replay_pieces(pieces, table, schedule, COLUMNS: tl.constexpr, BLOCK: tl.constexpr):
    """Take the rows of a batch through the steps they missed."""
    for piece in range(tl.program_id(0), tl.load(pieces[3]), tl.num_programs(0)):
        row = _head(pieces, piece)
        if row >= 0:
            _replay(row, table, schedule, COLUMNS, BLOCK)


@triton.jit
@no_type_check
def step_pieces(pieces, table, sums, schedule, COLUMNS: tl.constexpr, BLOCK: tl.constexpr):
    """Take the rows of a batch, which miss no step, through the next one."""
    values, moments, last = table
    rates, floors, clock, decay = schedule
    step = tl.load(clock) + 1
    for piece in range(tl.program_id(0), tl.load(pieces[3]), tl.num_programs(0)):
        row = _head(pieces, piece)
        if row >= 0:
            for start in tl.static_range(0, COLUMNS, BLOCK):
                column = start + tl.arange(0, BLOCK)
                inside = column < COLUMNS
                at = row * COLUMNS + column
                moment = at + row * COLUMNS
                value = tl.load(values + at, mask=inside, other=0.0)
                first = tl.load(moments + moment, mask=inside, other=0.0)
                second = tl.load(moments + moment + COLUMNS, mask=inside, other=0.0)
                total = sums + tl.cast(piece, tl.int64) * COLUMNS + column
                gradient = tl.load(total, mask=inside, other=0.0) + decay * value
                mean, square = _means(first, second, gradient)
                moved = _moved(value, mean, square, rates, floors, step)
                tl.store(values + at, moved, mask=inside)
                tl.store(moments + moment, mean, mask=inside)
                tl.store(moments + moment + COLUMNS, square, mask=inside)
            tl.store(last + row, step)


@triton.jit(do_not_specialize=["batch"])
@no_type_check
def read_rows(
    rows,
    values,
    to,
    batch,
    FIELDS: tl.constexpr,
    SETS: tl.constexpr,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
):
    """Lay out the rows of one record as its embeddings in every set, with zeros behind them."""
    record = tl.program_id(0).to(tl.int64)
    for start in tl.static_range(0, PADDED, 512):
        number = start + tl.arange(0, 512)
        known = number < FIELDS * WIDTH
        row = tl.load(rows + record * FIELDS + number // WIDTH, mask=known, other=0).to(tl.int64)
        for m in range(SETS):
            column = m * WIDTH + number % WIDTH
            value = tl.load(values + row * (SETS * WIDTH) + column, mask=known, other=0.0)
            tl.store(to + (m * batch + record) * PADDED + number, value, mask=number < PADDED)


@triton.jit
@no_type_check
def sum_pieces(
    pieces,
    gradient,
    strides,
    sums,
    FIELDS: tl.constexpr,
    SETS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Add up the gradients of every piece."""
    starts, _, order, count = pieces
    of_record, of_set, of_field, of_number = strides
    for piece in range(tl.program_id(0), tl.load(count), tl.num_programs(0)):
        start, stop = tl.load(starts + piece), tl.load(starts + piece + 1)
        for first in tl.static_range(0, SETS * WIDTH, BLOCK):
            column = first + tl.arange(0, BLOCK)
            inside = column < SETS * WIDTH
            from_column = (column // WIDTH).to(tl.int64) * of_set + column % WIDTH * of_number
            total = tl.zeros([BLOCK], tl.float32)
            for at in range(start, stop, LOOK):
                place = at + tl.arange(0, LOOK)
                here = place < stop
                which = tl.load(order + place, mask=here, other=0).to(tl.int32)
                record, field = (which // FIELDS).to(tl.int64), which % FIELDS
                from_id = record * of_record + field * of_field
                number = gradient + from_id[:, None] + from_column[None, :]
                part = tl.load(number, here[:, None] & inside[None, :], other=0.0)
                total += tl.sum(part.to(tl.float32), axis=0)
            to = sums + tl.cast(piece, tl.int64) * SETS * WIDTH + column
            tl.store(to, total, mask=inside)


@triton.jit
@no_type_check
def merge_pieces(pieces, sums, COLUMNS: tl.constexpr, BLOCK: tl.constexpr):
    """Give the head of every row the sum of all its pieces; the others become zero."""
    for piece in range(tl.program_id(0), tl.load(pieces[3]), tl.num_programs(0)):
        row = _head(pieces, piece)
        if row >= 0:
            # Most rows have one piece, which is their sum as it is.
            other = piece + 1
            more = _same_row(pieces, other, row)
            while tl.max(more.to(tl.int32)) > 0:
                place = (other + tl.arange(0, LOOK)).to(tl.int64)
                for first in tl.static_range(0, COLUMNS, BLOCK):
                    column = first + tl.arange(0, BLOCK)
                    inside = column < COLUMNS
                    mask = more[:, None] & inside[None, :]
                    at = sums + place[:, None] * COLUMNS + column[None, :]
                    part = tl.sum(tl.load(at, mask, other=0.0), axis=0)
                    tl.store(at, tl.zeros([LOOK, BLOCK], tl.float32), mask)
                    head = sums + tl.cast(piece, tl.int64) * COLUMNS + column
                    tl.store(head, tl.load(head, mask=inside, other=0.0) + part, mask=inside)
                other += LOOK
                # Behind one that is another row's, all are.
                more = more & _same_row(pieces, other, row)


@triton.jit
@no_type_check
def _same_row(pieces, first, row):
    """Say which of the pieces from `first` on are of this row."""
    starts, keys, _, count = pieces
    piece = first + tl.arange(0, LOOK)
    there = piece < tl.load(count)
    start = tl.load(starts + piece, mask=there, other=0)
    return there & (tl.load(keys + start) == row)


@triton.jit
@no_type_check
def _head(pieces, piece):
    """Return the row that a piece is the head of, or -1."""
    starts, keys, _, _ = pieces
    start = tl.load(starts + piece)
    row = tl.load(keys + start)
    before = tl.load(keys + start - 1, mask=start > 0, other=-1)
    return tl.where(row == before, -1, row).to(tl.int64)


@triton.jit
@no_type_check
def _replay(row, table, schedule, COLUMNS: tl.constexpr, BLOCK: tl.constexpr):
    """Take one row through the steps it missed."""
    values, moments, last = table
    rates, floors, clock, decay = schedule
    now, stands = tl.load(clock), tl.load(last + row)
    if stands < now:
        for start in tl.static_range(0, COLUMNS, BLOCK):
            column = start + tl.arange(0, BLOCK)
            inside = column < COLUMNS
            at = row * COLUMNS + column
            moment = at + row * COLUMNS
            value = tl.load(values + at, mask=inside, other=0.0)
            first = tl.load(moments + moment, mask=inside, other=0.0)
            second = tl.load(moments + moment + COLUMNS, mask=inside, other=0.0)
            step = stands + 1
            while step <= now:
                first, second = _means(first, second, decay * value)
                value = _moved(value, first, second, rates, floors, step)
                if step % _WINDOW == 0:
                    # What can only decay and is faint becomes zero.
                    faint = tl.abs(first) < _FAINT_MOMENT
                    faint = faint & ((decay == 0) | (tl.abs(value) < _FAINT_VALUE))
                    first = tl.where(faint, 0.0, first)
                    value = tl.where(faint & (decay != 0), 0.0, value)
                    moving = (first != 0) | (decay * value != 0)
                    if tl.max(moving.to(tl.int32)) == 0:
                        # All stand still, but for the second moment.
                        share = tl.exp((now - step).to(tl.float64) * _LOG_BETA2)
                        second *= share.to(tl.float32)
                        step = now
                step += 1
            tl.store(values + at, value, mask=inside)
            tl.store(moments + moment, first, mask=inside)
            tl.store(moments + moment + COLUMNS, second, mask=inside)
        tl.store(last + row, now)


@triton.jit
@no_type_check
def _means(first, second, gradient):
    """Return the two moments after a gradient."""
    mean = first + _GAIN1 * (gradient - first)
    square = second + _GAIN2 * (gradient * gradient - second)
    return mean, square


@triton.jit
@no_type_check
def _moved(value, mean, square, rates, floors, step):
    """Return a value after a step."""
    # Root and quotient may be off by two units in the last place, of a step: values round more.
    stride = tl.load(rates + step) * mean
    return value - stride / (tl.sqrt(square) + tl.load(floors + step))
