"""Deferred Adam on a GPU: rows are brought up to date where they lie, and nothing waits for it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import triton  # pyright: ignore[reportMissingImports]
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import override

from multiembed.kernels.adam_rows import AdamRows, AdamTable, rate_and_floor
from multiembed.kernels.gpu import gpu_adam_kernels as kernels
from multiembed.kernels.gpu.gpu_cross_kernels import padded
from multiembed.kernels.own_gradient import Context, own_gradient
from multiembed.kernels.rows import GraphUpdate, TableLayout

AHEAD = 256
"""Steps whose rates are sent to the device at once, as they will be if the learning rate stays."""
PROGRAMS = 4096
"""As many as an H200 runs at a time, about."""
PLACES = 1024
"""Of ids that one program looks at."""


class Pieces(NamedTuple):
    """The ids of a batch, sorted and cut into pieces."""

    starts: Int[Tensor, " capacity+1"]
    """Where each begins; behind the last, the number of ids."""
    keys: Int[Tensor, " ids"]
    """Rows of the table in rising order."""
    order: Int[Tensor, " ids"]
    """Places in the batch, in the order of `keys`."""
    number: Int[Tensor, "1"]
    """How many pieces there are."""

    @property
    def capacity(self) -> int:
        """How many pieces there could be."""
        return len(self.starts) - 1


def _lookup(
    ctx: Context, _: Tensor, embeddings: Tensor, receive: Callable[[Tensor], None]
) -> Float[Tensor, "batch sets columns width"]:
    """Hands the gradient of what was looked up over as it comes: a leaf would keep a copy."""
    ctx.receive = receive
    return embeddings.view_as(embeddings)


def _lookup_gradient(
    ctx: Context, gradient: Float[Tensor, "batch sets columns width"]
) -> tuple[None, None, None]:
    ctx.receive(gradient)
    return None, None, None


_apply = own_gradient(_lookup, _lookup_gradient)


class SentSchedule(GraphUpdate):
    """Rates of steps where kernels see them: those taken, and some ahead.

    Args:
        table: Whose schedule is sent, to the device of its values.
    """

    def __init__(self, table: AdamTable) -> None:
        device = table.values.device
        self._table = table
        self._clock = torch.zeros((), dtype=torch.int32, device=device)
        """Steps taken."""
        self._rates: Float[Tensor, "2 capacity"] = torch.zeros(2, 1 << 20, device=device)
        """Rate and floor of every step, as in `Schedule`."""
        self._sent = 0
        """Last step whose rates are there."""
        self._begun = False

    @property
    @override
    def address(self) -> int:
        return self._rates.data_ptr()

    @override
    def begin_step(self, learning_rate: float) -> None:
        schedule, step = self._table.schedule, self._table.schedule.step + 1
        changed = step > 1 and learning_rate != schedule.learning_rate
        schedule.advance(learning_rate)
        if changed or step > self._sent:
            self._send([rate_and_floor(step + i, learning_rate) for i in range(AHEAD)], step)
        self._begun = True

    def begin_step_once(self, learning_rate: float) -> None:
        """Begin the step that is taken now, if nobody did."""
        if not self._begun:
            self.begin_step(learning_rate)

    def end_step(self) -> None:
        """Count a step, on the device: a graph holds this."""
        self._clock += 1
        self._begun = False

    def send_all(self) -> None:
        """Send the whole schedule, which was replaced."""
        schedule = self._table.schedule
        self._clock.fill_(schedule.step)
        self._sent = 0
        self._send(list(zip(schedule.rate.tolist(), schedule.floor.tolist(), strict=True)), 0)

    def arguments(self) -> tuple[Tensor, Tensor, Tensor, float]:
        """Return what kernels read."""
        rates, floors = self._rates.unbind(0)
        return rates, floors, self._clock, self._table.weight_decay

    def _send(self, entries: list[tuple[float, float]], step: int) -> None:
        self._sent = step + len(entries) - 1
        if self._sent >= self._rates.shape[1]:
            room = torch.zeros_like(self._rates)
            self._rates = torch.cat([self._rates, room], dim=1)
        self._rates[:, step : self._sent + 1] = torch.tensor(entries, dtype=torch.float32).T


class TritonAdamRows(AdamRows):
    """`PlainAdamRows` for float32 tables on a GPU, at the cost of the rows touched.

    A step has no dynamic shape and reads nothing back, so a CUDA graph can hold it. The table's
    rows are brought up to date at `lookup`.
    """

    def __init__(self, table: AdamTable, layout: TableLayout) -> None:
        super().__init__(table, layout)
        self.graph_update = self._schedule = SentSchedule(table)
        self._offsets = layout.offsets.to(torch.int32)
        self._anchor = table.values.new_empty(0).requires_grad_()
        """What makes a lookup part of a graph of gradients."""
        self._gradient: Float[Tensor, "batch sets columns width"] | None = None
        self._sums: Float[Tensor, "capacity numbers"] | None = None

    @override
    def lookup(self, ids: Int[Tensor, "batch columns"]) -> Float[Tensor, "batch sets columns dim"]:
        values, sets, (batch, columns) = self.table.values, self.layout.sets, ids.shape
        width = values.shape[1] // sets
        rows = (ids + self._offsets).to(torch.int32)
        self._pieces = cut(rows.flatten(), self._capacity(batch))
        self._run(kernels.replay_pieces, self._arrays(), self._schedule.arguments())
        numbers = columns * width
        dtype = self._schedule.lookup_dtype
        rounded = dtype != torch.float32 and max(self.layout.slots) == 1
        room = padded(numbers) if rounded else numbers
        by_set = values.new_empty((sets, batch, room), dtype=dtype if rounded else None)
        kernels.read_rows[(batch,)](  # pyright: ignore[reportIndexIssue]
            rows,
            values,
            by_set,
            batch,
            FIELDS=columns,
            SETS=sets,
            WIDTH=width,
            PADDED=room,
        )
        embeddings = by_set[..., :numbers].unflatten(2, (columns, width)).transpose(0, 1)
        self._gradient = self._sums = None
        return _apply(self._anchor, embeddings, self._receive)  # pyright: ignore[reportReturnType]

    def _receive(self, gradient: Float[Tensor, "batch sets columns width"]) -> None:
        # What is differentiated twice comes twice.
        self._gradient = gradient if self._gradient is None else self._gradient + gradient

    @override
    def gradients(self) -> list[Tensor]:
        """Gradients of the rows of the batch; what belongs to no row is zero."""
        if self._gradient is None:
            return []
        if self._sums is None:
            _, sets, columns, width = self._gradient.shape
            self._sums = self.table.values.new_zeros(self._pieces.capacity, sets * width)
            kernels.sum_pieces[self._programs()](  # pyright: ignore[reportIndexIssue]
                tuple(self._pieces),
                self._gradient,
                self._gradient.stride(),
                self._sums,
                FIELDS=columns,
                SETS=sets,
                WIDTH=width,
                BLOCK=_block(sets * width),
                num_warps=2,  # pyright: ignore[reportCallIssue]
            )
            self._run(kernels.merge_pieces, self._sums)
        return [self._sums]

    @override
    def step(self, learning_rate: float) -> None:
        for sums in self.gradients():
            self._schedule.begin_step_once(learning_rate)
            self._run(kernels.step_pieces, self._arrays(), sums, self._schedule.arguments())
            self._schedule.end_step()
        self._gradient = self._sums = None

    @override
    def flush(self) -> None:
        rows, columns = self.table.values.shape
        kernels.replay_all[(rows,)](  # pyright: ignore[reportIndexIssue]
            self._arrays(),
            self._schedule.arguments(),
            rows,
            COLUMNS=columns,
            BLOCK=_block(columns),
            num_warps=1,  # pyright: ignore[reportCallIssue]
        )

    @override
    def restored(self) -> None:
        self._schedule.send_all()

    def _capacity(self, batch: int) -> int:
        """Return how many pieces a batch can have at most."""
        pairs = zip(self.layout.cardinalities, self.layout.slots, strict=True)
        rows = sum(min(size, batch * slots) for size, slots in pairs)
        ids = batch * sum(self.layout.slots)
        return rows + ids // longest_piece(ids) + 1

    def _arrays(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.table.values, self.table.moments, self.table.last

    def _programs(self) -> tuple[int]:
        return (min(PROGRAMS, self._pieces.capacity),)

    def _run(
        self,
        kernel: Any,  # noqa: ANN401 - Triton's interpreter has a type of its own
        *arguments: object,
    ) -> None:
        """Have a kernel go through the pieces of the batch."""
        columns = self.table.values.shape[1]
        kernel[self._programs()](
            tuple(self._pieces), *arguments, COLUMNS=columns, BLOCK=_block(columns), num_warps=1
        )


def cut(rows: Int[Tensor, " ids"], capacity: int) -> Pieces:
    """Sort rows of the table and cut them into pieces, of which there is room for `capacity`."""
    keys, order = torch.sort(rows, stable=True)
    grid, ids = (triton.cdiv(len(keys), PLACES),), len(keys)
    begins, starts = torch.empty_like(keys), keys.new_empty(capacity + 1)
    kernels.mark_pieces[grid](  # pyright: ignore[reportIndexIssue]
        keys, begins, ids, LONGEST=longest_piece(ids), BLOCK=PLACES
    )
    numbers = begins.cumsum(0, dtype=torch.int32)
    kernels.note_pieces[grid](  # pyright: ignore[reportIndexIssue]
        begins, numbers, starts, ids, BLOCK=PLACES
    )
    return Pieces(starts, keys, order, numbers[-1:])


def longest_piece(ids: int) -> int:
    """Return how many ids a piece has at most: few where a batch has few, more to sum at once."""
    return 32 if ids <= 1 << 18 else 128


def _block(columns: int) -> int:
    """Return how many columns of a row a program takes at once."""
    return min(512, triton.next_power_of_2(columns))
