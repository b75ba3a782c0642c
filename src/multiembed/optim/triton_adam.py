"""Adam on rows of a float32 table on a GPU, with kernels in Triton.

One pass replays the steps that a batch's rows missed and copies them, another updates and writes
back. Replay is always exact: what fast-forward would save is little beside reading the rows.
"""

# ruff: noqa: ANN001, ANN202

import math
from typing import no_type_check

import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from jaxtyping import Float, Int
from torch import Tensor

from multiembed.optim import adam_kernels
from multiembed.optim.adam_table import AdamTable, RowCopies
from multiembed.optim.schedule import BETA1, BETA2

BLOCK = tl.constexpr(256)
"""Numbers that go through time together. Rows come sorted by lag, so those of a block missed about
as many steps."""
CHUNK = 1 << 26
"""Numbers copied at once when the whole table is brought up to date."""

# Kernels see only such constants of their module; adam_kernels says what they mean.
GAIN1, GAIN2 = tl.constexpr(1 - BETA1), tl.constexpr(1 - BETA2)
LOG_BETA2 = tl.constexpr(math.log(BETA2))
WINDOW = tl.constexpr(adam_kernels.WINDOW)
FAINT_VALUE = tl.constexpr(float(adam_kernels.FAINT_VALUE))
FAINT_MOMENT = tl.constexpr(float(adam_kernels.FAINT_MOMENT))


def load_rows(
    table: AdamTable, rows: Int[Tensor, " touched"], last: Int[Tensor, " touched"]
) -> RowCopies:
    """Return copies of rows, brought up to date. Those that lag most should come first."""
    columns = table.values.shape[1]
    copies = RowCopies(*table.values.new_empty(3, len(rows), columns))
    numbers = copies.values.numel()
    _load_and_replay[(triton.cdiv(numbers, BLOCK.value),)](  # pyright: ignore[reportIndexIssue]
        (table.values, table.moments),
        rows,
        last,
        tuple(copies),
        _schedule(table),
        table.schedule.step,
        numbers,
        COLUMNS=columns,
    )
    return copies


def step_rows(
    table: AdamTable,
    rows: Int[Tensor, " touched"],
    copies: RowCopies,
    gradients: Float[Tensor, "touched columns"],
) -> None:
    """Take rows through the schedule's last step with these gradients."""
    numbers = gradients.numel()
    _step_and_store[(triton.cdiv(numbers, BLOCK.value),)](  # pyright: ignore[reportIndexIssue]
        (table.values, table.moments, table.last),
        rows,
        tuple(copies),
        gradients.contiguous(),
        _schedule(table),
        table.schedule.step,
        numbers,
        COLUMNS=table.values.shape[1],
    )


def bring_up_to_date(table: AdamTable) -> None:
    """Take every row through the steps it missed."""
    rows, columns = table.values.shape
    chunk = max(1, CHUNK // columns)
    now = table.schedule.step
    for start in range(0, rows, chunk):
        stale = table.stale(start, start + chunk, now)
        last, order = table.last[stale].sort(stable=True)
        stale = stale[order]
        copies = load_rows(table, stale, last)
        table.values[stale] = copies.values
        table.moments[stale] = torch.stack([copies.first, copies.second], dim=1)
        table.last[stale] = now


def _schedule(table: AdamTable) -> tuple[Tensor, Tensor, float]:
    rates, floors = table.schedule.on(table.values.device)
    return rates, floors, table.weight_decay


@triton.jit(do_not_specialize=["now", "numbers"])
@no_type_check
def _load_and_replay(table, rows, last, copies, schedule, now, numbers, COLUMNS: tl.constexpr):
    values, moments = table
    rates, floors, decay = schedule
    to_values, to_first, to_second = copies
    number = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = number < numbers
    position, column = number // COLUMNS, number % COLUMNS
    row = tl.load(rows + position, mask=inside, other=0).to(tl.int64)
    value = tl.load(values + row * COLUMNS + column, mask=inside, other=0.0)
    first = tl.load(moments + row * 2 * COLUMNS + column, mask=inside, other=0.0)
    second = tl.load(moments + (row * 2 + 1) * COLUMNS + column, mask=inside, other=0.0)
    stands = tl.load(last + position, mask=inside, other=2147483647)
    stands = tl.minimum(stands, now)  # what lies outside misses no step
    step = tl.min(stands) + 1
    while step <= now:
        behind = stands < step
        gradient = decay * value
        mean = first + GAIN1 * (gradient - first)
        square = second + GAIN2 * (gradient * gradient - second)
        stride = tl.load(rates + step) * mean
        moved = value - tl.div_rn(stride, tl.sqrt_rn(square) + tl.load(floors + step))
        value = tl.where(behind, moved, value)
        first = tl.where(behind, mean, first)
        second = tl.where(behind, square, second)
        if step % WINDOW == 0:
            # What can only decay and is faint becomes zero; what stands still is finished.
            faint = behind & (tl.abs(first) < FAINT_MOMENT)
            faint = faint & ((decay == 0) | (tl.abs(value) < FAINT_VALUE))
            first = tl.where(faint, 0.0, first)
            value = tl.where(faint & (decay != 0), 0.0, value)
            still = behind & (first == 0) & (decay * value == 0)
            share = tl.exp((now - step).to(tl.float64) * LOG_BETA2).to(tl.float32)
            second = tl.where(still, second * share, second)
            stands = tl.where(still, now, stands)
            step = tl.maximum(step, tl.min(stands))
        step += 1
    tl.store(to_values + number, value, mask=inside)
    tl.store(to_first + number, first, mask=inside)
    tl.store(to_second + number, second, mask=inside)


@triton.jit(do_not_specialize=["step", "numbers"])
@no_type_check
def _step_and_store(table, rows, copies, gradients, schedule, step, numbers, COLUMNS: tl.constexpr):
    values, moments, last = table
    rates, floors, decay = schedule
    of_values, of_first, of_second = copies
    number = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = number < numbers
    position, column = number // COLUMNS, number % COLUMNS
    row = tl.load(rows + position, mask=inside, other=0).to(tl.int64)
    value = tl.load(of_values + number, mask=inside, other=0.0)
    first = tl.load(of_first + number, mask=inside, other=0.0)
    second = tl.load(of_second + number, mask=inside, other=0.0)
    gradient = tl.load(gradients + number, mask=inside, other=0.0) + decay * value
    mean = first + GAIN1 * (gradient - first)
    square = second + GAIN2 * (gradient * gradient - second)
    stride = tl.load(rates + step) * mean
    moved = value - tl.div_rn(stride, tl.sqrt_rn(square) + tl.load(floors + step))
    tl.store(values + row * COLUMNS + column, moved, mask=inside)
    tl.store(moments + row * 2 * COLUMNS + column, mean, mask=inside)
    tl.store(moments + (row * 2 + 1) * COLUMNS + column, square, mask=inside)
    tl.store(last + row, step, mask=inside & (column == 0))
