"""What every architecture is: hyperparameters that build an interaction and a head."""

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar

from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from typing_extensions import override

from multiembed.base.bounds import MOST_LAYERS, Width
from multiembed.kernels.rows import Row
from multiembed.models.layers import SetBlock, set_mlp


class Interaction(nn.Module, ABC):
    """Turns the embeddings of every set into one representation per set.

    An interaction sees neither ids nor tables, and each set only itself. Built with one set, it
    serves any number of them with the same parameters.
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


class TwoBranchHead(nn.Module):
    """Adds the logits of two branches that the interaction put side by side.

    The first `explicit` numbers go through one linear layer, the rest through an `MlpHead`.
    """

    def __init__(self, explicit: int, deep: MlpHead) -> None:
        super().__init__()
        self.explicit = nn.Linear(explicit, 1)
        self.deep = deep

    def forward(self, mean: Float[Tensor, "batch width"]) -> Float[Tensor, " batch"]:
        """Return one logit per row."""
        explicit, deep = mean.tensor_split([self.explicit.in_features], dim=1)
        return self.explicit(explicit).squeeze(1) + self.deep(deep)


class Architecture(BaseModel, ABC):
    """Hyperparameters of one architecture; the defaults are what the paper ran.

    An interaction must not be linear in the embeddings: without a non-linearity before the mean,
    several sets would be one wide set (Guo et al., Appendix E).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_dim: ClassVar[int] = 10
    """The paper's embedding size at 1x."""
    ends_in_projection: ClassVar[bool] = False
    """Whether sets end in the first of the ReLU layers, whose rest is the head."""

    @abstractmethod
    def interaction(self, *, fields: int, dim: int, sets: int) -> Interaction:
        """Build the part that every set has."""

    @abstractmethod
    def head(self, width: int) -> nn.Module:
        """Build the part after the mean: `(batch, width)` to one logit per row."""

    def row(self, fields: int) -> Row:
        """Say what the tables hold for one id of one set; the interaction reads it."""
        return Row()


class DeepArchitecture(Architecture):
    """An architecture with ReLU layers: the first belongs to each set, the rest to the head."""

    hidden: Annotated[tuple[Width, ...], Field(min_length=1, max_length=MOST_LAYERS)] = (400, 400)
    """Sizes of the ReLU layers."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of hidden units set to zero in training."""
    batch_norm: bool = True
    """Whether hidden layers normalise over the batch."""

    @override
    def head(self, width: int) -> nn.Module:
        return self.deep_head(width)

    def deep_head(self, width: int) -> MlpHead:
        """Build the ReLU layers after the mean and the final linear one."""
        return MlpHead(width, self.hidden[1:], dropout=self.dropout, batch_norm=self.batch_norm)

    def projection(self, sets: int, inputs: int) -> SetBlock:
        """Build the first hidden layer, which belongs to each set."""
        return SetBlock(
            sets, inputs, self.hidden[0], dropout=self.dropout, batch_norm=self.batch_norm
        )
