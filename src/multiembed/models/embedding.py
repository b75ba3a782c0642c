"""Embedding tables of all fields and all sets in one matrix, read by one gather."""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int, Int32
from torch import Tensor, nn

from multiembed.base.errors import ConfigError
from multiembed.kernels.history_values import PaddedHistories, RowsRead, histories_of
from multiembed.kernels.route import fast_form
from multiembed.kernels.rows import Row, gather_rows
from multiembed.models.histories import pooled
from multiembed.models.id_checks import check_ids, check_shape, known_numbers
from multiembed.models.naming import EmbeddingInit, Pooling
from multiembed.models.numeric_embedding import NumericFields
from multiembed.models.signals import Signals
from multiembed.models.value_vectors import ValueVectors


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
        row: What one id has in one set, or what says it of a number of fields.
        slots: Columns of ids of every field, 1 for those of one value; one each if not given.
            All values of a field share its table. An id of -1 behind the first of a field is no
            value: it adds nothing, and no row is trained for it.
        pooling: Whether the embeddings of a field's values are averaged or added up.
        signals: Histories, numbers and pretrained vectors, where there are some.

    Raises:
        ConfigError: If a cardinality, `dim` or `sets` is below 1, or there is no field.
    """

    offsets: Tensor
    limits: Tensor
    first: Tensor
    own: Tensor

    def __init__(
        self,
        cardinalities: Sequence[int],
        *,
        dim: int,
        sets: int = 1,
        init: EmbeddingInit = "table",
        row: "Row | RowOfFields | None" = None,
        slots: Sequence[int] | None = None,
        pooling: Pooling = "mean",
        signals: Signals | None = None,
    ) -> None:
        super().__init__()
        check_shape(cardinalities, dim, sets)
        self.cardinalities = tuple(int(size) for size in cardinalities)
        signals = signals or Signals()
        kinds = signals.numeric.kinds or (None,) * len(self.cardinalities)
        shares = signals.histories.shares
        slots = [int(count) for count in slots or [1] * (len(kinds) + len(shares))]
        self.fields = len(slots)
        """How many embeddings a row has in every set."""
        self.row = settled_row(row or Row(), self.fields)
        self.width = self.row.width(dim)
        self.dim = dim
        self.sets = sets
        with_table = [kind is None for kind in kinds]
        self.table_rows = tuple(itertools.compress(self.cardinalities, with_table))
        """Of every field that has a table."""
        self.slots = tuple(itertools.compress(slots, [*with_table, *[True] * len(shares)]))
        """Columns of ids of each of these, and of histories."""
        self.shares = tuple(sum(with_table[:place]) for place in shares)
        self.weight = nn.Parameter(torch.empty(sum(self.table_rows), sets * self.width))
        self.pooling: Pooling = pooling
        own = self._own = self.slots[: len(self.table_rows)]
        self._several = max(own, default=1) > 1
        self._columns = [sum(own), *self.slots[len(own) :]]
        self._number_columns()
        shape = {"dim": dim, "sets": sets, "row": self.row}
        kinds = (*kinds, *[None] * len(shares))
        numeric = signals.numeric.options
        self.numeric = None
        if not all(with_table):
            self.numeric = NumericFields(kinds, slots, options=numeric, **shape)
        columns = self.row.blocks * dim
        vectors = {
            place: ValueVectors(of, rows=self.cardinalities[place], sets=sets, columns=columns)
            for place, of in signals.pretrained.items()
        }
        self.pretrained = nn.ModuleDict({str(place): of for place, of in vectors.items()})
        self._vectors = {sum(with_table[:place]): of for place, of in vectors.items()}
        if not self._vectors.keys().isdisjoint(self.shares):
            raise ConfigError("model.pretrained must be of fields that no history shares, got one")
        self.initialise(init)
        counts = self._columns[1:]
        self.attentions = signals.histories.attentions(sets, self.width, counts)

    def _number_columns(self) -> None:
        """Note for every column of ids where its table is, and which one is its field's first."""
        starts = [*itertools.accumulate(self.table_rows, initial=0)]
        tables = [*range(len(self._own)), *self.shares]
        buffers = {
            "offsets": [starts[table] for table in tables],
            "limits": [self.table_rows[table] for table in tables],
            "first": [*itertools.accumulate(self.slots, initial=0)][:-1],
            "own": [int(field < len(self._own)) for field in range(len(tables))],
        }
        for name, of_fields in buffers.items():
            pairs = zip(of_fields, self.slots, strict=True)
            of_columns = [number for number, count in pairs for _ in range(count)]
            self.register_buffer(name, known_numbers(of_columns), persistent=False)

    @property
    def table_slots(self) -> tuple[int, ...]:
        """Columns of ids that read each table."""
        counts = list(self._own)
        for table, count in zip(self.shares, self._columns[1:], strict=True):
            counts[table] += count
        return tuple(counts)

    @torch.no_grad()
    def initialise(self, init: EmbeddingInit) -> None:
        """Draw every row anew, see `init` above."""
        numeric = [] if self.numeric is None else self.numeric.blocks()
        tables = self.blocks()
        if isinstance(init, float):
            if init <= 0:
                raise ConfigError(f"embedding init must be a positive deviation, got {init}")
            for block in (self.weight, *numeric):
                block.normal_(0, init)
        else:
            blocks = [*tables, *numeric]
            for block in blocks:
                rows = sum(map(len, blocks)) if init == "table" else len(block)
                bound = math.sqrt(6 / (rows + self.dim))
                block.uniform_(-bound, bound)
            _, first_order = self.row.split(self.weight.unflatten(1, (self.sets, -1)))
            if first_order is not None:
                first_order.normal_()
        for block in numeric:
            block[0] = 0
        for table, vectors in self._vectors.items():
            vectors.initialise(self.row.embeddings(tables[table], self.sets))

    def blocks(self) -> list[Float[Tensor, "rows columns"]]:
        """The rows of every table, as views: `(cardinality, sets * width)` each."""
        return list(self.weight.detach().split(self.table_rows))

    def tables(self) -> list[Float[Tensor, "rows columns"]]:
        """What is looked up in every table: its `blocks` with what pretrained vectors add."""
        found = self.blocks()
        for table, vectors in self._vectors.items():
            found[table] = vectors.beside(found[table])
        return found

    def by_field(self) -> list[Float[Tensor, "rows columns"]]:
        """What is looked up in every field; of a field of numbers, the few rows they weigh."""
        tables = self.tables()
        return tables if self.numeric is None else self.numeric.merged(tables)

    def looked_up(self, ids: Int[Tensor, "batch all"]) -> Int[Tensor, "batch columns"]:
        """Return the columns of ids that a lookup reads: those of fields that have a table."""
        return ids if self.numeric is None else self.numeric.table_ids(ids)

    def complete(
        self,
        found: Float[Tensor, "batch sets tables dim"],
        numbers: Float[Tensor, "batch numbers"] | None,
    ) -> Float[Tensor, "batch sets fields dim"]:
        """Put the embeddings of numbers between those that were looked up."""
        return found if self.numeric is None else self.numeric.complete(found, numbers)

    def fill_vectors(
        self,
        field: int,
        index: Int32[np.ndarray, " rows"],
        vectors: Float32[np.ndarray, "vectors width"],
    ) -> None:
        """Take pretrained vectors of a field over, see `ValueVectors.fill`."""
        of_field = self.pretrained.get_submodule(str(field))
        assert isinstance(of_field, ValueVectors)
        of_field.fill(torch.from_numpy(index), torch.from_numpy(vectors))

    def forget_vectors(self) -> None:
        """Look rows up without pretrained vectors from now on."""
        self._vectors.clear()
        self.pretrained.clear()

    def filled(self, ids: Int[Tensor, "batch columns"]) -> Int[Tensor, "batch columns"]:
        """Ids with the first value of a field in place of none: rows that are read anyway.

        In place of none in a history stands *other*.
        """
        if self.shares:
            count = ids.shape[1]
            first = ids[:, self.first[:count]] * self.own[:count].to(ids.dtype)
            return torch.where(ids == -1, first, ids)
        return torch.where(ids == -1, ids[:, self.first], ids) if self._several else ids

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
        if not self.shares:
            return self._combined(values, ids)
        own, *parts = values.split(self._columns, 2)
        own_ids, *histories = ids.split(self._columns, 1)
        rows = [RowsRead(part.transpose(1, 2).flatten(0, 1).flatten(1)) for part in parts]
        return self._joined(
            self._combined(own, own_ids), [PaddedHistories(part) for part in histories], rows
        )

    def read(
        self,
        ids: Int[Tensor, "batch columns"],
        find: Callable[[Int[Tensor, " ids"]], RowsRead],
    ) -> Float[Tensor, "batch sets fields dim"]:
        """Look up ids and histories, these without padding where a form of them has none.

        Args:
            ids: Trusted, other than those of `forward`.
            find: Finds rows of `weight` by their numbers.
        """
        own_ids, *parts = ids.split(self._columns, 1)
        offsets, *starts = self.offsets.split(self._columns)
        histories = [histories_of(part, self.weight) for part in parts]
        own = (self.filled(own_ids) if self._several else own_ids) + offsets
        numbers = [own.flatten()]
        numbers += [of.ids + start[:1] for of, start in zip(histories, starts, strict=True)]
        found = find(torch.cat(numbers))
        assert found.places is not None
        places, *others = found.places.split([len(one) for one in numbers])
        table, form = found.table, None
        if table.requires_grad and not self._several:
            form = fast_form("gather_rows", table, table, training=True)
        values = (form or gather_rows)(table, places.view(own.shape), self.sets)
        rows = [RowsRead(table, of_history) for of_history in others]
        return self._joined(self._combined(values, own_ids), histories, rows)

    def _joined(
        self,
        fields: Float[Tensor, "batch sets tables dim"],
        histories: Sequence[PaddedHistories],
        rows: Sequence[RowsRead],
    ) -> Float[Tensor, "batch sets fields dim"]:
        """Put the embeddings of histories behind those of the fields whose tables they share."""
        attentions = self.attentions or [None] * len(histories)
        parts = [fields]
        of_each = zip(histories, rows, self.shares, attentions, strict=True)
        for history, read, table, attention in of_each:
            parts.append(pooled(history, read, fields[:, :, table], attention).unsqueeze(2))
        sets_first = [part.transpose(0, 1) for part in parts]  # as interactions want them
        return torch.cat(sets_first, dim=2).transpose(0, 1)

    def _combined(
        self, values: Float[Tensor, "batch sets columns dim"], ids: Int[Tensor, "batch columns"]
    ) -> Float[Tensor, "batch sets tables dim"]:
        if self._vectors:
            values = self._with_vectors(values, ids)
        if not self._several:
            return values
        there = (ids >= 0).to(values.dtype)
        parts = []
        of_fields = zip(values.split(self._own, 2), there.split(self._own, 1), strict=True)
        for part, weights in of_fields:
            if weights.shape[1] == 1:
                parts.append(part)
                continue
            if self.pooling == "mean":
                weights = weights / weights.sum(1, keepdim=True)
            parts.append(torch.einsum("bmsd,bs->bmd", part, weights).unsqueeze(2))
        return torch.cat(parts, dim=2)

    def _with_vectors(
        self, values: Float[Tensor, "batch sets columns dim"], ids: Int[Tensor, "batch columns"]
    ) -> Float[Tensor, "batch sets columns dim"]:
        """Add what pretrained vectors say of the values."""
        parts, of_tables = list(values.split(self._own, 2)), ids.split(self._own, 1)
        for table, vectors in self._vectors.items():
            added = vectors.placed(of_tables[table], self.width)
            parts[table] = parts[table] + added.to(values.dtype)
        sets_first = [part.transpose(0, 1) for part in parts]  # as interactions want them in memory
        return torch.cat(sets_first, dim=2).transpose(0, 1)

    def forward(
        self,
        ids: Int[Tensor, "batch columns"],
        numbers: Float[Tensor, "batch numbers"] | None = None,
    ) -> Float[Tensor, "batch sets fields dim"]:
        """Look up every id in every set, and embed numbers.

        Raises:
            DataError: If an id lies outside its field, naming field, id and cardinality; or there
                are not as many numbers as the model's fields need.
        """
        ids = self.looked_up(ids)
        self.check(ids)
        return self.complete(self.look_up(ids), numbers)

    def look_up(self, ids: Int[Tensor, "batch columns"]) -> Float[Tensor, "batch sets tables dim"]:
        """Read `looked_up` ids that are trusted."""
        if self.shares and not torch.compiler.is_compiling():
            return self.read(ids, lambda rows: RowsRead(self.weight, rows))
        return self.arrange(F.embedding(self.rows(ids), self.weight), ids)

    def check(self, ids: Int[Tensor, "batch columns"]) -> None:
        """Refuse ids outside their field: another field's row would answer for them."""
        # Where their number is wrong, they cannot be filled.
        fits = ids.shape[1] == len(self.limits)
        check_ids(self.filled(ids) if fits else ids, self.limits)


RowOfFields = Callable[[int], Row]
"""What one id has in one set, for a number of fields."""


def settled_row(row: Row | RowOfFields, fields: int) -> Row:
    """Return what one id has in one set of a model of so many fields."""
    return row if isinstance(row, Row) else row(fields)
