"""Adam on rows of a float32 table on a CPU: the steps they missed, and the one they take, compiled.

All numbers are float32. Threads never share a row, and what a row becomes does not depend on their
number. Compiled functions carry no annotations: numba sees the types of each call.
"""

# ruff: noqa: ANN001, ANN202

import math
from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import override

from multiembed.base.loops import compiled, run_shares
from multiembed.kernels.adam_rows import (
    BETA1,
    BETA2,
    FAINT_MOMENT,
    FAINT_VALUE,
    WINDOW,
    CopiedAdamRows,
    RowCopies,
)
from multiembed.kernels.cpu.cpu_memory import fitting

_CHUNK = 1 << 21
"""Numbers copied at once when the whole table is brought up to date."""
_TILE = 1024
"""Numbers that go through time together: few enough for the nearest cache, enough for vectors."""
_LOG_BETA2 = math.log(BETA2)

# Moments move by a share of their distance to the new value. Multiplied by float32(BETA2) instead,
# as torch does, a second moment would be wrong by 1.3e-8 of itself at each step.
_GAIN1 = np.float32(1 - BETA1)
_GAIN2 = np.float32(1 - BETA2)


class CompiledAdamRows(CopiedAdamRows):
    """`PlainAdamRows` for float32 tables on a CPU, at the cost of the rows touched."""

    @override
    def load(self, rows: Int[Tensor, " touched"], last: Int[Tensor, " touched"]) -> RowCopies:
        copies = RowCopies(*fitting(3, len(rows), self.table.values.shape[1]))
        run_shares(
            _load_and_replay,
            self._arrays(),
            rows.numpy(),
            last.numpy(),
            _as_arrays(copies),
            self._schedule(),
            work=copies.values.numel(),
        )
        return copies

    @override
    def update(
        self,
        rows: Int[Tensor, " touched"],
        copies: RowCopies,
        gradients: Float[Tensor, "touched numbers"],
    ) -> None:
        run_shares(
            _step_and_store,
            self._arrays(),
            rows.numpy(),
            _as_arrays(copies),
            gradients.contiguous().numpy(),
            self._schedule(),
            work=gradients.numel(),
        )

    @override
    def flush(self) -> None:
        rows, numbers = self.table.values.shape
        chunk = max(1, _CHUNK // numbers)
        now = self.table.schedule.step
        for start in range(0, rows, chunk):
            stale = self.table.stale(start, start + chunk, now).to(torch.int32)
            last, order = self.table.last[stale].sort(stable=True)
            stale = stale[order]
            copies = self.load(stale, last)
            run_shares(
                _store_share,
                self._arrays(),
                stale.numpy(),
                _as_arrays(copies),
                now,
                work=copies.values.numel(),
            )

    def _arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        table = self.table
        return table.values.numpy(), table.moments.numpy(), table.last.numpy()

    def _schedule(self) -> tuple[np.ndarray, np.ndarray, np.float32]:
        schedule = self.table.schedule
        return schedule.rate, schedule.floor, np.float32(self.table.weight_decay)


def _as_arrays(copies: RowCopies) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    values, first, second = copies
    return values.numpy(), first.numpy(), second.numpy()


@compiled
@no_type_check
def _load_and_replay(share, shares, table, rows, last, copies, schedule):
    """Copy rows, sorted by lag, and take the copies through the steps they missed."""
    values, moments, _ = table
    columns = values.shape[1]
    tile = max(1, _TILE // columns)
    # Slow rows come first: taking tiles in turns shares them out.
    for start in range(share * tile, len(rows), shares * tile):
        part = slice(start, min(start + tile, len(rows)))
        own_values, own_first, own_second = copies[0][part], copies[1][part], copies[2][part]
        _visit(values, moments, rows[part], own_values)
        _load(values, moments, rows[part], own_values, own_first, own_second)
        flat = own_values.reshape(-1), own_first.reshape(-1), own_second.reshape(-1)
        _replay(flat[0], flat[1], flat[2], last[part], schedule)


@compiled
@no_type_check
def _visit(values, moments, rows, to_values):
    """Read a number of every row: memory answers many such calls at once, which halves `_load`."""
    total = np.float32(0)
    for position in range(len(rows)):
        row = rows[position]
        total += values[row, 0] + moments[row, 0, 0] + moments[row, 1, -1]
    to_values[0, 0] = total  # nobody reads it, but reads whose result goes nowhere are not compiled


@compiled
@no_type_check
def _load(values, moments, rows, to_values, to_first, to_second):
    # Plain loops over views: with two indices in one pair of brackets they take ten times as long.
    columns = values.shape[1]
    for position in range(len(rows)):
        row = rows[position]
        value, first, second = values[row], moments[row, 0], moments[row, 1]
        to_value, to_mean, to_square = to_values[position], to_first[position], to_second[position]
        for column in range(columns):
            to_value[column] = value[column]
        for column in range(columns):
            to_mean[column] = first[column]
        for column in range(columns):
            to_square[column] = second[column]


@compiled
@no_type_check
def _replay(values, first, second, last, schedule):
    """Take the rows of a tile through the steps they missed; they lie one after the other."""
    rate, floor, decay = schedule
    now = len(rate) - 1
    columns = len(values) // len(last)
    numbers = values, first, second
    begun = done = 0  # rows before `begun` have joined, rows before `done` need no more steps
    step = last[0] + 1
    while step <= now:
        stop = min((step - 1) // WINDOW * WINDOW + WINDOW, now) + 1
        for at in range(step, stop):
            while begun < len(last) and last[begun] < at:
                begun += 1
            part = slice(done * columns, begun * columns)
            _decay(values[part], first[part], second[part], rate[at], floor[at], decay)
        step = stop
        if (stop - 1) % WINDOW == 0:
            done = _retire(numbers, done, begun, columns, now + 1 - stop, decay)
            if done == len(last):
                return
            if done == begun:
                step = last[done] + 1


@compiled
@no_type_check
def _retire(numbers, done, begun, columns, remaining, decay):
    """Finish rows that stand still, from the first on, and return the first that does not."""
    values, first, second = numbers
    part = slice(done * columns, begun * columns)
    _settle(values[part], first[part], decay)
    while done < begun and _is_still(values, first, done * columns, columns, decay):
        # float32 would lose the tail of a long product, so the power is taken in float64.
        share = np.float32(math.exp(_LOG_BETA2 * remaining))
        second[done * columns : (done + 1) * columns] *= share
        done += 1
    return done


@compiled
@no_type_check
def _decay(values, first, second, rate, floor, decay):
    """Take numbers through a step with no gradient but the weight decay."""
    for i in range(len(values)):
        gradient = decay * values[i]
        mean = first[i] + _GAIN1 * (gradient - first[i])
        square = second[i] + _GAIN2 * (gradient * gradient - second[i])
        values[i] -= rate * mean / (np.sqrt(square) + floor)
        first[i] = mean
        second[i] = square


@compiled
@no_type_check
def _settle(values, first, decay):
    """Set to zero what can only decay, and is faint."""
    for i in range(len(values)):
        if abs(first[i]) < FAINT_MOMENT and (decay == 0 or abs(values[i]) < FAINT_VALUE):
            first[i] = 0
            if decay != 0:
                values[i] = 0


@compiled
@no_type_check
def _is_still(values, first, start, columns, decay):
    """Whether a row will stay as it is, but for its second moment."""
    moving = False
    for i in range(start, start + columns):
        moving |= first[i] != 0 or decay * values[i] != 0
    return not moving


@compiled
@no_type_check
def _step_and_store(share, shares, table, rows, copies, gradients, schedule):
    """Take copies through the step that their gradients were made for, and write them back."""
    rate, floor, decay = schedule
    part = slice(share * len(rows) // shares, (share + 1) * len(rows) // shares)
    values, first, second = copies[0][part], copies[1][part], copies[2][part]
    flat = values.reshape(-1), first.reshape(-1), second.reshape(-1)
    _learn(flat[0], flat[1], flat[2], gradients[part].reshape(-1), rate[-1], floor[-1], decay)
    _store(table, rows[part], values, first, second, len(rate) - 1)


@compiled
@no_type_check
def _learn(values, first, second, gradients, rate, floor, decay):
    for i in range(len(values)):
        gradient = gradients[i] + decay * values[i]
        mean = first[i] + _GAIN1 * (gradient - first[i])
        square = second[i] + _GAIN2 * (gradient * gradient - second[i])
        values[i] -= rate * mean / (np.sqrt(square) + floor)
        first[i] = mean
        second[i] = square


@compiled
@no_type_check
def _store_share(share, shares, table, rows, copies, step):
    """Write copies back, as of `step`."""
    part = slice(share * len(rows) // shares, (share + 1) * len(rows) // shares)
    _store(table, rows[part], copies[0][part], copies[1][part], copies[2][part], step)


@compiled
@no_type_check
def _store(table, rows, values, firsts, seconds, step):
    to_values, moments, last = table
    columns = values.shape[1]
    for position in range(len(rows)):
        row = rows[position]
        last[row] = step
        value, first, second = values[position], firsts[position], seconds[position]
        to_value, to_first, to_second = to_values[row], moments[row, 0], moments[row, 1]
        for column in range(columns):
            to_value[column] = value[column]
        for column in range(columns):
            to_first[column] = first[column]
        for column in range(columns):
            to_second[column] = second[column]
