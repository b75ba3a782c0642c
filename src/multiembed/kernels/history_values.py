"""Histories of a batch: values row by row, some rows with none; what is spread and summed by row.

The class here is the plain form in torch: every row has as many places as the longest history of
all may need, which no device has to look at ids for.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from multiembed.kernels.route import fast_form


class RowsRead(NamedTuple):
    """Rows of a table, one for every value."""

    table: Float[Tensor, "rows numbers"]
    places: Int[Tensor, " values"] | None = None
    """Of every value's row in the table; its rows are those of the values, in order, without."""

    def copies(self, sets: int) -> Float[Tensor, "values sets width"]:
        """Return the row of every value, parted into sets."""
        whole = self.table if self.places is None else F.embedding(self.places, self.table)
        return whole.unflatten(1, (sets, -1))


class PaddedHistories:
    """The histories of a batch, padded to one length.

    Args:
        ids: The values of every row, oldest first; -1 is none.
    """

    def __init__(self, ids: Int[Tensor, "batch slots"]) -> None:
        self.batch, self.length = ids.shape
        self._there: Bool[Tensor, "batch slots"] = ids >= 0
        self.ids: Int[Tensor, " values"] = ids.clamp(min=0).flatten()
        """Of every value; padding has 0."""
        self.sizes: Int[Tensor, " batch"] = self._there.sum(dim=1)
        """How many values every row has."""

    @property
    def ages(self) -> Int[Tensor, " values"]:
        """How many values of its row come after each."""
        places = torch.arange(self.length, device=self.ids.device)
        return (self.sizes.unsqueeze(1) - 1 - places).clamp(min=0).flatten()

    def spread(self, of_rows: Float[Tensor, "batch *shape"]) -> Float[Tensor, "values *shape"]:
        """Give every value what its row has."""
        return of_rows.repeat_interleave(self.length, dim=0)

    def normalised(self, scores: Float[Tensor, "values sets"]) -> Float[Tensor, "values sets"]:
        """Return the softmax over the values of each row."""
        by_row = scores.unflatten(0, (-1, self.length))
        hidden = ~self._there.unsqueeze(2)
        # Finite, so that a row without values gets no numbers that are none.
        lowest = torch.finfo(scores.dtype).min
        return by_row.masked_fill(hidden, lowest).softmax(dim=1).flatten(0, 1)

    def total(
        self, rows: RowsRead, weights: Float[Tensor, "values sets"] | None, sets: int
    ) -> Float[Tensor, "batch sets width"]:
        """Add up the rows of each history's values, every set by weights of its own if given."""
        there = self._there.flatten().unsqueeze(1)
        copies = rows.copies(sets)
        factors = there.to(copies.dtype) if weights is None else weights.where(there, 0.0)
        return (copies * factors.unsqueeze(2)).unflatten(0, (-1, self.length)).sum(dim=1)


def histories_of(ids: Int[Tensor, "batch slots"], values: Tensor) -> PaddedHistories:
    """Return the histories of a batch in the form that serves.

    Args:
        ids: As `PaddedHistories` takes them.
        values: The table that they are to be read from.
    """
    form = fast_form("histories", values, values, training=True) or PaddedHistories
    return form(ids)
