"""Who collapses whom: how much of a pair's fall is the table's, how much the projection's."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from multiembed.spectra.gram_root import abundances, gram_root
from multiembed.spectra.subembeddings import Projection, project, projection_blocks
from multiembed.spectra.summary import Summary


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
