"""Pretrained vectors of a field's values, and what a projection of them adds to their rows."""

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from multiembed.base.errors import ConfigError, DataError
from multiembed.models.vector_settings import Pretrained


class ValueVectors(nn.Module):
    """What set m adds to the row of a value: `vector @ projection[m]`, one vector for all sets.

    A value without a vector, a missing one and *other* have the vector 0, which stays: nothing is
    added to their rows. First-order weights, which some architectures have, get nothing either.

    DIFFERS: FuxiCTR's `sum` projects only where widths differ; we always do, for one set's
    projection is a view of the vectors of its own.

    Args:
        settings: With their record: width, and how many values have a vector.
        rows: Number of ids of the field.
        sets: Number of embedding sets of the model.
        columns: Numbers of one id's embeddings in one set.
    """

    index: Tensor
    vectors: Tensor

    def __init__(self, settings: Pretrained, *, rows: int, sets: int, columns: int) -> None:
        super().__init__()
        width, found = settings.width or 0, settings.found or 0
        self.sets, self.columns, self.used = sets, columns, settings.used(sets)
        self.register_buffer("index", torch.zeros(rows, dtype=torch.int32))
        vectors = torch.zeros(found + 1, width)
        if settings.trained:
            self.vectors = nn.Parameter(vectors)
        else:
            self.register_buffer("vectors", vectors)
        self.projection = nn.Parameter(torch.zeros(len(self.used), width, columns))

    @torch.no_grad()
    def initialise(self, block: Float[Tensor, "rows embeddings"]) -> None:
        """Draw the projection so that vectors of length 1 spread as these rows do."""
        self.projection.normal_().mul_(block.std())

    @torch.no_grad()
    def fill(self, index: Int[Tensor, " rows"], vectors: Float[Tensor, "vectors width"]) -> None:
        """Take vectors over: the first is 0, and `index` says which one every id has."""
        self.index.copy_(index)
        self.vectors.copy_(vectors)

    def forward(self, ids: Int[Tensor, "batch slots"]) -> Float[Tensor, "batch sets slots columns"]:
        """Return what is added to the embeddings of ids."""
        # The padding's gradient is none: the vector 0 stays, where vectors are trained.
        found = F.embedding(self.index[ids], self.vectors, padding_idx=0)
        added = torch.einsum("bsw,mwd->mbsd", found, self.projection)
        if len(self.used) < self.sets:
            parts = dict(zip(self.used, added.unbind(), strict=True))
            nothing = torch.zeros_like(added[0])
            added = torch.stack([parts.get(m, nothing) for m in range(self.sets)])
        return added.transpose(0, 1)

    def placed(
        self, ids: Int[Tensor, "batch slots"], width: int
    ) -> Float[Tensor, "batch sets slots width"]:
        """Return the same in the columns of whole rows, first-order weights included."""
        added = self(ids)
        return added if width == self.columns else F.pad(added, (0, width - self.columns))

    @torch.no_grad()
    def beside(
        self, block: Float[Tensor, "rows numbers"], first: int = 0
    ) -> Float[Tensor, "rows numbers"]:
        """Return rows of the field's table, from this one on, as a model looks them up."""
        ids = torch.arange(first, first + len(block), device=block.device).unsqueeze(1)
        rows = block.unflatten(1, (self.sets, -1))
        return (rows + self.placed(ids, rows.shape[2]).squeeze(2)).flatten(1)

    def check(self, file: Path) -> None:
        """Refuse an index that names vectors which are not there.

        Raises:
            DataError: If it does, naming the file that it was read from.
        """
        if bool(((self.index < 0) | (self.index >= len(self.vectors))).any()):
            raise DataError(f"{file} must name vectors below {len(self.vectors)}, got others")

    @property
    def flops(self) -> int:
        """Floating-point operations for one value."""
        return 2 * self.projection.numel()


def checked_places(vectors: dict[str, Pretrained], fields: int) -> dict[int, Pretrained]:
    """Return settings that training filled in, by the number of their field.

    Raises:
        ConfigError: If there is no such field.
    """
    known = {of.place: of for of in vectors.values() if of.place is not None}
    for place in known:
        if place >= fields:
            raise ConfigError(f"model.pretrained must name fields below {fields}, got {place}")
    return known
