"""Embedding tables of all fields and all sets in one matrix, read by one gather."""

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from multiembed.base.errors import ConfigError, DataError
from multiembed.kernels.rows import Row
from multiembed.models.naming import EmbeddingInit, Pooling


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
        slots: Columns of ids of every field, 1 for those of one value; one each if not given.
            All values of a field share its table. An id of -1 behind the first of a field is no
            value: it adds nothing, and no row is trained for it.
        pooling: Whether the embeddings of a field's values are averaged or added up.

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
        slots: Sequence[int] | None = None,
        pooling: Pooling = "mean",
    ) -> None:
        super().__init__()
        _check_shape(cardinalities, dim, sets)
        self.row = row or Row()
        self.width = self.row.width(dim)
        self.cardinalities = tuple(int(size) for size in cardinalities)
        self.dim = dim
        self.sets = sets
        self.weight = nn.Parameter(torch.empty(sum(self.cardinalities), sets * self.width))
        self.slots = tuple(int(count) for count in slots or [1] * len(self.cardinalities))
        self.pooling: Pooling = pooling
        starts = itertools.accumulate(self.cardinalities, initial=0)
        columns = itertools.accumulate(self.slots, initial=0)
        buffers = {"offsets": starts, "limits": self.cardinalities, "first": columns}
        for name, of_fields in buffers.items():
            pairs = zip(of_fields, self.slots, strict=False)
            of_columns = [number for number, count in pairs for _ in range(count)]
            self.register_buffer(name, _known_numbers(of_columns), persistent=False)
        self.initialise(init)

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
        _, first_order = self.row.split(self.weight.unflatten(1, (self.sets, -1)))
        if first_order is not None:
            first_order.normal_()

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


class FactoredTable(nn.Module):
    """One field's table: `codes @ basis + mean`, or the codes alone where they are as wide.

    Args:
        rows: Number of ids.
        kept: Columns of the codes.
        columns: Columns of the table that they stand for.
    """

    basis: nn.Parameter | None
    mean: nn.Parameter | None

    def __init__(self, rows: int, kept: int, columns: int) -> None:
        super().__init__()
        whole = kept == columns
        self.codes = nn.Parameter(torch.zeros(rows, kept))
        basis = None if whole else nn.Parameter(torch.zeros(kept, columns))
        mean = None if whole else nn.Parameter(torch.zeros(columns))
        self.register_parameter("basis", basis)
        self.register_parameter("mean", mean)

    def forward(self, ids: Int[Tensor, " batch"]) -> Float[Tensor, "batch columns"]:
        """Look ids up."""
        return self.expand(F.embedding(ids, self.codes))

    def expand(self, codes: Float[Tensor, "rows kept"]) -> Float[Tensor, "rows columns"]:
        """Return the rows that codes stand for."""
        if self.basis is None or self.mean is None:
            return codes
        return torch.addmm(self.mean, codes, self.basis)


class FactoredEmbeddings(nn.Module):
    """What `EmbeddingSets` is to a model, from a `FactoredTable` per field.

    This is one mechanism for every architecture. A rotation of the embeddings could be folded into
    weights only where the embeddings meet nothing but a linear layer (a DNN's first one); a cross
    layer multiplies them number by number, inner products pair them with other fields, and both
    need the columns that training saw. So the basis stays beside the table and is applied at
    lookup, where it costs `kept * columns` products per field: for a DNN of the paper's size under
    3% of the layer that it could be folded into, too little for a second mechanism.

    Args:
        cardinalities: Number of ids of every field, *other* included.
        kept: Columns that every field's table is stored with, `sets * row.width(dim)` at most.
        dim: Size of one set's embedding.
        sets: Number of embedding sets.
        row: What one id has in one set.

    Raises:
        ConfigError: If `kept` has not one number per field.
    """

    limits: Tensor

    def __init__(
        self, cardinalities: Sequence[int], kept: Sequence[int], *, dim: int, sets: int, row: Row
    ) -> None:
        super().__init__()
        if len(kept) != len(cardinalities):
            raise ConfigError(
                f"table_dims must be one per field, {len(cardinalities)}, got {len(kept)}"
            )
        self.cardinalities = tuple(int(size) for size in cardinalities)
        self.dim = dim
        self.sets = sets
        self.row = row
        self.width = row.width(dim)
        self.register_buffer("limits", _known_numbers(self.cardinalities), persistent=False)
        sizes = zip(self.cardinalities, kept, strict=True)
        self._tables = [FactoredTable(rows, few, sets * self.width) for rows, few in sizes]
        self.tables = nn.ModuleList(self._tables)

    @property
    def weight(self) -> Float[Tensor, "rows columns"]:
        """The whole matrix that the tables stand for, written out anew."""
        return torch.cat(self.by_field())

    @torch.no_grad()
    def by_field(self) -> list[Float[Tensor, "rows columns"]]:
        """The table that every field's codes stand for: `(cardinality, sets * width)` each."""
        return [table.expand(table.codes) for table in self._tables]

    def forward(self, ids: Int[Tensor, "batch fields"]) -> Float[Tensor, "batch sets fields dim"]:
        """Look up every id in every set.

        Raises:
            DataError: If an id lies outside its field, naming field, id and cardinality.
        """
        check_ids(ids, self.limits)
        rows = torch.stack([t(ids[:, field]) for field, t in enumerate(self._tables)], dim=1)
        return rows.unflatten(2, (self.sets, self.width)).transpose(1, 2)


def _known_numbers(numbers: Sequence[int]) -> Int[Tensor, " numbers"]:
    """Return numbers that no checkpoint holds: a model built without memory has them, too."""
    device = "cpu" if torch.get_default_device().type == "meta" else None
    return torch.tensor(numbers, device=device)
