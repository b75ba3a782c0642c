"""The one interface between the training loop and whatever updates embedding tables.

A step is `lookup`, loss, `backward`, `step`. Everybody who reads tables otherwise (evaluation,
checkpoints, spectra) calls `flush` first.
"""

from abc import ABC, abstractmethod

from jaxtyping import Float, Int, Num
from torch import Tensor

from multiembed.kernels.rows import GraphUpdate, TableLayout
from multiembed.models.embedding import EmbeddingSets


class TableOptimizer(ABC):
    """Updates the tables of one `EmbeddingSets`.

    Args:
        embedding: Tables to update, on the device they will be trained on.
        learning_rate: Used by the next `step`; a schedule assigns it.
        weight_decay: L2, within the gradient.
    """

    of_rows: tuple[str, ...] = ()
    """Names of what `state` has for every row; a new row has zeros."""
    graph_update: GraphUpdate | None = None
    """For CUDA graphs, where one can hold `lookup` and `step`."""

    def __init__(
        self, embedding: EmbeddingSets, *, learning_rate: float, weight_decay: float
    ) -> None:
        self.embedding = embedding
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay

    @abstractmethod
    def lookup(self, ids: Int[Tensor, "batch columns"]) -> Float[Tensor, "batch sets fields dim"]:
        """Return up-to-date embeddings whose gradient the next `step` will use.

        The ids are trusted: the trainer checks a dataset once, not every batch.
        """

    @abstractmethod
    def gradients(self) -> list[Tensor]:
        """Gradients since `lookup`, for clipping in place."""

    @abstractmethod
    def step(self) -> None:
        """Apply the gradients."""

    def flush(self) -> None:  # noqa: B027 - most have nothing to do
        """Bring every row of the table up to date."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on later, beside the table itself."""

    @abstractmethod
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` returned."""

    def carry(self, state: dict[str, Tensor], rows: Int[Tensor, " rows"]) -> None:
        """Go on from what `state` returned of a table that had other rows.

        Args:
            state: Of the same optimizer.
            rows: For every row of this table the one that it was in that table, -1 for a new one.
        """
        moved = {name: _moved(state[name], rows) for name in self.of_rows}
        self.load_state({**state, **moved})


def _moved(
    of_rows: Num[Tensor, "before ..."], rows: Int[Tensor, " rows"]
) -> Num[Tensor, "rows ..."]:
    moved = of_rows[rows.clamp(min=0)]
    moved[rows < 0] = 0
    return moved


def layout_of(embedding: EmbeddingSets) -> TableLayout:
    """Return where the rows of every field stand in the tables of `embedding`."""
    return TableLayout(
        embedding.offsets, embedding.table_rows, embedding.table_slots, embedding.sets
    )
