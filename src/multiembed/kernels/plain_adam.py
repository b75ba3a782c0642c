"""Adam on rows of a table in plain torch, for any device and precision.

Many small operations on few rows would be slow here, so every row of the table is brought up to
date at every lookup: dense Adam's work, without a dense gradient.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from multiembed.tables.adam_table import AdamTable, RowCopies
from multiembed.tables.schedule import BETA1, BETA2

CHUNK = 1 << 24
"""Numbers copied at once."""


def load_rows(
    table: AdamTable, rows: Int[Tensor, " touched"], last: Int[Tensor, " touched"]
) -> RowCopies:
    """Return copies of rows, brought up to date."""
    if bool((last < table.schedule.step).any()):
        bring_up_to_date(table)
    return _copies(table, rows)


def step_rows(
    table: AdamTable,
    rows: Int[Tensor, " touched"],
    copies: RowCopies,
    gradients: Float[Tensor, "touched columns"],
) -> None:
    """Take rows through the schedule's last step with these gradients."""
    _step_rows(table, rows, copies, gradients, table.schedule.step)


def bring_up_to_date(table: AdamTable) -> None:
    """Take every row through the steps it missed."""
    rows, columns = table.values.shape
    chunk = max(1, CHUNK // columns)
    for step in range(int(table.last.min()) + 1, table.schedule.step + 1):
        for start in range(0, rows, chunk):
            stale = table.stale(start, start + chunk, step)
            copies = _copies(table, stale)
            _step_rows(table, stale, copies, torch.zeros_like(copies.values), step)


def _copies(table: AdamTable, rows: Int[Tensor, " touched"]) -> RowCopies:
    return RowCopies(table.values[rows], table.moments[rows, 0], table.moments[rows, 1])


def _step_rows(
    table: AdamTable,
    rows: Int[Tensor, " touched"],
    copies: RowCopies,
    gradients: Float[Tensor, "touched columns"],
    step: int,
) -> None:
    values, first, second = copies
    rate, floor = (float(series[step]) for series in (table.schedule.rate, table.schedule.floor))
    gradients = gradients + table.weight_decay * values
    first += (1 - BETA1) * (gradients - first)
    second += (1 - BETA2) * (gradients * gradients - second)
    table.values[rows] = values - rate * first / (second.sqrt() + floor)
    table.moments[rows, 0] = first
    table.moments[rows, 1] = second
    table.last[rows] = step
