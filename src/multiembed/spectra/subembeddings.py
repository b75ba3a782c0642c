"""What each field shows every other: the abundance of all `E_i W_{i->j}^T`, from small roots.

With `E = QR` and Q's columns orthonormal, `E W^T` and `R W^T` have the same singular values,
and any R with the Gram matrix of E does: after one pass over the tables the cost of all pairs
is that of `fields^2` small matrices, however many rows the tables have.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64
from torch import Tensor

from multiembed.base.errors import DataError
from multiembed.spectra.blocks import as_float64
from multiembed.spectra.gram_root import abundances, column_block, gram_root
from multiembed.spectra.summary import Summary

Projection = Float[np.ndarray, "layers width width"] | Float[Tensor, "layers width width"]
"""Per set, or once for all sets, a layer's matrix on concatenated fields: `y = W x`.

Its width is `fields * dim`; rows `j*dim:(j+1)*dim` and columns `i*dim:(i+1)*dim`
carry field i into field j: `W_{i->j}`.
"""

Blocks = Float64[np.ndarray, "sets fields fields dim dim"]
"""`[set, i, j]` is `W_{i->j}`."""


@dataclass(frozen=True, eq=False)
class CoInfluence:
    """How the abundance of others' views of field j follows field j's own abundance.

    Correlations over j of `IA(E_j)` with `sum_i IA(E_i^{->j})`, the paper's "correlation
    factor" (section 5.3; it gives 0.68 for one set, 0.52 for several); NaN where either
    is constant. The paper does not say whether `i = j` is in the sum: both are given.
    """

    pearson: float
    spearman: float
    pearson_off_diagonal: float
    spearman_off_diagonal: float


@dataclass(frozen=True, eq=False)
class SubEmbeddings:
    """The abundance of every field's view of itself for every other (Figures 3, 9, 14, 16)."""

    abundance: Float64[np.ndarray, "fields fields"]
    """`[i, j]` is `IA(E_i^{->j})`: field i as field j meets it. 0 where the projection is
    zero, NaN where a model has no such pair."""
    tables: Float64[np.ndarray, " fields"]
    """`IA(E_i)`; sorting fields by it gives the order of the paper's heatmaps."""

    @property
    def by_source(self) -> Float64[np.ndarray, " fields"]:
        """Sum over targets, per source field i (Figure 3b)."""
        return np.nansum(self.abundance, axis=1)

    @property
    def by_target(self) -> Float64[np.ndarray, " fields"]:
        """Sum over sources, per target field j (Figure 3c)."""
        return np.nansum(self.abundance, axis=0)

    def co_influence(self) -> CoInfluence:
        """Correlate the tables' abundance with the sum of the others' views."""
        others = self.by_target - np.nan_to_num(np.diag(self.abundance))
        return CoInfluence(
            pearson=_pearson(self.tables, self.by_target),
            spearman=_pearson(_ranks(self.tables), _ranks(self.by_target)),
            pearson_off_diagonal=_pearson(self.tables, others),
            spearman_off_diagonal=_pearson(_ranks(self.tables), _ranks(others)),
        )


def sub_embeddings(tables: Sequence[Summary], projection: Projection) -> SubEmbeddings:
    """Return the abundance of all pairs, the sets of a field side by side.

    The paper does not say how Figure 9 treats several sets. Here `E_i^{->j}` is
    `[E_i^(1) W^(1)_{i->j}^T, ..., E_i^(M) W^(M)_{i->j}^T]`, as in its Figure 8b.

    Args:
        tables: Per field the summary of its `(rows, sets * dim)` table, set by set.
        projection: The layer of every set, or one that all sets share.

    Raises:
        DataError: If tables and projection do not fit together.
    """
    return _through_blocks(tables, projection_blocks(tables, projection))


def sub_embeddings_per_set(
    tables: Sequence[Summary], projection: Projection
) -> tuple[SubEmbeddings, ...]:
    """Return the abundance of all pairs, for every set by itself."""
    blocks = projection_blocks(tables, projection)
    return tuple(
        _through_blocks(one_set(tables, number, dim=blocks.shape[-1]), layer[None])
        for number, layer in enumerate(blocks)
    )


def field_aware_sub_embeddings(tables: Sequence[Summary], dim: int) -> SubEmbeddings:
    """Return the abundance of the sub-embeddings that an FFM model learns itself (Figure 14).

    Args:
        tables: Per field i the summary of `[E_i^{->1}, ..., E_i^{->N}]`, `dim` columns for
            each target; its own block, which is never trained, is left out of everything.
        dim: Columns of one sub-embedding.

    Raises:
        DataError: If a table is not `fields * dim` wide.
    """
    fields = len(tables)
    abundance = np.full((fields, fields), np.nan)
    whole = np.zeros(fields)
    for i, table in enumerate(tables):
        if table.dim != fields * dim:
            raise DataError(f"table of field {i} must have {fields * dim} columns, got {table.dim}")
        for j in range(fields):
            if j != i:
                view = column_block(table, j * dim, (j + 1) * dim)
                abundance[i, j] = gram_root(view).abundance
        whole[i] = gram_root(_without(table, i, dim)).abundance
    return SubEmbeddings(abundance=abundance, tables=whole)


def interaction_patterns(
    projection: Projection, *, fields: int
) -> Float64[np.ndarray, "layers fields fields"]:
    """Return `|W_{i->j}|_F` at `[set, i, j]`: how strongly each set carries i into j.

    Figure 10b of the paper, after Wang et al. (2021).
    """
    return np.linalg.norm(split_projection(projection, fields=fields), axis=(-2, -1))


def split_projection(projection: Projection, *, fields: int) -> Blocks:
    """Return the blocks `W_{i->j}` of a layer at `[set, i, j]`.

    Raises:
        DataError: If its width is no multiple of the number of fields.
    """
    sets, width, _ = projection.shape
    if width % fields:
        raise DataError(f"projection must be a multiple of {fields} fields wide, got {width}")
    dim = width // fields
    dense = np.stack([as_float64(layer) for layer in projection])
    return dense.reshape(sets, fields, dim, fields, dim).transpose(0, 3, 1, 2, 4)


def projection_blocks(tables: Sequence[Summary], projection: Projection) -> Blocks:
    """Return the blocks of a layer, once per set of the tables, shared or not.

    Raises:
        DataError: If a table has no rows or is not `sets * dim` wide.
    """
    blocks = split_projection(projection, fields=len(tables))
    dim = blocks.shape[-1]
    sets = tables[0].dim // dim if len(blocks) == 1 else len(blocks)
    for field, table in enumerate(tables):
        if table.rows < 1:
            raise DataError(f"table of field {field} must have rows, got none")
        if table.dim != sets * dim:
            raise DataError(
                f"table of field {field} must have {sets} sets of {dim} columns, got {table.dim}"
            )
    return np.broadcast_to(blocks, (sets, *blocks.shape[1:]))


def project(
    root: Float64[np.ndarray, "height columns"],
    blocks: Float64[np.ndarray, "sets fields dim dim"],
) -> Float64[np.ndarray, "fields height columns"]:
    """Return `root W_j^T` for every target j, each set's columns through its own block."""
    sets, fields, dim, _ = blocks.shape
    parts = root.reshape(len(root), sets, dim).transpose(1, 0, 2)  # (sets, height, dim)
    projected = parts[:, None] @ blocks.swapaxes(-2, -1)  # (sets, fields, height, dim)
    return projected.transpose(1, 2, 0, 3).reshape(fields, len(root), sets * dim)


def one_set(tables: Sequence[Summary], number: int, *, dim: int) -> list[Summary]:
    """Return the summary of every field's table in set `number` alone."""
    return [column_block(table, number * dim, (number + 1) * dim) for table in tables]


def _through_blocks(tables: Sequence[Summary], blocks: Blocks) -> SubEmbeddings:
    roots = [gram_root(table) for table in tables]
    views = [abundances(project(root.matrix, blocks[:, i])) for i, root in enumerate(roots)]
    return SubEmbeddings(
        abundance=np.stack(views), tables=np.array([root.abundance for root in roots])
    )


def _without(table: Summary, field: int, dim: int) -> Summary:
    kept = np.delete(np.arange(table.dim), np.s_[field * dim : (field + 1) * dim])
    return Summary(
        rows=table.rows,
        weight=table.weight,
        total=table.total[kept],
        gram=table.gram[np.ix_(kept, kept)],
    )


def _pearson(x: Float64[np.ndarray, " n"], y: Float64[np.ndarray, " n"]) -> float:
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 0 else float("nan")


def _ranks(x: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Return the place of each value among all, from 1; equal ones at their mean place."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
