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
        stop = min(start + tile, len(rows))
        for position in range(start, stop):
            for column in range(columns):
                copies[0][position, column] = values[rows[position], column]
                copies[1][position, column] = moments[rows[position], 0, column]
                copies[2][position, column] = moments[rows[position], 1, column]
        _replay(
            copies[0][start:stop].reshape(-1),
            copies[1][start:stop].reshape(-1),
            copies[2][start:stop].reshape(-1),
            last[start:stop],
            schedule,
        )


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
        _decay(
            values, first, second, done * columns, begun * columns, rate[step], floor[step], decay
        )
        if step % WINDOW == 0:
            _settle(values, first, done * columns, begun * columns, decay)
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
def _decay(values, first, second, start, stop, rate, floor, decay):
    """Take numbers through a step with no gradient but the weight decay."""
    for i in range(start, stop):
        gradient = decay * values[i]
        mean = first[i] + GAIN1 * (gradient - first[i])
        square = second[i] + GAIN2 * (gradient * gradient - second[i])
        values[i] -= rate * mean / (np.sqrt(square) + floor)
        first[i] = mean
        second[i] = square


@compiled
@no_type_check
def _settle(values, first, start, stop, decay):
    """Set to zero what can only decay, and is faint."""
    for i in range(start, stop):
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
    start, stop = share * len(rows) // shares, (share + 1) * len(rows) // shares
    _learn(
        copies[0][start:stop].reshape(-1),
        copies[1][start:stop].reshape(-1),
        copies[2][start:stop].reshape(-1),
        gradients[start:stop].reshape(-1),
        rate[-1],
        floor[-1],
        decay,
    )
    store(share, shares, table, rows, copies, len(rate) - 1)


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
    values, moments, last = table
    for position in range(share * len(rows) // shares, (share + 1) * len(rows) // shares):
        row = rows[position]
        last[row] = step
        for column in range(values.shape[1]):
            values[row, column] = copies[0][position, column]
            moments[row, 0, column] = copies[1][position, column]
            moments[row, 1, column] = copies[2][position, column]
