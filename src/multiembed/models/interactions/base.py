"""What every architecture is: hyperparameters that build an interaction and a head."""

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar

from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from multiembed.models.layers import SetBlock, set_mlp


class Interaction(nn.Module, ABC):
    """Turns the embeddings of every set into one representation per set.

    An interaction sees neither ids nor tables, and each set only itself.
    """

    width: int
    """Size of the representation of one set."""

    @abstractmethod
    def forward(
        self, embeddings: Float[Tensor, "batch sets fields dim"]
    ) -> Float[Tensor, "batch sets width"]:
        """Combine the fields of every row, set by set."""


class MlpHead(nn.Module):
    """ReLU layers and a final linear one: the averaged representation to a logit."""

    def __init__(
        self, width: int, hidden: tuple[int, ...], *, dropout: float, batch_norm: bool
    ) -> None:
        super().__init__()
        self.hidden = set_mlp(1, width, hidden, dropout=dropout, batch_norm=batch_norm)
        self.logit = nn.Linear(hidden[-1] if hidden else width, 1)

    def forward(self, mean: Float[Tensor, "batch width"]) -> Float[Tensor, " batch"]:
        """Return one logit per row."""
        return self.logit(self.hidden(mean.unsqueeze(1)).squeeze(1)).squeeze(1)


class Architecture(BaseModel, ABC):
    """Hyperparameters of one architecture; the defaults are the paper's.

    The first hidden layer belongs to each set, the rest comes after the mean over sets: without
    a non-linearity before the mean, several sets would be one wide set (Guo et al., Appendix E).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_dim: ClassVar[int] = 10
    """The paper's embedding size at 1x."""

    hidden: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (400, 400)
    """Sizes of the ReLU layers."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of hidden units set to zero in training."""
    batch_norm: bool = True
    """Whether hidden layers normalise over the batch."""

    @abstractmethod
    def interaction(self, *, fields: int, dim: int, sets: int) -> Interaction:
        """Build the part that every set has."""

    def head(self, width: int) -> nn.Module:
        """Build the part after the mean: `(batch, width)` to one logit per row."""
        return MlpHead(width, self.hidden[1:], dropout=self.dropout, batch_norm=self.batch_norm)

    def projection(self, sets: int, inputs: int) -> SetBlock:
        """Build the first hidden layer, which belongs to each set."""
        return SetBlock(
            sets, inputs, self.hidden[0], dropout=self.dropout, batch_norm=self.batch_norm
        )
