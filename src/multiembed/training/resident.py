"""Rows to train on that lie on the GPU, where they fit: no batch waits for the way there."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from multiembed.data.store.dataset import Split

SHARE = 0.25
"""Most of the free memory of a GPU that rows may take; the rest is a model's."""
ROWS_PER_COPY = 1 << 18


class ResidentBatch(NamedTuple):
    """Rows on a device."""

    ids: Int[Tensor, "batch columns"]
    labels: UInt8[Tensor, " batch"]


class ResidentRows:
    """A split that was copied to a device, batch by batch in the order of `Split.batches`."""

    def __init__(self, split: Split, device: torch.device) -> None:
        self._split = split
        parts = [
            split.take(np.arange(start, min(start + ROWS_PER_COPY, split.rows)))
            for start in range(0, split.rows, ROWS_PER_COPY)
        ]
        self._ids = torch.cat([torch.from_numpy(part.ids).to(device) for part in parts])
        self._labels = torch.cat([torch.from_numpy(part.labels).to(device) for part in parts])

    def batches(
        self, size: int, *, seed: int | None = None, epoch: int = 0, start: int = 0
    ) -> Iterator[ResidentBatch]:
        """Yield what `Split.batches` yields."""
        rows = self._split.rows
        order = np.arange(rows) if seed is None else self._split.order(seed, epoch)
        places = torch.from_numpy(order.astype(np.int64)).to(self._ids.device)
        for first in range(start * size, rows, size):
            batch = places[first : first + size]
            yield ResidentBatch(self._ids[batch], self._labels[batch])


def resident(split: Split, device: torch.device) -> Split | ResidentRows:
    """Return a split's rows where a device finds them soonest."""
    if device.type != "cuda":
        return split
    bytes_of_row = sum(part.nbytes for part in split.take(np.arange(1))) + 8  # and its place
    free, _ = torch.cuda.mem_get_info(device)
    return ResidentRows(split, device) if split.rows * bytes_of_row <= SHARE * free else split
