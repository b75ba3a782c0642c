"""Adam on copies of a few rows: the steps they missed, and the one they take. Compiled, for CPU.

All numbers are float32. Threads never share a row, and what a row becomes does not depend on their
number. Compiled functions carry no annotations: numba sees the types of each call.
"""

# ruff: noqa: ANN001, ANN202, ANN201

import math
from typing import no_type_check

import numpy as np

from multiembed.optim.compiling import compiled
from multiembed.optim.schedule import BETA1, BETA2

TILE = 1024
"""Numbers that go through time together: few enough for the nearest cache, enough for vectors."""
WINDOW = 32
"""Steps between two looks for numbers that can only decay; a power of two."""
FAINT_VALUE = np.float32(1e-20)
FAINT_MOMENT = np.float32(1e-26)
"""A parameter and a first moment below these are set to zero: without new gradients they would
decay, and all that they could still move is below 1e-18."""
LOG_BETA2 = math.log(BETA2)

# Moments move by a share of their distance to the new value. Multiplied by float32(BETA2) instead,
# as torch does, a second moment would be wrong by 1.3e-8 of itself at each step.
GAIN1 = np.float32(1 - BETA1)
GAIN2 = np.float32(1 - BETA2)


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
        _load(values, moments, rows[part], own_values, own_first, own_second)
        flat = own_values.reshape(-1), own_first.reshape(-1), own_second.reshape(-1)
        _replay(flat[0], flat[1], flat[2], last[part], schedule)


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
    begun = done = 0  # rows before `begun` have joined, rows before `done` need no more steps
    step = last[0] + 1
    while step <= now:
        while begun < len(last) and last[begun] < step:
            begun += 1
        moving = slice(done * columns, begun * columns)
        _decay(values[moving], first[moving], second[moving], rate[step], floor[step], decay)
        if step % WINDOW == 0:
            _settle(values[moving], first[moving], decay)
            while done < begun and _is_still(values, first, done * columns, columns, decay):
                # float32 would lose the tail of a long product, so the power is taken in float64.
                remaining = np.float32(math.exp(LOG_BETA2 * (now - step)))
                second[done * columns : (done + 1) * columns] *= remaining
                done += 1
            if done == len(last):
                return
        step = step + 1 if done < begun else last[done] + 1


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
