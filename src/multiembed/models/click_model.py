"""The model: ids -> embeddings -> interaction per set -> mean over sets -> head -> logit."""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from multiembed.base.errors import ConfigError
from multiembed.kernels.own_gradient import Context, own_gradient
from multiembed.kernels.rows import Row
from multiembed.models.budget import Budget, Parts, count_flops, count_parameters
from multiembed.models.embedding import EmbeddingSets
from multiembed.models.factored import FactoredEmbeddings
from multiembed.models.interactions.architectures import ARCHITECTURES, ROUNDED_BY_FIRST_PRODUCT
from multiembed.models.interactions.base import Architecture, DeepArchitecture
from multiembed.models.layers import SetLinear, observing
from multiembed.models.naming import EmbeddingInit, Gate, Mix, base_dim, counted_mix, named_mix
from multiembed.models.value_vectors import ValueVectors


class SetGroup(nn.Module):
    """Sets that share one kind of interaction.

    Args:
        architecture: What the sets are made of.
        fields: Number of fields.
        dim: Size of one set's embedding.
        sets: Number of sets with parameters of their own.
        trunk: Whose ReLU layers follow the sets, where groups of different kinds meet; a group
            whose representations these cannot take as they are gets an `adapter` before them.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        fields: int,
        dim: int,
        sets: int,
        trunk: DeepArchitecture | None,
    ) -> None:
        super().__init__()
        self.interaction = architecture.interaction(fields=fields, dim=dim, sets=sets)
        self.width = self.interaction.width
        self.adapter = None
        if trunk is not None and not _fits(architecture, self.width, trunk):
            self.adapter = trunk.projection(sets, self.width)
            self.width = trunk.hidden[0]

    def forward(
        self, embeddings: Float[Tensor, "batch sets fields dim"]
    ) -> Float[Tensor, "batch sets width"]:
        """Represent every set."""
        views = self.interaction(embeddings)
        return views if self.adapter is None else self.adapter(views)


def equal_mean(views: Float[Tensor, "batch sets width"]) -> Float[Tensor, "batch width"]:
    """Return the mean over sets, of several in bfloat16 in float32."""
    if views.shape[1] == 1:
        return views.squeeze(1)
    # Unlike that of `mean`, the gradient of a sum is a view: one row of numbers for all sets.
    return _mean_of_bfloat16(views) if views.dtype == torch.bfloat16 else _mean(views)


def _mean(views: Float[Tensor, "batch sets width"]) -> Float[Tensor, "batch width"]:
    return views.sum(1, dtype=torch.promote_types(views.dtype, torch.float32)) / views.shape[1]


def _rounded_mean(ctx: Context, views: Tensor) -> Float[Tensor, "batch width"]:
    """A mean in another precision whose gradient is such a view; torch would round every set's."""
    ctx.like = views.shape, views.dtype
    return _mean(views)


def _rounded_mean_gradient(
    ctx: Context, gradient: Float[Tensor, "batch width"]
) -> Float[Tensor, "batch sets width"]:
    shape, dtype = ctx.like
    return (gradient / shape[1]).to(dtype).unsqueeze(1).expand(shape)


_mean_of_bfloat16 = own_gradient(_rounded_mean, _rounded_mean_gradient)


class LearnedGate(nn.Module):
    """Averages the sets with weights that depend on the row: a softmax of one score per set.

    A set's score is a linear map of its representation that begins at zero, so that training
    begins from the equal-weight mean.
    """

    def __init__(self, sets: int, width: int) -> None:
        super().__init__()
        self.score = SetLinear(sets, width, 1)
        for parameter in self.score.parameters():
            nn.init.zeros_(parameter)

    def forward(self, views: Float[Tensor, "batch sets width"]) -> Float[Tensor, "batch width"]:
        """Return the weighted mean."""
        return (self.score(views).softmax(dim=1) * views).sum(dim=1)


class ClickModel(nn.Module):
    """A multi-embedding click model (Guo et al., ICML 2024, section 5.1).

    With `sets=1` the mean is over one representation and this is the ordinary single-embedding
    model; there is no other class for it.

    Example:
        >>> import torch
        >>> import multiembed as me
        >>> model = me.ClickModel("dcnv2", cardinalities=[1000, 200, 30], dim=10, sets=4)
        >>> ids = torch.tensor([[17, 3, 29], [0, 199, 5]])
        >>> model(ids).shape, model.embedding.weight.shape
        (torch.Size([2]), torch.Size([1230, 40]))

    Args:
        architecture: A name (`dnn`, `dcnv2`, …: the paper's hyperparameters); several with their
            numbers of sets (`dcnv2:2,dnn:1`); an `Architecture` with hyperparameters of its own;
            or a sequence of those, each with its number of sets.
        cardinalities: Number of ids of every field (fields), *other* included.
        dim: Size of one set's embedding; the architecture's base size (10, as in the paper) if
            not given.
        sets: Number of embedding sets M; if not given, one or what `architecture` says.
        shared_interaction: One interaction for all sets of an architecture (the paper's section
            5.3, variant a).
        gate: How the sets' representations are joined: by their mean, or weighted by a
            `LearnedGate`.
        embedding_init: See `EmbeddingSets`.
        tables: What builds the embedding tables instead, from cardinalities, `dim`, `sets` and
            `row`: `partial(EmbeddingSets, slots=(1, 3), pooling="sum")` for multi-valued fields,
            `signals=Signals(Histories((0,), "attention"))` and `slots=(1, 1, 50)` for a
            history of the first field's values, `partial(FactoredEmbeddings, kept=(4, 2))` for
            compressed ones.

    Raises:
        ConfigError: If the architecture is unknown, a size is below 1, or architectures cannot
            share one model.
    """

    def __init__(
        self,
        architecture: str | Architecture | Mix,
        cardinalities: Sequence[int],
        *,
        dim: int | None = None,
        sets: int | None = None,
        shared_interaction: bool = False,
        gate: Gate = "mean",
        embedding_init: EmbeddingInit = "table",
        tables: Callable[..., EmbeddingSets | FactoredEmbeddings] | None = None,
    ) -> None:
        super().__init__()
        self.mix = counted_mix(_as_mix(architecture), sets)
        embedding = (tables or partial(EmbeddingSets, init=embedding_init))(
            cardinalities,
            dim=base_dim(self.mix) if dim is None else dim,
            sets=sum(count for _, count in self.mix),
            row=partial(common_row, self.mix),
        )
        self.embedding = cast(EmbeddingSets, embedding)  # factored ones answer the same questions
        trunk = _trunk(self.mix) if len(self.mix) > 1 else None
        groups = [
            SetGroup(
                kind,
                fields=self.embedding.fields,
                dim=self.embedding.dim,
                sets=1 if shared_interaction else count,
                trunk=trunk,
            )
            for kind, count in self.mix
        ]
        width = groups[0].width
        self.groups = nn.ModuleList(groups)
        self.gate = LearnedGate(self.embedding.sets, width) if gate == "learned" else None
        self.head = self.mix[0][0].head(width) if trunk is None else trunk.deep_head(width)

    def forward(
        self,
        ids: Int[Tensor, "batch fields"],
        numbers: Float[Tensor, "batch numbers"] | None = None,
    ) -> Float[Tensor, " batch"]:
        """Return the logit of a click for every row of `ids`, and of `numbers` where it has such.

        Raises:
            DataError: If an id lies outside its field, or numbers are not as many as they must be.
        """
        return self.score(self.embedding(ids, numbers))

    def score(self, embeddings: Float[Tensor, "batch sets fields dim"]) -> Float[Tensor, " batch"]:
        """Return the logits of rows whose embeddings were already looked up."""
        return self.judge(self.represent(embeddings))

    def represent(
        self, embeddings: Float[Tensor, "batch sets fields dim"]
    ) -> Float[Tensor, "batch sets width"]:
        """Return what every set's interaction makes of its embeddings."""
        if len(self.mix) == 1:  # a split's gradient would be a copy
            return self.groups[0](embeddings)
        parts = embeddings.split([count for _, count in self.mix], dim=1)
        views = [group(part) for group, part in zip(self.groups, parts, strict=True)]
        return torch.cat(views, dim=1)

    def judge(self, views: Float[Tensor, "batch sets width"]) -> Float[Tensor, " batch"]:
        """Return the logits of rows from the representations of their sets."""
        return self.head(equal_mean(views) if self.gate is None else self.gate(views))

    def summary(self) -> Budget:
        """Count parameters, and floating-point operations per example; `print` shows a table."""
        table = self.embedding
        row = table.weight.new_zeros(1, table.sets, table.fields, table.width)
        with observing(self):
            views, interaction = count_flops(self.represent, row)
            _, head = count_flops(self.judge, views)
        sizes = [count_parameters(part) for part in (self.embedding, self.groups, self)]
        return Budget(
            parameters=Parts(sizes[0], sizes[1], sizes[2] - sizes[0] - sizes[1]),
            flops=Parts(sum(part.flops for part in value_vectors(self)), interaction, head),
        )


def folded(model: ClickModel) -> ClickModel:
    """Return a model of the same outputs whose tables hold what its pretrained vectors add."""
    if not value_vectors(model):
        return model
    other = copy.deepcopy(model)
    other.embedding.weight.data = torch.cat(model.embedding.tables())
    other.embedding.forget_vectors()
    return other


def value_vectors(model: ClickModel) -> list[ValueVectors]:
    """Return the pretrained vectors of a model, field by field."""
    return [part for part in model.embedding.modules() if isinstance(part, ValueVectors)]


def _as_mix(architecture: str | Architecture | Mix) -> Mix:
    if isinstance(architecture, str):
        return named_mix(architecture)
    if isinstance(architecture, Architecture):
        return [(architecture, 1)]
    if not architecture:
        raise ConfigError("architecture must name at least one, got none")
    return architecture


def common_row(mix: Mix, fields: int) -> Row:
    """Return what a table holds for one id of one set: the same for all architectures.

    Raises:
        ConfigError: If they read different embeddings.
    """
    rows = {architecture.row(fields) for architecture, _ in mix}
    if len(rows) > 1:
        names = " and ".join(type(architecture).__name__ for architecture, _ in mix)
        raise ConfigError(
            f"architectures of one model must read the same embeddings, got {names}, of which "
            "one has several per id or a linear term"
        )
    return rows.pop()


def _trunk(mix: Mix) -> DeepArchitecture:
    """Return the architecture whose ReLU layers follow the sets of different groups."""
    for architecture, _ in mix:
        if isinstance(architecture, DeepArchitecture) and architecture.hidden:
            return architecture
    raise ConfigError("architectures of one model must have hidden layers in one, got none")


def _fits(architecture: Architecture, width: int, trunk: DeepArchitecture) -> bool:
    """Say whether representations end in the first ReLU layer that `trunk` has in each set."""
    return architecture.ends_in_projection and width == trunk.hidden[0]


def rounds_embeddings_first(model: ClickModel) -> bool:
    """Say whether all that is done to embeddings first rounds them to the precision of products.

    Then a GPU's lookup may round them: half the numbers go through memory.
    """
    kinds = {ARCHITECTURES[name] for name in ROUNDED_BY_FIRST_PRODUCT}
    return all(type(architecture) in kinds for architecture, _ in model.mix)
