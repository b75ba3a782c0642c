"""Products of all pairs of fields whose rows hold an embedding for every field. Compiled, for CPU.

Arrays are `(sets, batch, fields, columns)`. `layout` is how many numbers an embedding has, whether
a field has one for itself, and whether the last column is a first-order weight.
"""

# ruff: noqa: ANN001, ANN201

from typing import no_type_check

from multiembed.base.loops import compiled


@compiled
@no_type_check
def sum_pairs(share, shares, embeddings, layout, scores):
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
def part_pairs(share, shares, gradient, embeddings, layout, of_embeddings):
    """Write the gradient of what `sum_pairs` read."""
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
