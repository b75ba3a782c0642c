"""What each field shows every other: the abundance of all `E_i W_{i->j}^T`, and whose doing it is.

With `E = QR` and Q's columns orthonormal, `E W^T` and `R W^T` have the same singular values,
and any R with the Gram matrix of E does: after one pass over the tables the cost of all pairs
is that of `fields^2` small matrices, however many rows the tables have.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # scipy loads `stats`, an eighth of the command line's start, when it is asked for
from jaxtyping import Float, Float64
from torch import Tensor

from multiembed.base.errors import DataError
from multiembed.spectra.spectrum import abundances, gram_root
from multiembed.spectra.summary import Summary, as_float64

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
            pearson=_correlation(self.tables, self.by_target),
            spearman=_correlation(*map(scipy.stats.rankdata, (self.tables, self.by_target))),
            pearson_off_diagonal=_correlation(self.tables, others),
            spearman_off_diagonal=_correlation(*map(scipy.stats.rankdata, (self.tables, others))),
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
    by_set = zip(*(table.blocks(blocks.shape[-1]) for table in tables), strict=True)
    return tuple(
        _through_blocks(of_set, layer[None]) for of_set, layer in zip(by_set, blocks, strict=True)
    )


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


def _through_blocks(tables: Sequence[Summary], blocks: Blocks) -> SubEmbeddings:
    roots = [gram_root(table) for table in tables]
    views = [abundances(project(root.matrix, blocks[:, i])) for i, root in enumerate(roots)]
    return SubEmbeddings(
        abundance=np.stack(views), tables=np.array([root.abundance for root in roots])
    )


def _correlation(x: Float64[np.ndarray, " n"], y: Float64[np.ndarray, " n"]) -> float:
    """Return Pearson's correlation; NaN where either is constant."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", scipy.stats.NearConstantInputWarning)
        found: Any = scipy.stats.pearsonr(x, y)  # its stubs know of no number in it
        return float(found.statistic)


@dataclass(frozen=True, eq=False)
class Attribution:
    """Falls of `log IA(E_i^{->j})` below its ceiling, at `[i, j]`, in nats.

    The ceiling is `log min(rows, dim)`: the table with its singular values made equal (same
    directions), through a projection that is a rotation. Writing v(...) for log abundance
    with the named parts as they are and the others ideal, in the game of two players:

    - `table_alone = v() - v(table) = log min(rows, dim) - log IA(E_i)`;
    - `projection_alone = v() - v(projection)`, the fall of the equalised table;
    - `alignment = total - table_alone - projection_alone`: positive where the projection
      stretches what the table already has most of, negative where it evens the table out,
      or where either alone had flattened everything.

    `table` and `projection` are the Shapley values, the parts alone and half the alignment
    each: the one split that is symmetric, gives nothing to an ideal part, and adds up to
    `total`. Negative values repair. A random square projection is itself not ideal: it
    costs `log dim - log null_information_abundance(dim, dim)`, 0.75 at dim 10.
    NaN where a table or a projection is all zeros.
    """

    total: Float64[np.ndarray, "fields fields"]
    table_alone: Float64[np.ndarray, " fields"]
    projection_alone: Float64[np.ndarray, "fields fields"]

    @property
    def alignment(self) -> Float64[np.ndarray, "fields fields"]:
        """The fall that needs both."""
        return self.total - self.table_alone[:, None] - self.projection_alone

    @property
    def table(self) -> Float64[np.ndarray, "fields fields"]:
        """The part of `total` that is the doing of table i."""
        return self.table_alone[:, None] + self.alignment / 2

    @property
    def projection(self) -> Float64[np.ndarray, "fields fields"]:
        """The part of `total` that is the doing of `W_{i->j}`."""
        return self.projection_alone + self.alignment / 2

    @property
    def pull(self) -> Float64[np.ndarray, " fields"]:
        """Per field j, the mean of `projection[i, j]` over the other fields i.

        How far meeting field j flattens what others show it, beyond what their own tables
        do: the field with the largest pull collapses the others.
        """
        others = np.where(np.eye(len(self.total), dtype=bool), np.nan, self.projection)
        count = np.sum(~np.isnan(others), axis=0)
        sums = np.nansum(others, axis=0)
        return np.divide(sums, count, out=np.full(len(sums), np.nan), where=count > 0)


def attribute(tables: Sequence[Summary], projection: Projection) -> Attribution:
    """Split the fall of every pair's abundance between table and projection.

    Args:
        tables: Per field the summary of its `(rows, sets * dim)` table, set by set; sets
            are taken side by side, as in `sub_embeddings`.
        projection: The layer of every set, or one that all sets share.

    Raises:
        DataError: If tables and projection do not fit together.
    """
    blocks = projection_blocks(tables, projection)
    roots = [gram_root(table) for table in tables]
    ceiling = np.log([float(len(root.scales)) for root in roots])
    both = np.stack([_views(root.matrix, blocks[:, i]) for i, root in enumerate(roots)])
    projected = np.stack([_views(root.directions, blocks[:, i]) for i, root in enumerate(roots)])
    alone = _log(np.array([root.abundance for root in roots]))
    return Attribution(
        total=ceiling[:, None] - both,
        table_alone=ceiling - alone,
        projection_alone=ceiling[:, None] - projected,
    )


def _views(
    root: Float64[np.ndarray, "height columns"],
    blocks: Float64[np.ndarray, "sets fields dim dim"],
) -> Float64[np.ndarray, " fields"]:
    return _log(abundances(project(root, blocks)))


def _log(abundance: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    return np.log(np.where(abundance > 0, abundance, np.nan))
