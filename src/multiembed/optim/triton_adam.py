"""Deferred Adam on a GPU: rows are brought up to date where they lie, and nothing waits for it."""

from typing import Any, NamedTuple

import torch
import triton  # pyright: ignore[reportMissingImports]
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import override

from multiembed.models.embedding import EmbeddingSets
from multiembed.optim import triton_kernels as kernels
from multiembed.optim.deferred_adam import DeferredAdam
from multiembed.optim.schedule import entry

AHEAD = 256
"""Steps whose rates are sent to the device at once, as they will be if the learning rate stays."""


BEHIND = 2 * kernels.LOOK.value


class Pieces(NamedTuple):
    """The ids of a batch, sorted and cut into pieces."""

    starts: Int[Tensor, " capacity+16"]
    """Where each begins; behind the last, the number of ids, often enough to look ahead."""
    keys: Int[Tensor, " ids"]
    """Rows of the table in rising order."""
    order: Int[Tensor, " ids"]
    """Places in the batch, in the order of `keys`."""

    @property
    def capacity(self) -> int:
        """How many pieces there could be."""
        return len(self.starts) - BEHIND


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
        self._looked_up: Float[Tensor, "batch sets columns width"] | None = None
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
        rows = (tables.filled(ids) + tables.offsets).to(torch.int32)
        self._pieces = cut(rows.flatten(), self._capacity(batch))
        self._run(kernels.replay_pieces, self._pieces, self._arrays(), self._schedule())
        by_set = self._table.new_empty(tables.sets, batch, columns, tables.width)
        kernels.read_rows[(batch,)](  # pyright: ignore[reportIndexIssue]
            rows,
            self._table,
            by_set,
            batch,
            FIELDS=columns,
            SETS=tables.sets,
            WIDTH=tables.width,
        )
        self._looked_up, self._sums = by_set.transpose(0, 1).requires_grad_(), None
        return tables.combine(self._looked_up, ids)

    @override
    def gradients(self) -> list[Tensor]:
        """Gradients of the rows of the batch; what belongs to no row is zero."""
        if self._looked_up is None or self._looked_up.grad is None:
            return []
        if self._sums is None:
            gradient = self._looked_up.grad.transpose(0, 1).contiguous()
            sets, _, columns, width = gradient.shape
            capacity = self._pieces.capacity
            self._sums = self._table.new_empty(capacity, sets * width)
            kernels.sum_pieces[(capacity,)](  # pyright: ignore[reportIndexIssue]
                tuple(self._pieces),
                gradient,
                self._sums,
                len(self._pieces.keys),
                FIELDS=columns,
                SETS=sets,
                WIDTH=width,
                BLOCK=_block(sets * width),
                num_warps=2,
            )
            self._run(kernels.merge_pieces, self._pieces, self._sums)
        return [self._sums]

    @override
    def step(self) -> None:
        for sums in self.gradients():
            if not self._begun:
                self.begin_step()
            self._run(kernels.step_pieces, self._pieces, self._arrays(), sums, self._schedule())
            self._clock += 1
            self._begun = False
        self._looked_up = self._sums = None

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
        return rows + batch * sum(self.embedding.slots) // kernels.LONGEST.value + 1

    def _arrays(self) -> tuple[Tensor, Tensor, Tensor]:
        return self._table, self._adam.moments, self._last

    def _schedule(self) -> tuple[Tensor, Tensor, Tensor, float]:
        rates, floors = self._rates.unbind(0)
        return rates, floors, self._clock, self._adam.weight_decay

    def _run(
        self,
        kernel: Any,  # noqa: ANN401 - Triton's interpreter has a type of its own
        pieces: Pieces,
        *arguments: object,
    ) -> None:
        """Start a program for every piece."""
        columns = self._table.shape[1]
        kernel[(pieces.capacity,)](
            tuple(pieces),
            *arguments,
            len(pieces.keys),
            COLUMNS=columns,
            BLOCK=_block(columns),
            num_warps=1,
        )


def cut(rows: Int[Tensor, " ids"], capacity: int) -> Pieces:
    """Sort rows of the table and cut them into pieces, of which there is room for `capacity`."""
    keys, order = torch.sort(rows, stable=True)
    place = torch.arange(len(keys), dtype=torch.int32, device=keys.device)
    begins = place % kernels.LONGEST.value == 0
    begins[1:] |= keys[1:] != keys[:-1]
    number = begins.cumsum(0) - 1
    room = capacity + BEHIND
    starts = torch.full((room + 1,), len(keys), dtype=torch.int32, device=keys.device)
    # Places where no piece begins are sent to the end, which is cut off.
    starts.scatter_(0, torch.where(begins, number, room), place)
    return Pieces(starts[:-1], keys, order)


def _block(columns: int) -> int:
    """Return how many columns of a row a program takes at once."""
    return min(512, triton.next_power_of_2(columns))
