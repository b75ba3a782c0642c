"""The products of field-aware embeddings in training on a CPU, where they lie in memory.

Compiled loops take arrays `(sets, batch, fields, columns)` and carry no annotations: Numba sees the
types of each call.
"""

# ruff: noqa: ANN001, ANN202

from typing import no_type_check

from jaxtyping import Float
from torch import Tensor

from multiembed.base.loops import compiled, run_shares
from multiembed.kernels.cpu.cpu_memory import fitting
from multiembed.kernels.own_gradient import Context, own_gradient
from multiembed.kernels.rows import Row


def field_aware_products_on_cpu(
    embeddings: Float[Tensor, "batch sets fields columns"], row: Row
) -> Float[Tensor, "batch sets"]:
    """Do what `operations.field_aware_products` does."""
    fields, columns = embeddings.shape[2:]
    first_order = int(row.first_order)
    dim = (columns - first_order) // row.blocks
    return _apply(embeddings, (dim, row.blocks == fields, row.first_order))


def _field_pairs(
    ctx: Context, embeddings: Tensor, layout: tuple[int, bool, bool]
) -> Float[Tensor, "batch sets"]:
    """Reads embeddings where they lie: copies of all pairs would outgrow them."""
    ctx.save_for_backward(embeddings)
    ctx.layout = layout
    rows = embeddings.detach().transpose(0, 1).contiguous()
    scores = rows.new_empty(rows.shape[:2])
    run_shares(_sum_pairs, rows.numpy(), layout, scores.numpy(), work=rows.numel())
    return scores.transpose(0, 1)


def _field_pairs_gradient(
    ctx: Context, gradient: Float[Tensor, "batch sets"]
) -> tuple[Tensor | None, None]:
    (embeddings,) = ctx.saved_tensors
    rows = embeddings.transpose(0, 1).contiguous()
    slopes = gradient.transpose(0, 1).contiguous()
    of_rows = fitting(*rows.shape, dtype=rows.dtype)
    arrays = slopes.numpy(), rows.numpy()
    run_shares(_part_pairs, *arrays, ctx.layout, of_rows.numpy(), work=rows.numel())
    return of_rows.transpose(0, 1), None


_apply = own_gradient(_field_pairs, _field_pairs_gradient)


@compiled
@no_type_check
def _sum_pairs(share, shares, embeddings, layout, scores):
    """Write for every row and set the sum over fields i < j of `<e_i for j, e_j for i>`."""
    dim, own_block, linear = layout
    sets, batch, fields, columns = embeddings.shape
    for part in range(sets):
        for sample in range(share * batch // shares, (share + 1) * batch // shares):
            row = embeddings[part, sample]
            score = row[:, columns - 1].sum() if linear else row[0, 0] * 0
            for i in range(fields):
                for j in range(i + 1, fields):
                    # Without own blocks, the one for a later field stands one place earlier.
                    for_later = (j if own_block else j - 1) * dim
                    for column in range(dim):
                        score += row[i, for_later + column] * row[j, i * dim + column]
            scores[part, sample] = score


@compiled
@no_type_check
def _part_pairs(share, shares, gradient, embeddings, layout, of_embeddings):
    """Write the gradient of what `_sum_pairs` read."""
    dim, own_block, linear = layout
    sets, batch, fields, columns = embeddings.shape
    for part in range(sets):
        for sample in range(share * batch // shares, (share + 1) * batch // shares):
            row, of_row = embeddings[part, sample], of_embeddings[part, sample]
            slope = gradient[part, sample]
            of_row[:] = 0
            if linear:
                of_row[:, columns - 1] = slope
            for i in range(fields):
                for j in range(i + 1, fields):
                    for_later = (j if own_block else j - 1) * dim
                    for column in range(dim):
                        of_row[i, for_later + column] = slope * row[j, i * dim + column]
                    for column in range(dim):
                        of_row[j, i * dim + column] = slope * row[i, for_later + column]
