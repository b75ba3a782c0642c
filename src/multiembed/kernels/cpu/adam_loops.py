"""Adam on copies of a few rows: the steps they missed, and the one they take. Compiled, for CPU.

All numbers are float32. Threads never share a row, and what a row becomes does not depend on their
number. Compiled functions carry no annotations: numba sees the types of each call.
"""

# ruff: noqa: ANN001, ANN202, ANN201

import math
from typing import no_type_check

import numpy as np

from multiembed.base.loops import compiled
from multiembed.tables.schedule import BETA1, BETA2

TILE = 1024
"""Numbers that go through time together: few enough for the nearest cache, enough for vectors."""
DOUBLINGS = 5
WINDOW = 1 << DOUBLINGS
"""Steps between two looks for numbers that can only decay, and taken at once in fast-forward."""
FORGOTTEN = 128
"""Steps after which a gradient's share in the first moment is below 2e-6."""
LEVEL = np.float32(0.01)
"""Change of the schedule within a window that fast-forward accepts."""
STEEP = np.float32(0.1)
"""Squared gradient of the weight decay, in second moments, that fast-forward accepts: a window adds
3% of it to the second moment."""
FAINT_VALUE = np.float32(1e-15)
FAINT_MOMENT = np.float32(1e-21)
"""A parameter and a first moment below these are set to zero: without new gradients they would
decay, and at a learning rate of 1e-3 all that they could still move is below 1e-14."""
LOG_BETA2 = math.log(BETA2)

# Moments move by a share of their distance to the new value. Multiplied by float32(BETA2) instead,
# as torch does, a second moment would be wrong by 1.3e-8 of itself at each step.
GAIN1 = np.float32(1 - BETA1)
GAIN2 = np.float32(1 - BETA2)
ONE, TWO = np.float32(1), np.float32(2)  # beside integers, numba computes in float64
WINDOW_GAIN2 = np.float32(1 - BETA2**WINDOW)
MIDDLE_GAIN2 = np.float32(1 - BETA2 ** ((WINDOW + 1) / 2))  # the mean of steps 1 to WINDOW


@compiled
@no_type_check
def load_and_replay(share, shares, table, rows, last, copies, schedule):
    """Copy rows, sorted by lag, and take the copies through the steps they missed."""
    values, moments, _ = table
    columns = values.shape[1]
    tile = max(1, TILE // columns)
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
    rate, floor, decay, fast = schedule
    now = len(rate) - 1
    columns = len(values) // len(last)
    numbers = values, first, second
    begun = done = 0  # rows before `begun` have joined, rows before `done` need no more steps
    step = last[0] + 1
    while step <= now:
        stop = min((step - 1) // WINDOW * WINDOW + WINDOW, now) + 1
        ahead = done  # rows before it go through the window at once
        if fast and _is_smooth(rate[step:stop], floor[step:stop]):
            ahead = _fast_forward(numbers, last, done, step, schedule)
        for at in range(step, stop):
            while begun < len(last) and last[begun] < at:
                begun += 1
            part = slice(ahead * columns, begun * columns)
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
        share = np.float32(math.exp(LOG_BETA2 * remaining))
        second[done * columns : (done + 1) * columns] *= share
        done += 1
    return done


@compiled
@no_type_check
def _fast_forward(numbers, last, done, step, schedule):
    """Take rows that lag far through the window from `step`; return the first that was not."""
    values, first, second = numbers
    rate, floor, decay, _ = schedule
    columns = len(values) // len(last)
    ahead = done
    while ahead < len(last) and last[ahead] < step - FORGOTTEN:
        ahead += 1
    part = slice(done * columns, ahead * columns)
    middle = slice(step + WINDOW // 2 - 1, step + WINDOW // 2 + 1)
    level = rate[middle].mean(), floor[middle].mean()
    return ahead if _glide(values[part], first[part], second[part], level, decay) else done


@compiled
@no_type_check
def _is_smooth(rate, floor):
    """Whether this is a whole window, and the schedule is level over it."""
    if len(rate) < WINDOW:
        return False
    uneven = 0
    for i in range(len(rate)):
        uneven += abs(rate[i] - rate[0]) > LEVEL * rate[0]
        uneven += abs(floor[i] - floor[0]) > LEVEL * floor[0]
    return uneven == 0


@compiled
@no_type_check
def _glide(values, first, second, level, decay):
    """Take numbers through a window in one go, with its middle's denominator; or say no.

    A step maps (first moment, value) by a matrix I + B that depends on nothing but that
    denominator. B, which is small, is kept instead of the matrix: (I + B)^2 = I + (2 B + B^2).
    """
    rate, floor = level
    steep = 0
    for i in range(len(values)):
        gradient = decay * values[i]
        steep += gradient * gradient > STEEP * (second[i] + floor * floor)
    if steep > 0:
        return False
    for i in range(len(values)):
        value, mean, square = values[i], first[i], second[i]
        gradient = decay * value
        middle = square + MIDDLE_GAIN2 * (gradient * gradient - square)
        stride = rate / (np.sqrt(middle) + floor)
        kept, fed = -GAIN1, GAIN1 * decay
        moved, shrunk = -stride * (ONE - GAIN1), -stride * GAIN1 * decay
        for _ in range(DOUBLINGS):
            cross, growth = fed * moved, TWO + kept + shrunk
            kept = kept * (TWO + kept) + cross
            shrunk = shrunk * (TWO + shrunk) + cross
            fed *= growth
            moved *= growth
        values[i] = value + (moved * mean + shrunk * value)
        first[i] = mean + (kept * mean + fed * value)
        second[i] = square + WINDOW_GAIN2 * (gradient * gradient - square)
    return True


@compiled
@no_type_check
def _decay(values, first, second, rate, floor, decay):
    """Take numbers through a step with no gradient but the weight decay."""
    for i in range(len(values)):
        gradient = decay * values[i]
        mean = first[i] + GAIN1 * (gradient - first[i])
        square = second[i] + GAIN2 * (gradient * gradient - second[i])
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
def step_and_store(share, shares, table, rows, copies, gradients, schedule):
    """Take copies through the step that their gradients were made for, and write them back."""
    rate, floor, decay, _ = schedule
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
        mean = first[i] + GAIN1 * (gradient - first[i])
        square = second[i] + GAIN2 * (gradient * gradient - second[i])
        values[i] -= rate * mean / (np.sqrt(square) + floor)
        first[i] = mean
        second[i] = square


@compiled
@no_type_check
def store(share, shares, table, rows, copies, step):
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
