"""FFM: an embedding of every field for every other field (Juan et al., RecSys 2016)."""

from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function
from typing_extensions import override

from multiembed.base.errors import ConfigError
from multiembed.base.loops import run_shares
from multiembed.base.memory import fitting
from multiembed.kernels.by_hand import derive_again, product_dtype
from multiembed.kernels.cpu.pair_loops import part_pairs, sum_pairs
from multiembed.models.embedding import Row
from multiembed.models.interactions.base import Architecture, Interaction

Layout = tuple[int, bool, bool]
"""Size of an embedding, whether a field has one for itself, and whether there is a linear term."""


class Ffm(Architecture):
    """The sum over fields i < j of `<e_i for j, e_j for i>`, and a linear term.

    A table row of field i holds one embedding for every field, in order, then the first-order
    weight. `dim` is the size of one of these embeddings.
    """

    base_dim: ClassVar[int] = 8

    # DIFFERS: no equation reads field i's embedding for itself; it is there by default because
    # the reference code has it (weight decay alone moves it); own_block=False leaves it out.
    own_block: bool = True
    """Whether a field has an embedding for itself, which nothing reads."""
    linear: bool = True
    """Whether every id has a first-order weight, and their sum is added to the logit."""

    @override
    def row(self, fields: int) -> Row:
        if fields < 2:
            raise ConfigError(f"ffm must have at least 2 fields to multiply, got {fields}")
        return Row(blocks=fields if self.own_block else fields - 1, first_order=self.linear)

    @override
    def interaction(self, *, fields: int, dim: int, sets: int) -> Interaction:
        return FieldAwareProducts(self, fields=fields, dim=dim)

    @override
    def head(self, width: int) -> nn.Module:
        return Bias()


class FieldAwareProducts(Interaction):
    """One number per set: the sum of all products and, if there is one, the linear term."""

    width = 1

    def __init__(self, architecture: Ffm, *, fields: int, dim: int) -> None:
        super().__init__()
        self.linear = architecture.linear
        self.own_block = architecture.own_block
        self.row = architecture.row(fields)
        self.dim = dim

    @override
    def forward(
        self, embeddings: Float[Tensor, "batch sets fields columns"]
    ) -> Float[Tensor, "batch sets width"]:
        dtype = product_dtype(embeddings, embeddings, training=self.training)
        layout = (self.dim, self.own_block, self.linear)
        score = _all_pairs if dtype is None else _SummedPairs.apply
        return score(embeddings, layout).unsqueeze(2)


def _all_pairs(
    embeddings: Float[Tensor, "batch sets fields columns"], layout: Layout
) -> Float[Tensor, "batch sets"]:
    dim, own_block, linear = layout
    fields = embeddings.shape[2]
    blocks = embeddings[..., :-1] if linear else embeddings
    blocks = blocks.unflatten(3, (-1, dim))
    i, j = torch.triu_indices(fields, fields, 1, device=embeddings.device)
    # Without own blocks, field i's embedding for a later field j stands one place earlier.
    for_later = blocks[:, :, i, j if own_block else j - 1]
    for_earlier = blocks[:, :, j, i]
    score = (for_later * for_earlier).sum(dim=(2, 3))
    return score + embeddings[..., -1].sum(dim=2) if linear else score


class _SummedPairs(Function):
    """Reads embeddings where they lie: copies of all pairs would outgrow them."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        embeddings: Tensor,
        layout: Layout,
    ) -> Float[Tensor, "batch sets"]:
        ctx.save_for_backward(embeddings)
        ctx.layout = layout
        rows = embeddings.detach().transpose(0, 1).contiguous()
        scores = rows.new_empty(rows.shape[:2])
        run_shares(sum_pairs, rows.numpy(), layout, scores.numpy(), work=rows.numel())
        return scores.transpose(0, 1)

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,  # noqa: ANN401
        *gradients: Float[Tensor, "batch sets"],
    ) -> tuple[Tensor | None, None]:
        (gradient,) = gradients
        (embeddings,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            plain = partial(_all_pairs, layout=ctx.layout)
            return derive_again(plain, [embeddings], [True], gradient)[0], None
        rows = embeddings.transpose(0, 1).contiguous()
        slopes = gradient.transpose(0, 1).contiguous()
        of_rows = fitting(*rows.shape, dtype=rows.dtype)
        arrays = slopes.numpy(), rows.numpy()
        run_shares(part_pairs, *arrays, ctx.layout, of_rows.numpy(), work=rows.numel())
        return of_rows.transpose(0, 1), None


class Bias(nn.Module):
    """Adds one number to the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, mean: Float[Tensor, "batch 1"]) -> Float[Tensor, " batch"]:
        """Return one logit per row."""
        return mean.squeeze(1) + self.bias
