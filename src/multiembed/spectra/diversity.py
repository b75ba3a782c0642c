"""Whether the embedding sets of a field see different things: angles between their columns.

A field's sets lie side by side in one table, so consecutive column blocks of a single model's
table are measured by the same function: that is the paper's comparison in Figure 10a.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int
from torch import Tensor, finfo

from multiembed.base.errors import DataError
from multiembed.spectra.measures import SEED, random_root
from multiembed.spectra.spectrum import Route, gram_root, is_tall, triangle
from multiembed.spectra.summary import Matrix, Summary, check_table

GRAM_RATIO = 1e-5
"""Smallest over largest singular value of a set down to which angles come from Gram matrices:
they err by the square of the condition times roundoff, 2e-7 here and 2e-4 at 1e-7."""

GRAM_TOLERANCE = 1e-7
QR_TOLERANCE = 1e-12
SHARED_WITHIN = 1e-8
"""A cosine within this of 1 counts as a shared direction."""


@dataclass(frozen=True, eq=False)
class Diversity:
    """How the column spaces of a field's sets lie to each other, at `[a, b]` for each pair.

    Let `c_1 >= c_2 >= ...` be the cosines of the principal angles between sets a and b.

    The paper argues (Appendix F) that rank[A, B] = rank A + rank B - rank(U_A^T U_B), that is,
    less the number of cosines other than 0. That is wrong: it is less the number of cosines
    equal to 1, the dimension of what the column spaces share. Two distinct lines that are not
    orthogonal have rank 2 together; the paper's formula says 1. `shared` counts rightly, and
    `diversity` is a useful mean angle rather than a statement about rank.
    """

    cosines: Float64[np.ndarray, "sets sets dim"]
    """Cosines of principal angles, falling; 0 past the smaller rank."""
    ranks: Int[np.ndarray, " sets"]
    """Directions used per set; those below `tolerance` are noise, of no direction."""
    diversity: Float64[np.ndarray, "sets sets"]
    """The paper's: `1 - (1/dim) sum c_k` (section 5.3); a table of fewer rows than dim has
    diversity even from itself."""
    rank_aware_diversity: Float64[np.ndarray, "sets sets"]
    """`1 - sum c_k / min(rank a, rank b)`: 0 where one space holds the other."""
    weighted_overlap: Float64[np.ndarray, "sets sets"]
    """`|A^T B|_* / (|A|_F |B|_F)`, the nuclear norm: cosines weighted by singular values, so
    noise in collapsed directions counts for nothing; 1 for equal up to rotation and scale."""
    cka: Float64[np.ndarray, "sets sets"]
    """`|A^T B|_F^2 / (|A^T A|_F |B^T B|_F)`; on centred tables, Kornblith et al. (2019)."""
    route: Route
    tolerance: float
    """Smallest share of a set's largest singular value that counts as a direction."""

    @property
    def shared(self) -> Int[np.ndarray, "sets sets"]:
        """Directions that both sets hold: `rank a + rank b - rank [a, b]`."""
        return np.sum(self.cosines > 1 - SHARED_WITHIN, axis=-1)


@dataclass(frozen=True)
class MeanDiversity:
    """Means over pairs of different sets, then over fields, unweighted (Figure 10a).

    NaN where no pair is defined, every table having a set of zeros.
    """

    diversity: float
    rank_aware_diversity: float
    weighted_overlap: float
    cka: float


def set_diversity(
    table: Matrix | Summary,
    *,
    sets: int,
    centered: bool = False,
    tolerance: float | None = None,
    name: str = "matrix",
) -> Diversity:
    """Compare the embedding sets of one field.

    Args:
        table: `(rows, sets * dim)`, set by set; or its summary.
        sets: How many column blocks to compare.
        centered: Take the mean row away first.
        tolerance: Singular values of a set below this share of its largest count as noise.
            By default the larger of what the route resolves (1e-7 by Gram, 1e-12 by QR) and
            what storage leaves of a direction, half an eps of the stored precision times the
            root mean square singular value.
        name: What error messages call the table.

    A matrix is read again, by QR, where a set is too collapsed for angles from Gram matrices.

    Raises:
        DataError: If the columns do not divide into `sets`, or a number is not finite.
    """
    columns = table.dim if isinstance(table, Summary) else table.shape[-1]
    if sets < 1 or columns % sets:
        raise DataError(f"{name} must have columns in {sets} equal sets, got {columns}")
    if isinstance(table, Summary):
        root = gram_root(table, centered=centered).matrix
        return _compare(root, sets, route="gram", tolerance=tolerance or GRAM_TOLERANCE)
    check_table(table, name)
    summary = Summary.of(table, name=name)
    precision = _storage_eps(table) / 2
    if is_tall(summary.rows, columns):
        root = gram_root(summary, centered=centered).matrix
        if _shallow(root, sets):
            floor = tolerance or _floor(root, sets, precision, least=GRAM_TOLERANCE)
            return _compare(root, sets, route="gram", tolerance=floor)
    centre = summary.total / summary.weight if centered and summary.weight else None
    factor = triangle(table, centre=centre, name=name)
    floor = tolerance or _floor(factor, sets, precision, least=QR_TOLERANCE)
    return _compare(factor, sets, route="qr", tolerance=floor)


def random_set_diversity(rows: int, dim: int, *, sets: int, seed: int = SEED) -> Diversity:
    """Compare the sets of a table of independent normals: the ideal of Figure 10a.

    For many rows the diversity is about `1 - (8 / 3 pi) sqrt(dim / rows)`. The cost does not
    grow with rows.
    """
    root = random_root(rows, sets * dim, np.random.default_rng((seed, rows, dim, sets)))
    return _compare(root, sets, route="qr", tolerance=QR_TOLERANCE)


def mean_diversity(fields: Sequence[Diversity]) -> MeanDiversity:
    """Average over the pairs of every field, then over fields; undefined pairs are left out.

    Raises:
        DataError: If there is no field, or a field has one set alone.
    """
    if not fields or any(len(field.ranks) < 2 for field in fields):
        raise DataError("diversity must have two sets or more in every field, got fewer")
    return MeanDiversity(
        diversity=_mean([field.diversity for field in fields]),
        rank_aware_diversity=_mean([field.rank_aware_diversity for field in fields]),
        weighted_overlap=_mean([field.weighted_overlap for field in fields]),
        cka=_mean([field.cka for field in fields]),
    )


def _compare(
    root: Float64[np.ndarray, "height columns"], sets: int, *, route: Route, tolerance: float
) -> Diversity:
    parts = np.split(root, sets, axis=1)
    dim = parts[0].shape[1]
    factors = [np.linalg.svd(part, full_matrices=False)[:2] for part in parts]
    bases = [_directions(left, values, tolerance) for left, values in factors]
    ranks = np.array([basis.shape[1] for basis in bases])
    cosines = np.zeros((sets, sets, dim))
    for a in range(sets):
        for b in range(a, sets):
            found = np.linalg.svd(bases[a].T @ bases[b], compute_uv=False)
            cosines[a, b, : len(found)] = cosines[b, a, : len(found)] = np.minimum(found, 1.0)
    products = np.stack([[a.T @ b for b in parts] for a in parts])  # (sets, sets, dim, dim)
    nuclear = np.linalg.norm(products, ord="nuc", axis=(-2, -1))
    squares = np.linalg.norm(products, axis=(-2, -1))
    sizes = np.array([np.linalg.norm(part) for part in parts])
    own = np.diag(squares)
    return Diversity(
        cosines=cosines,
        ranks=ranks,
        diversity=1 - cosines.sum(axis=-1) / dim,
        rank_aware_diversity=1 - _ratio(cosines.sum(axis=-1), np.minimum.outer(ranks, ranks)),
        weighted_overlap=_ratio(nuclear, np.outer(sizes, sizes)),
        cka=_ratio(squares**2, np.outer(own, own)),
        route=route,
        tolerance=tolerance,
    )


def _directions(
    left: Float64[np.ndarray, "height values"],
    values: Float64[np.ndarray, " values"],
    tolerance: float,
) -> Float64[np.ndarray, "height rank"]:
    return left[:, values > tolerance * values.max(initial=0.0)]


def _ratio(
    above: Float64[np.ndarray, "sets sets"], below: np.ndarray
) -> Float64[np.ndarray, "sets sets"]:
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)


def _shallow(root: Float64[np.ndarray, "height columns"], sets: int) -> bool:
    values = [np.linalg.svd(part, compute_uv=False) for part in np.split(root, sets, axis=1)]
    return all(part[-1] > GRAM_RATIO * part[0] for part in values)


def _floor(
    root: Float64[np.ndarray, "height columns"], sets: int, precision: float, *, least: float
) -> float:
    """Return the share of a set's largest singular value that storage leaves as noise."""
    shares = [least]
    for part in np.split(root, sets, axis=1):
        largest = np.linalg.norm(part, ord=2) if part.size else 0.0
        if largest > 0:
            rms = np.linalg.norm(part) / np.sqrt(min(part.shape))
            shares.append(float(precision * rms / largest))
    return max(shares)


def _storage_eps(table: Matrix) -> float:
    if isinstance(table, Tensor):
        return float(finfo(table.dtype).eps) if table.is_floating_point() else 0.0
    return float(np.finfo(table.dtype).eps) if table.dtype.kind == "f" else 0.0


def _mean(fields: list[np.ndarray]) -> float:
    pairs = [field[np.triu_indices(len(field), k=1)] for field in fields]
    defined = [values[~np.isnan(values)] for values in pairs]
    means = [values.mean() for values in defined if values.size]
    return float(np.mean(means)) if means else float("nan")
