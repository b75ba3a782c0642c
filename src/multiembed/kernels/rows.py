"""What a table's row holds, and the rows of a batch: which they are, and what they give.

The functions here are the plain form in torch, for any device and precision.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from multiembed.kernels.history_values import RowsRead
from multiembed.kernels.route import fast_form


@dataclass(frozen=True)
class Row:
    """What one id has in one set: `blocks` embeddings, then at most one first-order weight."""

    blocks: int = 1
    first_order: bool = False

    def width(self, dim: int) -> int:
        """Return how many numbers that is."""
        return self.blocks * dim + int(self.first_order)

    def split(
        self, numbers: Float[Tensor, "*shape width"]
    ) -> tuple[Float[Tensor, "*shape embeddings"], Float[Tensor, "*shape"] | None]:
        """Return what ids have in one set: embeddings side by side, and first-order weights."""
        return (numbers[..., :-1], numbers[..., -1]) if self.first_order else (numbers, None)

    def embeddings(
        self, table: Float[Tensor, "rows columns"], sets: int
    ) -> Float[Tensor, "rows embeddings"]:
        """Return the columns of a table that embeddings have, in all sets."""
        return self.split(table.unflatten(1, (sets, -1)))[0].flatten(1)

    def is_first_order(self, dim: int, sets: int) -> Bool[Tensor, " columns"]:
        """Say of every column of a table whether first-order weights stand in it."""
        of_set = torch.zeros(self.width(dim), dtype=torch.bool)
        of_set[self.blocks * dim :] = True
        return of_set.repeat(sets)


class TableLayout(NamedTuple):
    """Where the rows of every field stand in a table, and what a row holds."""

    offsets: Int[Tensor, " columns"]
    """First row of the field of every column of ids."""
    cardinalities: tuple[int, ...]
    """Rows of every field."""
    slots: tuple[int, ...]
    """Columns of ids of every field."""
    sets: int
    """Embedding sets side by side in a row."""


class TouchedRows(NamedTuple):
    """The distinct rows of a batch, those touched longest ago first."""

    rows: Int[Tensor, " touched"]
    """Row numbers in the table."""
    last: Int[Tensor, " touched"]
    """Step that last touched each row."""
    positions: Int[Tensor, "batch columns"]
    """For every id of the batch, the position of its row in `rows`."""


def find_rows(
    ids: Int[Tensor, "batch columns"], offsets: Int[Tensor, " columns"], last: Int[Tensor, " rows"]
) -> TouchedRows:
    """Find the distinct rows of a batch.

    Args:
        ids: Counted from 0 in each field.
        offsets: First row of each column's field; several columns may share rows.
        last: For every row of the table, the step that last touched it.
    """
    rows, index = torch.unique(ids + offsets, return_inverse=True)
    touched_last, order = torch.sort(last[rows], stable=True)
    position = torch.empty_like(order)
    position[order] = torch.arange(len(order), device=order.device)
    touched, positions = rows[order], position[index]
    if last.device.type == "cpu":  # as compiled loops take them
        touched, positions = touched.to(torch.int32), positions.to(torch.int32)
    return TouchedRows(touched, touched_last, positions)


def gather_rows(
    values: Float[Tensor, "touched numbers"], positions: Int[Tensor, "batch columns"], sets: int
) -> Float[Tensor, "batch sets columns dim"]:
    """Read embeddings from rows that hold all sets side by side.

    Args:
        values: Rows that gradients are wanted for.
        positions: Of the row of every id in `values`.
        sets: Number of sets in a row.
    """
    batch, columns = positions.shape
    return F.embedding(positions, values).view(batch, columns, sets, -1).transpose(1, 2)


class BatchRows:
    """Copies of the rows that a batch touches, and the gradient of the copies.

    A second `lookup` before `forget` replaces the first.

    Args:
        layout: Of the table.
        values: The table.
        last: For every row of the table, the step that last touched it; it may change.
    """

    def __init__(
        self,
        layout: TableLayout,
        values: Float[Tensor, "rows numbers"],
        last: Int[Tensor, " rows"],
    ) -> None:
        self._layout, self._last, self._none = layout, last, values[:0]
        find, gather = None, None
        form = fast_form("find_rows", last, values, training=True)
        if max(layout.slots) == 1:  # fast forms rely on it that no two columns share rows
            find = form
            gather = fast_form("gather_rows", values, values, training=True)
        self._find, self._gather = find or find_rows, gather or gather_rows
        self._find_in_one = form or find_rows
        self.rows: Int[Tensor, " touched"] = last[:0]
        """Numbers in the table of the rows looked up last."""
        self._values: Float[Tensor, "touched numbers"] = self._none

    def lookup(
        self,
        ids: Int[Tensor, "batch columns"],
        read: Callable[[TouchedRows], Float[Tensor, "touched numbers"]],
    ) -> Float[Tensor, "batch sets columns dim"]:
        """Return the embeddings of `ids`; `read` makes up-to-date copies of their rows."""
        touched = self._find(ids, self._layout.offsets, self._last)
        values = self._copied(touched, read)
        return self._gather(values, touched.positions, self._layout.sets)

    def find(
        self,
        rows: Int[Tensor, " ids"],
        read: Callable[[TouchedRows], Float[Tensor, "touched numbers"]],
    ) -> RowsRead:
        """Return copies of rows by their numbers, of whatever fields, made by `read`."""
        touched = self._find_in_one(rows.unsqueeze(1), rows.new_zeros(1), self._last)
        return RowsRead(self._copied(touched, read), touched.positions.flatten())

    def _copied(
        self, touched: TouchedRows, read: Callable[[TouchedRows], Float[Tensor, "touched numbers"]]
    ) -> Float[Tensor, "touched numbers"]:
        self.rows = touched.rows
        self._values = read(touched).requires_grad_()
        return self._values

    @property
    def values(self) -> Float[Tensor, "touched numbers"]:
        """The copies."""
        return self._values.detach()

    def gradients(self) -> list[Tensor]:
        """Gradient of the copies; nothing if there is none."""
        return [] if self._values.grad is None else [self._values.grad]

    def forget(self) -> None:
        """Let go of the copies and their gradient."""
        self._values = self._none


class GraphUpdate(ABC):
    """What a CUDA graph that holds a table's lookup and step needs from outside the graph.

    Whoever has one of these reads nothing back from the device in `lookup` and `step`.
    """

    lookup_dtype: torch.dtype = torch.float32
    """What a lookup may round to, for models that read embeddings in products alone."""

    @property
    def address(self) -> int:
        """Where the graph reads what is sent to the device; another one asks for a new graph."""
        return 0

    @abstractmethod
    def begin_step(self, learning_rate: float) -> None:
        """Do what the next step needs from the host, which a replay does not do."""
