"""Embedding tables of all fields and all sets in one matrix, read by one gather."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from multiembed.base.errors import ConfigError, DataError

EmbeddingInit = Literal["table", "field"] | float
Pooling = Literal["mean", "sum"]


@dataclass(frozen=True)
class Row:
    """What one id has in one set: `blocks` embeddings, then at most one first-order weight."""

    blocks: int = 1
    first_order: bool = False

    def width(self, dim: int) -> int:
        """Return how many numbers that is."""
        return self.blocks * dim + int(self.first_order)


class EmbeddingSets(nn.Module):
    """`sets` embedding tables per field, side by side in one `(rows, sets * dim)` matrix.

    Rows of field i are the block that starts at the sum of the cardinalities before it; set m
    holds the columns `m * dim` to `(m + 1) * dim`. A row is thus one piece of memory for all sets.
    Where an architecture asks for more than one embedding per id (`row`), one set's columns are
    `row.width(dim)` many in place of `dim`.

    Args:
        cardinalities: Number of ids of every field, *other* included.
        dim: Size of one set's embedding.
        sets: Number of embedding sets.
        init: How a set begins. `"table"`, the default, is what the paper's code does:
            Xavier-uniform over the concatenated table, that is uniform within
            `sqrt(6 / (sum of cardinalities + dim))` for every field. `"field"` uses each field's
            own cardinality in that bound, so that small fields begin larger. A number is the
            standard deviation of a normal distribution. First-order weights begin with a standard
            deviation of 1 unless `init` is a number, as in the paper's code.
        row: What one id has in one set.

    Raises:
        ConfigError: If a cardinality, `dim` or `sets` is below 1, or there is no field.
    """

    offsets: Tensor
    limits: Tensor
    first: Tensor

    def __init__(
        self,
        cardinalities: Sequence[int],
        *,
        dim: int,
        sets: int = 1,
        init: EmbeddingInit = "table",
        row: Row | None = None,
    ) -> None:
        super().__init__()
        _check_shape(cardinalities, dim, sets)
        self.row = row or Row()
        self.width = self.row.width(dim)
        self.cardinalities = tuple(int(size) for size in cardinalities)
        self.dim = dim
        self.sets = sets
        self.weight = nn.Parameter(torch.empty(sum(self.cardinalities), sets * self.width))
        self.pool([1] * len(self.cardinalities), "mean")
        self.initialise(init)

    def pool(self, slots: Sequence[int], pooling: Pooling) -> None:
        """Let fields have several columns of ids, whose embeddings are averaged or added up.

        All values of a field share its table. An id of -1 behind the first of a field is no value:
        it adds nothing, and no row is trained for it.

        Args:
            slots: Columns of every field, 1 for those of one value.
            pooling: `mean` or `sum` over the values that are there.
        """
        self.slots = tuple(int(count) for count in slots)
        self.pooling: Pooling = pooling
        starts = itertools.accumulate(self.cardinalities, initial=0)
        columns = itertools.accumulate(self.slots, initial=0)
        buffers = {"offsets": starts, "limits": self.cardinalities, "first": columns}
        for name, of_fields in buffers.items():
            pairs = zip(of_fields, self.slots, strict=False)
            of_columns = [number for number, count in pairs for _ in range(count)]
            self.register_buffer(name, torch.tensor(of_columns), persistent=False)

    @property
    def pooled(self) -> bool:
        """Whether a field has several columns of ids."""
        return max(self.slots) > 1

    @torch.no_grad()
    def initialise(self, init: EmbeddingInit) -> None:
        """Draw every row anew, see `init` above."""
        if isinstance(init, float):
            if init <= 0:
                raise ConfigError(f"embedding init must be a positive deviation, got {init}")
            self.weight.normal_(0, init)
            return
        for block in self.by_field():
            rows = len(self.weight) if init == "table" else len(block)
            bound = math.sqrt(6 / (rows + self.dim))
            block.uniform_(-bound, bound)
        if self.row.first_order:
            self.weight[:, self.width - 1 :: self.width].normal_()

    def by_field(self) -> list[Float[Tensor, "rows columns"]]:
        """The block of rows of every field, as views: `(cardinality, sets * width)` each."""
        return list(self.weight.detach().split(list(self.cardinalities)))

    def filled(self, ids: Int[Tensor, "batch columns"]) -> Int[Tensor, "batch columns"]:
        """Ids with the first value of a field in place of none: rows that are read anyway."""
        return torch.where(ids == -1, ids[:, self.first], ids) if self.pooled else ids

    def rows(self, ids: Int[Tensor, "batch columns"]) -> Int[Tensor, "batch columns"]:
        """Row numbers in `weight` for ids counted from 0 in each field."""
        return self.filled(ids) + self.offsets

    def arrange(
        self, gathered: Float[Tensor, "batch columns numbers"], ids: Int[Tensor, "batch columns"]
    ) -> Float[Tensor, "batch sets fields dim"]:
        """Lay out rows read from `weight` as embeddings, one for each field."""
        batch, columns, _ = gathered.shape
        values = gathered.view(batch, columns, self.sets, self.width)
        sets_first = values.permute(2, 0, 1, 3).contiguous()  # as interactions want them in memory
        return self.combine(sets_first.transpose(0, 1), ids)

    def combine(
        self, values: Float[Tensor, "batch sets columns dim"], ids: Int[Tensor, "batch columns"]
    ) -> Float[Tensor, "batch sets fields dim"]:
        """Make one embedding for each field of those of its values."""
        if not self.pooled:
            return values
        there = (ids >= 0).to(values.dtype)
        parts = []
        of_fields = zip(values.split(self.slots, 2), there.split(self.slots, 1), strict=True)
        for part, weights in of_fields:
            if weights.shape[1] == 1:
                parts.append(part)
                continue
            if self.pooling == "mean":
                weights = weights / weights.sum(1, keepdim=True)
            parts.append(torch.einsum("bmsd,bs->bmd", part, weights).unsqueeze(2))
        return torch.cat(parts, dim=2)

    def forward(self, ids: Int[Tensor, "batch columns"]) -> Float[Tensor, "batch sets fields dim"]:
        """Look up every id in every set.

        Raises:
            DataError: If an id lies outside its field, naming field, id and cardinality.
        """
        self.check(ids)
        return self.arrange(F.embedding(self.rows(ids), self.weight), ids)

    def check(self, ids: Int[Tensor, "batch columns"]) -> None:
        """Refuse ids outside their field: another field's row would answer for them."""
        # Where their number is wrong, they cannot be filled.
        fits = ids.shape[1] == len(self.limits)
        check_ids(self.filled(ids) if fits else ids, self.limits)


def check_ids(ids: Int[Tensor, "batch fields"], limits: Int[Tensor, " limits"]) -> None:
    """Refuse ids outside their field; `limits` are the cardinalities.

    Raises:
        DataError: Naming field, id and cardinality.
    """
    if ids.shape[1] != len(limits):
        raise DataError(f"ids must have {len(limits)} fields, got {ids.shape[1]}")
    if torch.compiler.is_exporting():
        return
    outside = (ids < 0) | (ids >= limits)
    if bool(outside.any()):
        row, field = (int(at) for at in outside.nonzero()[0])
        raise DataError(
            f"id of field {field} must be below its cardinality "
            f"{int(limits[field])}, got {int(ids[row, field])} in row {row}"
        )


def _check_shape(cardinalities: Sequence[int], dim: int, sets: int) -> None:
    if len(cardinalities) == 0:
        raise ConfigError("cardinalities must name at least one field, got none")
    for field, size in enumerate(cardinalities):
        if size < 1:
            raise ConfigError(f"cardinality of field {field} must be at least 1, got {size}")
    if dim < 1:
        raise ConfigError(f"dim must be at least 1, got {dim}")
    if sets < 1:
        raise ConfigError(f"sets must be at least 1, got {sets}")
