"""Embeddings of numbers: in every set, an activation of a weighted sum of a few learnt rows.

What the weights are is the kind's: functions of the number that all sets share. So the rows of a
field are to its numbers what a table is to ids, and are measured as one.
"""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from typing_extensions import override

from multiembed.base.errors import DataError
from multiembed.base.number_kinds import NumericKind
from multiembed.kernels.rows import Row
from multiembed.models.naming import NumericOptions

PRODUCT_COLUMNS = 4
"""Columns of a product in multiples of this: with others, a row's last digit depends on which rows
stand around it."""


class NumericEmbedding(nn.Module, ABC):
    """Embeddings of the numbers of some fields, which have the same kind.

    The first row of a field is what a missing number has, in place of a sum.

    Args:
        fields: How many there are.
        dim: Size of one set's embedding.
        sets: Number of embedding sets.
        row: What a field has in one set.
        options: Sizes of the kind.
    """

    def __init__(
        self, fields: int, *, dim: int, sets: int, row: Row, options: NumericOptions
    ) -> None:
        super().__init__()
        self.fields = fields
        self.sets = sets
        self.row = row
        self.count = 1 + self.build(fields, options)
        """Rows of a field."""
        self.rows = nn.Parameter(torch.empty(fields * self.count, sets * row.width(dim)))
        """Those of the fields one after another, `(fields * count, sets * width)`."""

    @abstractmethod
    def build(self, fields: int, options: NumericOptions) -> int:
        """Make the parameters of the weights; return how many weights a number has."""

    @abstractmethod
    def weights(
        self, numbers: Float[Tensor, "batch fields"]
    ) -> Float[Tensor, "batch fields weights"]:
        """Return what every number weighs the rows of its field with."""

    def activate(
        self, sums: Float[Tensor, "fields batch sets width"]
    ) -> Float[Tensor, "fields batch sets width"]:
        """Return embeddings from weighted sums."""
        return sums

    def forward(
        self, numbers: Float[Tensor, "batch fields"]
    ) -> Float[Tensor, "batch sets fields dim"]:
        """Embed every number; NaN is a missing one."""
        absent = numbers.isnan()
        weights = self.weights(numbers.masked_fill(absent, 0))
        rows = self.rows.view(self.fields, self.count, -1)
        columns = rows.shape[2]
        padded = F.pad(rows[:, 1:], (0, -columns % PRODUCT_COLUMNS))
        sums = (weights.transpose(0, 1) @ padded)[..., :columns].unflatten(2, (self.sets, -1))
        missing = rows[:, :1].unflatten(2, (self.sets, -1))
        found = torch.where(absent.T[..., None, None], missing, self.activate(sums))
        return found.permute(1, 2, 0, 3)

    def by_field(self) -> list[Float[Tensor, "rows columns"]]:
        """The rows of every field, as views."""
        return list(self.rows.detach().split(self.count))


class LinearNumbers(NumericEmbedding):
    """`b + w v`: rows `b` and `w`."""

    @override
    def build(self, fields: int, options: NumericOptions) -> int:
        return 2

    @override
    def weights(
        self, numbers: Float[Tensor, "batch fields"]
    ) -> Float[Tensor, "batch fields weights"]:
        return torch.stack([torch.ones_like(numbers), numbers], dim=-1)


class PeriodicLinear(NumericEmbedding):
    """`relu(b + W [cos 2 pi c v, sin 2 pi c v])` with learnt frequencies c.

    Gorishniy, Rubachev and Babenko, NeurIPS 2022, section 3.3. The rows are `b`, then those that
    the cosines weigh, then those of the sines.
    """

    @override
    def build(self, fields: int, options: NumericOptions) -> int:
        size = options.frequency_scale
        drawn = torch.empty(fields, options.frequencies)
        # As the authors' later package draws them, which leaves out extreme ones.
        self.frequencies = nn.Parameter(nn.init.trunc_normal_(drawn, 0, size, -3 * size, 3 * size))
        return 1 + 2 * options.frequencies

    @override
    def weights(
        self, numbers: Float[Tensor, "batch fields"]
    ) -> Float[Tensor, "batch fields weights"]:
        angles = 2 * math.pi * self.frequencies * numbers[..., None]
        return torch.cat([torch.ones_like(angles[..., :1]), angles.cos(), angles.sin()], dim=-1)

    @override
    def activate(
        self, sums: Float[Tensor, "fields batch sets width"]
    ) -> Float[Tensor, "fields batch sets width"]:
        embeddings, first_order = self.row.split(sums)
        found = embeddings.relu()
        return found if first_order is None else torch.cat([found, first_order[..., None]], -1)


class SoftBuckets(NumericEmbedding):
    """A mean of meta-embeddings, its weights a softmax of scores that the number gives.

    AutoDis, Guo et al., KDD 2021: `h = leaky_relu(w v)`, scores `W h + a h`, weights
    `softmax(scores / temperature)`. The rows are the meta-embeddings.
    """

    # DIFFERS: the paper learns the temperature by a network of its own from statistics of the
    # field; here, as in TorchEasyRec, it is a number that is given.

    @override
    def build(self, fields: int, options: NumericOptions) -> int:
        self.temperature, self.skip = options.temperature, options.keep_prob
        count = options.buckets
        spreads = math.sqrt(2 / (1 + count)), math.sqrt(1 / count)  # as TorchEasyRec draws them
        self.slopes = nn.Parameter(torch.empty(fields, count).normal_(0, spreads[0]))
        self.mixing = nn.Parameter(torch.empty(fields, count, count).normal_(0, spreads[1]))
        return count

    @override
    def weights(
        self, numbers: Float[Tensor, "batch fields"]
    ) -> Float[Tensor, "batch fields weights"]:
        hidden = F.leaky_relu(self.slopes * numbers[..., None])
        mixed = (hidden.transpose(0, 1) @ self.mixing.mT).transpose(0, 1)
        return ((mixed + self.skip * hidden) / self.temperature).softmax(dim=-1)


NUMERIC_KINDS: dict[NumericKind, Callable[..., NumericEmbedding]] = {
    "linear": LinearNumbers,
    "plr": PeriodicLinear,
    "soft": SoftBuckets,
}
"""Embeddings of numbers by name."""


class NumericFields(nn.ModuleDict):
    """The fields of a model that are embedded as numbers, each kind's under its name.

    Args:
        kinds: Of every field of the model; None where it has a table of ids.
        slots: Columns of ids of every field.
        dim: Size of one set's embedding.
        sets: Number of embedding sets.
        row: What a field has in one set.
        options: Sizes of the kinds.
    """

    def __init__(
        self,
        kinds: Sequence[NumericKind | None],
        slots: Sequence[int],
        *,
        dim: int,
        sets: int,
        row: Row,
        options: NumericOptions,
    ) -> None:
        shape = {"dim": dim, "sets": sets, "row": row, "options": options}
        counts: dict[NumericKind, int] = {
            kind: kinds.count(kind) for kind in NUMERIC_KINDS if kind in kinds
        }
        made = {kind: NUMERIC_KINDS[kind](count, **shape) for kind, count in counts.items()}
        super().__init__(made)
        self.kinds = tuple(kinds)
        self.count = sum(counts.values())
        """Columns of numbers."""
        self.columns = sum(slots)
        """Columns of ids, those of numeric fields among them."""
        of_columns = [kind for kind, n in zip(kinds, slots, strict=True) for _ in range(n)]
        self._keep("tabled", [at for at, kind in enumerate(of_columns) if kind is None])
        numeric = [kind for kind in kinds if kind is not None]
        for kind in counts:
            self._keep(f"at_{kind}", [at for at, one in enumerate(numeric) if one == kind])
        runs = [(kind, len(list(those))) for kind, those in itertools.groupby(kinds)]
        self._order = [kind for kind, _ in runs]
        self._sizes = {kind: [n for of, n in runs if of == kind] for kind in self._order}

    def _keep(self, name: str, numbers: list[int]) -> None:
        device = "cpu" if torch.get_default_device().type == "meta" else None
        places = torch.tensor(numbers, dtype=torch.int64, device=device)
        self.register_buffer(name, places, persistent=False)

    def table_ids(self, ids: Int[Tensor, "batch all_columns"]) -> Int[Tensor, "batch columns"]:
        """Return the ids of the fields that have tables.

        Raises:
            DataError: If there are not as many columns as the model's fields have.
        """
        if ids.shape[1] != self.columns:
            raise DataError(f"ids must have {self.columns} columns, got {ids.shape[1]}")
        return ids[:, self.get_buffer("tabled")]

    def complete(
        self,
        found: Float[Tensor, "batch sets tables dim"],
        numbers: Float[Tensor, "batch numbers"] | None,
    ) -> Float[Tensor, "batch sets fields dim"]:
        """Put the embeddings of numbers between those that were looked up.

        Raises:
            DataError: If there is not a column of numbers for every field that takes some.
        """
        given = 0 if numbers is None else numbers.shape[1]
        if numbers is None or given != self.count:
            raise DataError(f"numbers must have {self.count} columns, got {given}")
        cuts = {}
        for kind, sizes in self._sizes.items():
            part = found
            if kind is not None:
                own = numbers if len(self) == 1 else numbers[:, self.get_buffer(f"at_{kind}")]
                part = self[kind](own).to(found.dtype)
            cuts[kind] = iter(part.transpose(0, 1).split(sizes, dim=2))
        # As interactions want them in memory: sets first.
        return torch.cat([next(cuts[kind]) for kind in self._order], dim=2).transpose(0, 1)

    def blocks(self) -> list[Float[Tensor, "_ columns"]]:
        """The rows of every field, those of a kind together, as views."""
        return [block for blocks in self._blocks().values() for block in blocks]

    def _blocks(self) -> dict[str, list[Float[Tensor, "_ columns"]]]:
        return {kind: cast(NumericEmbedding, module).by_field() for kind, module in self.items()}

    def merged(
        self, tables: Iterable[Float[Tensor, "_ columns"]]
    ) -> list[Float[Tensor, "_ columns"]]:
        """Return the rows of every field of the model in order; `tables` are the other fields'."""
        of = {kind: iter(blocks) for kind, blocks in self._blocks().items()}
        rest = iter(tables)
        found = [next(rest, None) if kind is None else next(of[kind]) for kind in self.kinds]
        return [block for block in found if block is not None]  # histories have none
