"""Tables stored narrower than they are, as a compressed run has them."""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from multiembed.base.errors import ConfigError
from multiembed.kernels.rows import Row
from multiembed.models.embedding import RowOfFields, check_ids, known_numbers, settled_row
from multiembed.models.naming import Numeric
from multiembed.models.numeric_embedding import NumericFields


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
        kept: Columns that every table is stored with, `sets * row.width(dim)` at most; fields of
            numbers have none.
        dim: Size of one set's embedding.
        sets: Number of embedding sets.
        row: What one id has in one set, or what says it of a number of fields.
        numeric: Fields that are embedded as numbers.

    Raises:
        ConfigError: If `kept` has not one number per table.
    """

    limits: Tensor

    def __init__(
        self,
        cardinalities: Sequence[int],
        kept: Sequence[int],
        *,
        dim: int,
        sets: int,
        row: Row | RowOfFields,
        numeric: Numeric | None = None,
    ) -> None:
        super().__init__()
        numeric = numeric or Numeric()
        self.cardinalities = tuple(int(size) for size in cardinalities)
        self.fields = len(self.cardinalities)
        kinds = numeric.kinds or (None,) * self.fields
        rows = [*itertools.compress(self.cardinalities, (kind is None for kind in kinds))]
        if len(kept) != len(rows):
            raise ConfigError(f"table_dims must be one per table, {len(rows)}, got {len(kept)}")
        self.dim = dim
        self.sets = sets
        self.row = settled_row(row, self.fields)
        self.width = self.row.width(dim)
        self.register_buffer("limits", known_numbers(rows), persistent=False)
        self.numeric = None
        if any(kinds):
            shape = {"dim": dim, "sets": sets, "row": self.row}
            slots, options = [1] * self.fields, numeric.options
            self.numeric = NumericFields(kinds, slots, options=options, **shape)
        sizes = zip(rows, kept, strict=True)
        self._tables = [FactoredTable(rows, few, sets * self.width) for rows, few in sizes]
        self.tables = nn.ModuleList(self._tables)

    @property
    def weight(self) -> Float[Tensor, "rows columns"]:
        """The whole matrix that the tables stand for, written out anew."""
        return torch.cat(self._expanded())

    def by_field(self) -> list[Float[Tensor, "rows columns"]]:
        """What is looked up in every field; of a field of numbers, the few rows they weigh."""
        tables = self._expanded()
        return tables if self.numeric is None else self.numeric.merged(tables)

    @torch.no_grad()
    def _expanded(self) -> list[Float[Tensor, "rows columns"]]:
        """The tables that codes stand for: `(cardinality, sets * width)` each."""
        return [table.expand(table.codes) for table in self._tables]

    def forward(
        self, ids: Int[Tensor, "batch fields"], numbers: Tensor | None = None
    ) -> Float[Tensor, "batch sets fields dim"]:
        """Look up every id in every set, and embed numbers.

        Raises:
            DataError: If an id lies outside its field, naming field, id and cardinality; or there
                are not as many numbers as the model's fields need.
        """
        ids = ids if self.numeric is None else self.numeric.table_ids(ids)
        check_ids(ids, self.limits)
        rows = torch.stack([t(ids[:, field]) for field, t in enumerate(self._tables)], dim=1)
        found = rows.unflatten(2, (self.sets, self.width)).transpose(1, 2)
        return found if self.numeric is None else self.numeric.complete(found, numbers)
