"""Deferred Adam on a GPU: rows are brought up to date where they lie, and nothing waits for it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import triton  # pyright: ignore[reportMissingImports]
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from typing_extensions import override

from multiembed.kernels.gpu import gpu_adam_kernels as kernels
from multiembed.kernels.gpu.gpu_cross_kernels import padded
from multiembed.models.embedding import EmbeddingSets
from multiembed.tables.deferred_adam import DeferredAdam
from multiembed.tables.schedule import entry

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


class _Lookup(Function):
    """Hands the gradient of what was looked up over as it comes: a leaf would keep a copy."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        _: Tensor,
        embeddings: Tensor,
        receive: Callable[[Tensor], None],
    ) -> Float[Tensor, "batch sets columns width"]:
        ctx.receive = receive
        return embeddings.view_as(embeddings)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,  # noqa: ANN401
        *gradients: Float[Tensor, "batch sets columns width"],
    ) -> tuple[None, None, None]:
        ctx.receive(gradients[0])
        return None, None, None


class TritonDeferredAdam(DeferredAdam):
    """`DeferredAdam` for float32 tables on a GPU.

    A step has no dynamic shape and reads nothing back, so a CUDA graph can hold it, if
    `begin_step` is called before each replay. The table's rows are brought up to date at `lookup`.
    Replay is always exact: what fast-forward would save is little beside reading the rows.
    """

    recordable = True

    def __init__(
        self,
        embedding: EmbeddingSets,
        *,
        learning_rate: float,
        weight_decay: float,
        fast_forward: bool = False,
    ) -> None:
        super().__init__(
            embedding,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            fast_forward=fast_forward,
        )
        device = self._table.device
        self._clock = torch.zeros((), dtype=torch.int32, device=device)
        """Steps taken, where kernels see it."""
        self._rates: Float[Tensor, "2 capacity"] = torch.zeros(2, 1 << 20, device=device)
        """Rate and floor of every step, as in `Schedule`."""
        self._sent = 0
        """Last step whose rates are there."""
        self.memory = self._rates.data_ptr()
        self._begun = False
        self._offsets = embedding.offsets.to(torch.int32)
        self._anchor = torch.empty(0, device=device, requires_grad=True)
        """What makes a lookup part of a graph of gradients."""
        self._gradient: Float[Tensor, "batch sets columns width"] | None = None
        self._sums: Float[Tensor, "capacity numbers"] | None = None

    @override
    def begin_step(self) -> None:
        schedule, step = self._adam.schedule, self._adam.schedule.step + 1
        changed = step > 1 and self.learning_rate != schedule.learning_rate
        schedule.advance(self.learning_rate)
        if changed or step > self._sent:
            self._send([entry(step + i, self.learning_rate) for i in range(AHEAD)], step)
        self._begun = True

    def _send(self, entries: list[tuple[float, float]], step: int) -> None:
        self._sent = step + len(entries) - 1
        if self._sent >= self._rates.shape[1]:
            room = torch.zeros_like(self._rates)
            self._rates = torch.cat([self._rates, room], dim=1)
            self.memory = self._rates.data_ptr()
        self._rates[:, step : self._sent + 1] = torch.tensor(entries, dtype=torch.float32).T

    @override
    def lookup(self, ids: Int[Tensor, "batch columns"]) -> Float[Tensor, "batch sets fields dim"]:
        tables, (batch, columns) = self.embedding, ids.shape
        rows = (tables.filled(ids) + self._offsets).to(torch.int32)
        self._pieces = cut(rows.flatten(), self._capacity(batch))
        self._run(kernels.replay_pieces, self._arrays(), self._schedule())
        numbers = columns * tables.width
        rounded = self.lookup_dtype != torch.float32 and not tables.pooled
        room = padded(numbers) if rounded else numbers
        by_set = self._table.new_empty(
            (tables.sets, batch, room), dtype=self.lookup_dtype if rounded else None
        )
        kernels.read_rows[(batch,)](  # pyright: ignore[reportIndexIssue]
            rows,
            self._table,
            by_set,
            batch,
            FIELDS=columns,
            SETS=tables.sets,
            WIDTH=tables.width,
            PADDED=room,
        )
        embeddings = by_set[..., :numbers].unflatten(2, (columns, tables.width)).transpose(0, 1)
        self._gradient = self._sums = None
        return tables.combine(_Lookup.apply(self._anchor, embeddings, self._receive), ids)

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
            self._sums = self._table.new_zeros(self._pieces.capacity, sets * width)
            kernels.sum_pieces[self._programs()](  # pyright: ignore[reportIndexIssue]
                tuple(self._pieces),
                self._gradient,
                self._gradient.stride(),
                self._sums,
                FIELDS=columns,
                SETS=sets,
                WIDTH=width,
                BLOCK=_block(sets * width),
                num_warps=2,
            )
            self._run(kernels.merge_pieces, self._sums)
        return [self._sums]

    @override
    def step(self) -> None:
        for sums in self.gradients():
            if not self._begun:
                self.begin_step()
            self._run(kernels.step_pieces, self._arrays(), sums, self._schedule())
            self._clock += 1
            self._begun = False
        self._gradient = self._sums = None

    @override
    def flush(self) -> None:
        rows, columns = self._table.shape
        kernels.replay_all[(rows,)](  # pyright: ignore[reportIndexIssue]
            self._arrays(),
            self._schedule(),
            rows,
            COLUMNS=columns,
            BLOCK=_block(columns),
            num_warps=1,
        )

    @override
    def load_state(self, state: dict[str, Tensor]) -> None:
        super().load_state(state)
        schedule = self._adam.schedule
        self._clock.fill_(schedule.step)
        self._sent = 0
        self._send(list(zip(schedule.rate.tolist(), schedule.floor.tolist(), strict=True)), 0)

    def _capacity(self, batch: int) -> int:
        """Return how many pieces a batch can have at most."""
        pairs = zip(self.embedding.cardinalities, self.embedding.slots, strict=True)
        rows = sum(min(size, batch * slots) for size, slots in pairs)
        ids = batch * sum(self.embedding.slots)
        return rows + ids // longest_piece(ids) + 1

    def _arrays(self) -> tuple[Tensor, Tensor, Tensor]:
        return self._table, self._adam.moments, self._last

    def _schedule(self) -> tuple[Tensor, Tensor, Tensor, float]:
        rates, floors = self._rates.unbind(0)
        return rates, floors, self._clock, self._adam.weight_decay

    def _programs(self) -> tuple[int]:
        return (min(PROGRAMS, self._pieces.capacity),)

    def _run(
        self,
        kernel: Any,  # noqa: ANN401 - Triton's interpreter has a type of its own
        *arguments: object,
    ) -> None:
        """Have a kernel go through the pieces of the batch."""
        columns = self._table.shape[1]
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
