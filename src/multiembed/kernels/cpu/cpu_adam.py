"""Adam on rows of a float32 table on a CPU, with compiled loops."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from multiembed.base.loops import run_shares
from multiembed.base.memory import fitting
from multiembed.kernels.cpu.adam_loops import load_and_replay, step_and_store, store
from multiembed.tables.adam_table import AdamTable, RowCopies

CHUNK = 1 << 21
"""Numbers copied at once when the whole table is brought up to date."""


def load_rows(
    table: AdamTable, rows: Int[Tensor, " touched"], last: Int[Tensor, " touched"]
) -> RowCopies:
    """Return copies of rows, brought up to date. Those that lag most must come first."""
    copies = RowCopies(*fitting(3, len(rows), table.values.shape[1]))
    run_shares(
        load_and_replay,
        _arrays(table.values, table.moments, table.last),
        rows.numpy(),
        last.numpy(),
        _arrays(*copies),
        _schedule(table),
        work=copies.values.numel(),
    )
    return copies


def step_rows(
    table: AdamTable,
    rows: Int[Tensor, " touched"],
    copies: RowCopies,
    gradients: Float[Tensor, "touched columns"],
) -> None:
    """Take rows through the schedule's last step with these gradients."""
    run_shares(
        step_and_store,
        _arrays(table.values, table.moments, table.last),
        rows.numpy(),
        _arrays(*copies),
        gradients.contiguous().numpy(),
        _schedule(table),
        work=gradients.numel(),
    )


def bring_up_to_date(table: AdamTable) -> None:
    """Take every row through the steps it missed."""
    rows, columns = table.values.shape
    chunk = max(1, CHUNK // columns)
    now = table.schedule.step
    for start in range(0, rows, chunk):
        stale = table.stale(start, start + chunk, now).to(torch.int32)
        last, order = table.last[stale].sort(stable=True)
        stale = stale[order]
        copies = load_rows(table, stale, last)
        run_shares(
            store,
            _arrays(table.values, table.moments, table.last),
            stale.numpy(),
            _arrays(*copies),
            now,
            work=copies.values.numel(),
        )


def _arrays(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    return tuple(tensor.numpy() for tensor in tensors)


def _schedule(table: AdamTable) -> tuple[np.ndarray, np.ndarray, np.float32, bool]:
    schedule = table.schedule
    return schedule.rate, schedule.floor, np.float32(table.weight_decay), table.fast_forward
