"""Which rows of a table a batch touches."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from multiembed.base.loops import run_shares
from multiembed.kernels.cpu.row_loops import mark_rows, number_rows, renumber


class TouchedRows(NamedTuple):
    """The distinct rows of a batch, those touched longest ago first."""

    rows: Int[Tensor, " touched"]
    """Row numbers in the table."""
    last: Int[Tensor, " touched"]
    """Step that last touched each row."""
    positions: Int[Tensor, "batch fields"]
    """For every id of the batch, the position of its row in `rows`."""


def find_touched_rows(
    ids: Int[Tensor, "batch fields"], offsets: Int[Tensor, " fields"], last: Int[Tensor, " rows"]
) -> TouchedRows:
    """Find the distinct rows of a batch.

    Args:
        ids: Counted from 0 in each field.
        offsets: First row of each field; fields share no rows.
        last: For every row of the table, the step that last touched it.
    """
    if last.device.type == "cpu":
        return _find_on_cpu(ids, offsets, last)
    return find_shared_rows(ids, offsets, last)


def find_shared_rows(
    ids: Int[Tensor, "batch fields"], offsets: Int[Tensor, " fields"], last: Int[Tensor, " rows"]
) -> TouchedRows:
    """Find them by sorting, on any device, also where several columns of ids share rows."""
    rows, index = torch.unique(ids + offsets, return_inverse=True)
    touched_last, order = torch.sort(last[rows], stable=True)
    position = torch.empty_like(order)
    position[order] = torch.arange(len(order), device=order.device)
    touched, positions = rows[order], position[index]
    if last.device.type == "cpu":  # as compiled loops take them
        touched, positions = touched.to(torch.int32), positions.to(torch.int32)
    return TouchedRows(touched, touched_last, positions)


def _find_on_cpu(
    ids: Int[Tensor, "batch fields"], offsets: Int[Tensor, " fields"], last: Int[Tensor, " rows"]
) -> TouchedRows:
    """Find rows without sorting ids: `last` itself notes, for a moment, which were seen."""
    batch, fields = ids.shape
    index, order, rows, positions = np.empty((4, batch * fields), dtype=np.int32)
    index, positions = index.reshape(fields, batch), positions.reshape(batch, fields)
    keys = np.empty((fields, batch), dtype=np.int64)
    counts = np.zeros(fields, dtype=np.int64)
    found = rows.reshape(fields, batch), keys, counts
    table = offsets.numpy(), last.numpy()
    run_shares(mark_rows, ids.numpy(), *table, index, found, work=batch * fields)
    # Numbers that take their digits from the step first sort by step, then by appearance.
    keys = np.sort(np.concatenate([keys[field, : counts[field]] for field in range(fields)]))
    touched_rows, touched_last = np.empty((2, len(keys)), dtype=np.int32)
    number_rows(keys, rows, last.numpy(), order, touched_rows, touched_last)
    run_shares(renumber, index, order, positions, work=batch * fields)
    found = touched_rows, touched_last, positions
    return TouchedRows(*(torch.from_numpy(part) for part in found))
