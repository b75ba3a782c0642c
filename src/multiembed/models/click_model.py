"""The model: ids -> embeddings -> interaction per set -> mean over sets -> head -> logit."""

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor, nn

from multiembed.models.embedding import EmbeddingInit, EmbeddingSets
from multiembed.models.interactions import Architecture
from multiembed.models.named import named_architecture


class SetGroup(nn.Module):
    """Sets that share one kind of interaction."""

    def __init__(self, architecture: Architecture, *, fields: int, dim: int, sets: int) -> None:
        super().__init__()
        self.interaction = architecture.interaction(fields=fields, dim=dim, sets=sets)
        self.width = self.interaction.width

    def forward(
        self, embeddings: Float[Tensor, "batch sets fields dim"]
    ) -> Float[Tensor, "batch sets width"]:
        """Represent every set."""
        return self.interaction(embeddings)


class ClickModel(nn.Module):
    """A multi-embedding click model (Guo et al., ICML 2024, section 5.1).

    With `sets=1` the mean is over one representation and this is the ordinary single-embedding
    model; there is no other class for it.

    Args:
        architecture: A name (`dnn`, `dcnv2`, …: the paper's hyperparameters), or an
            `Architecture` with hyperparameters of its own.
        cardinalities: Number of ids of every field, *other* included.
        dim: Size of one set's embedding; the architecture's base size (10, as in the paper) if
            not given.
        sets: Number of embedding sets M.
        shared_interaction: One interaction for all sets (the paper's section 5.3, variant a).
        embedding_init: See `EmbeddingSets`.

    Raises:
        ConfigError: If the architecture is unknown, or a size is below 1.
    """

    def __init__(
        self,
        architecture: str | Architecture,
        cardinalities: Sequence[int],
        *,
        dim: int | None = None,
        sets: int = 1,
        shared_interaction: bool = False,
        embedding_init: EmbeddingInit = "table",
    ) -> None:
        super().__init__()
        if isinstance(architecture, str):
            architecture = named_architecture(architecture)
        self.architecture = architecture
        self.embedding = EmbeddingSets(
            cardinalities,
            dim=architecture.base_dim if dim is None else dim,
            sets=sets,
            init=embedding_init,
            row=architecture.row(len(cardinalities)),
        )
        group = SetGroup(
            architecture,
            fields=len(self.embedding.cardinalities),
            dim=self.embedding.dim,
            sets=1 if shared_interaction else sets,
        )
        self.groups = nn.ModuleList([group])
        self.head = architecture.head(group.width)

    def forward(self, ids: Int[Tensor, "batch fields"]) -> Float[Tensor, " batch"]:
        """Return the logit of a click for every row of `ids`.

        Raises:
            DataError: If an id lies outside its field.
        """
        return self.score(self.embedding(ids))

    def score(self, embeddings: Float[Tensor, "batch sets fields dim"]) -> Float[Tensor, " batch"]:
        """Return the logits of rows whose embeddings were already looked up."""
        return self.head(self.groups[0](embeddings).mean(dim=1))
