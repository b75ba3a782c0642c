"""Tables whose truth is known because they were made so: rank, noise, offset, tails, rows, columns.

Nothing here looks at a measure of `multiembed`: a truth is what was put into a table. A kind is
a function of a random generator; every draw has another shape, strength, scale and precision.
"""

from dataclasses import dataclass, field, replace

import numpy as np

DIMS = (4, 6, 8, 10, 16, 20, 32, 40, 64, 100, 128)
NUMBERS = 200_000
"""Most numbers in a table."""

LOW, WIDE, EVEN = "low rank", "too wide", "healthy"
NOT_LOW = frozenset(
    {EVEN, WIDE, "like random", "strong direction", "uneven", "common mean", "few rows dominate"}
)


@dataclass(frozen=True)
class Planted:
    """A table, what it is, and the verdicts that say so."""

    matrix: np.ndarray
    truth: str
    verdicts: frozenset[str]
    counts: np.ndarray | None = None
    kind: str = ""
    seed: int = field(default=0)


def tall(rng, *, least=2.0, most=300.0, dims=DIMS):
    """Draw a shape with more rows than columns."""
    dim = int(rng.choice(dims))
    rows = dim * np.exp(rng.uniform(np.log(least), np.log(most)))
    return int(np.clip(rows, least * dim, NUMBERS / dim)), dim


def wide(rng, *, least=5):
    """Draw a shape with fewer rows than columns."""
    dim = int(rng.choice([d for d in DIMS if d >= 8]))
    return int(rng.integers(least, dim)), dim


def scores(rng, rows, columns):
    """Draw uncorrelated numbers of variance 1, of one of four laws."""
    law = rng.choice(["normal", "uniform", "laplace", "student"])
    if law == "uniform":
        return rng.uniform(-1, 1, (rows, columns)) * np.sqrt(3)
    if law == "laplace":
        return rng.laplace(size=(rows, columns)) / np.sqrt(2)
    if law == "student":
        return rng.standard_t(8, size=(rows, columns)) * np.sqrt(6 / 8)
    return rng.normal(size=(rows, columns))


def spread(rng, rows, dim, strengths):
    """Return rows with these deviations along orthonormal directions, turned or along columns."""
    along = scores(rng, rows, len(strengths)) * strengths
    if rng.random() < 0.7:
        return along @ np.linalg.qr(rng.normal(size=(dim, len(strengths))))[0].T
    filled = np.zeros((rows, dim))
    filled[:, rng.permutation(dim)[: len(strengths)]] = along
    return filled


def even_strengths(rng, count):
    """Draw deviations that differ, none by more than a factor of 3.4 from the largest."""
    how = rng.choice(["uniform", "linear", "lognormal"])
    if how == "uniform":
        return rng.uniform(0.3, 1, count)
    if how == "linear":
        return np.linspace(1, rng.uniform(0.3, 0.55), count)
    return np.clip(np.exp(rng.normal(scale=0.3, size=count)), 0.5, 1.25)


def size(matrix):
    """Return the deviation of a table's rows from their mean."""
    return np.sqrt(((matrix - matrix.mean(axis=0)) ** 2).sum(axis=1).mean())


def moved(rng, matrix, least=1.5, most=10.0):
    """Add one offset to all rows, so many deviations long."""
    offset = rng.normal(size=matrix.shape[1])
    length = np.exp(rng.uniform(np.log(least), np.log(most))) * size(matrix)
    return matrix + offset / np.linalg.norm(offset) * length


def stretched(rng, matrix, least=0.3, most=1.2):
    """Give rows lengths as popularity has them, `rank^-a` or lognormal."""
    rows = len(matrix)
    if rng.random() < 0.5:
        lengths = np.arange(1, rows + 1) ** -rng.uniform(least, most)
    else:
        lengths = np.exp(rng.normal(scale=rng.uniform(least, most), size=rows))
    return matrix * rng.permutation(lengths)[:, None]


def with_outliers(rng, matrix, least=30.0, most=1000.0):
    """Make a few rows long, at most 1 in 200."""
    count = int(rng.integers(1, 1 + max(1, len(matrix) // 200)))
    found = matrix.copy()
    rows = rng.choice(len(matrix), count, replace=False)
    lengths = np.exp(rng.uniform(np.log(least), np.log(most), (count, 1)))
    away = rng.normal(size=(count, matrix.shape[1]))
    found[rows] = away / np.linalg.norm(away, axis=1)[:, None] * lengths * size(matrix)
    return found


def with_zeros(rng, matrix, least, most):
    """Replace a share of the rows by zeros, or by what weight decay leaves of a row."""
    found = matrix.copy()
    count = round(rng.uniform(least, most) * len(matrix))
    rows = rng.choice(len(matrix), count, replace=False)
    left = 0.0 if rng.random() < 0.5 else 10 ** rng.uniform(-9, -4.5) * size(matrix)
    found[rows] = rng.normal(size=(count, matrix.shape[1])) * left / np.sqrt(matrix.shape[1])
    return found


def stored(rng, matrix):
    """Scale a table and store it in one of the precisions that checkpoints have."""
    matrix = matrix / size(matrix) * 10 ** rng.uniform(-4, 2)
    kind = rng.choice(["float64", "float32", "float16"], p=[0.2, 0.6, 0.2])
    if kind == "float16":  # its smallest numbers are 6e-8 apart
        matrix = matrix / size(matrix) * 10 ** rng.uniform(-1, 1)
    return matrix.astype(kind)


def low_strengths(rng, directions, most=0.45):
    """Draw deviations of a low rank: at most so many of the directions a table has."""
    rank = int(rng.integers(1, max(1, int(most * directions)) + 1))
    if rng.random() < 0.5:
        return np.geomspace(1, rng.uniform(0.2, 1), rank)
    # A product of two random factors, as a factorisation that stopped at a rank has.
    return np.linalg.svd(rng.normal(size=(rank, directions)), compute_uv=False)


def low_rank(rng):
    matrix = (shape := tall(rng)) and spread(rng, *shape, low_strengths(rng, shape[1]))
    return Planted(matrix, LOW, frozenset({LOW}))


def low_rank_wide(rng):
    rows, dim = wide(rng)
    return Planted(
        spread(rng, rows, dim, low_strengths(rng, rows - 1, 0.28)), LOW, frozenset({LOW})
    )


def rank_one_wide(rng):
    rows, dim = wide(rng)
    return Planted(spread(rng, rows, dim, np.ones(1)), LOW, frozenset({LOW}))


def low_rank_noise(rng):
    rows, dim = tall(rng, dims=DIMS[2:])
    matrix = spread(rng, rows, dim, low_strengths(rng, dim, 0.4))
    noise = rng.normal(size=(rows, dim)) * size(matrix) / np.sqrt(dim)
    share = np.exp(rng.uniform(np.log(1e-4), np.log(0.08)))
    return Planted(matrix + noise * np.sqrt(share / (1 - share)), LOW, frozenset({LOW}))


def changed(kind, change):
    """Return a kind whose tables are changed without changing what they are."""

    def drawn(rng):
        found = kind(rng)
        return replace(found, matrix=change(rng, found.matrix))

    return drawn


def compounded(kind):
    """Return a kind whose tables are changed in several ways at once, none of which decides."""

    def drawn(rng):
        found = kind(rng)
        matrix, verdicts = found.matrix, found.verdicts
        if rng.random() < 0.5:
            matrix = stretched(rng, matrix, 0.1, 0.8)
            verdicts = verdicts if LOW in verdicts else NOT_LOW
        if rng.random() < 0.5:
            matrix = moved(rng, matrix, 0.1, 10)
            verdicts = verdicts if LOW in verdicts else verdicts | {"common mean"}
        if rng.random() < 0.5:
            matrix = with_outliers(rng, matrix)
            verdicts = verdicts if LOW in verdicts else NOT_LOW
        if rng.random() < 0.5:
            matrix = with_zeros(rng, matrix, 0.05, 0.4)
        return replace(found, matrix=matrix, verdicts=verdicts)

    return drawn


def clusters(rng):
    rows, dim = tall(rng, dims=DIMS[2:])
    count = int(rng.integers(2, 2 + max(1, int(0.3 * dim))))
    centres = rng.normal(size=(count, dim))
    matrix = centres[rng.integers(0, count, rows)]
    noise = rng.normal(size=(rows, dim)) * size(matrix) / np.sqrt(dim)
    return Planted(matrix + noise * rng.uniform(0, 0.25), LOW, frozenset({LOW}))


def half_dead(rng):
    rows, dim = tall(rng)
    matrix = spread(rng, rows, dim, even_strengths(rng, dim))
    dead = rng.permutation(dim)[: -(-dim // 2) + int(rng.integers(0, dim // 4 + 1))]
    matrix[:, dead] = 0.0 if rng.random() < 0.7 else rng.normal()
    return Planted(matrix, LOW, frozenset({LOW}))


def copied_sets(rng):
    rows, dim = tall(rng, dims=(4, 6, 8, 10, 16))
    one = spread(rng, rows, dim, even_strengths(rng, dim))
    return Planted(np.tile(one, int(rng.integers(3, 6))), LOW, frozenset({LOW}))


def steep(rng):
    rows, dim = tall(rng, least=8, dims=DIMS[4:])
    places = np.arange(1, dim + 1)
    how = rng.random() < 0.5
    strengths = places ** -rng.uniform(1.4, 2.5) if how else np.exp(-places / (0.14 * dim))
    return Planted(spread(rng, rows, dim, strengths), LOW, frozenset({LOW}))


def trained_low_rank(rng):
    rows, dim = tall(rng, least=40)
    counts = np.where(rng.random(rows) < rng.uniform(0.1, 0.9), rng.integers(1, 50, rows), 0)
    matrix = rng.normal(size=(rows, dim)) / np.sqrt(dim) * rng.uniform(0.1, 1)
    met = np.flatnonzero(counts)
    matrix[met] = spread(rng, len(met), dim, low_strengths(rng, dim))
    return Planted(matrix, LOW, frozenset({LOW}), counts)


def even(rng):
    rows, dim = tall(rng)
    return Planted(spread(rng, rows, dim, even_strengths(rng, dim)), EVEN, frozenset({EVEN}))


def even_few_rows(rng):
    dim = int(rng.choice(DIMS))
    rows = int(rng.integers(dim + 1, 3 * dim))
    return Planted(spread(rng, rows, dim, even_strengths(rng, dim)), EVEN, frozenset({EVEN}))


def tiny(rng):
    rows, dim = int(rng.integers(2, 25)), int(rng.integers(1, 17))
    verdicts = {WIDE} if rows < dim else {EVEN, "like random"}
    return Planted(rng.normal(size=(rows, dim)), WIDE if rows < dim else EVEN, frozenset(verdicts))


def too_wide(rng):
    rows, dim = wide(rng)
    return Planted(scores(rng, rows, dim), WIDE, frozenset({WIDE}))


def offset(rng):
    found = even(rng)
    return Planted(moved(rng, found.matrix), "common mean", frozenset({"common mean"}))


def slight_offset(rng):
    found = even(rng)
    matrix = moved(rng, found.matrix, 0.05, 0.4)
    return Planted(matrix, EVEN, frozenset({EVEN, "common mean"}))


def few_dead(rng):
    rows, dim = tall(rng, dims=DIMS[2:])
    matrix = spread(rng, rows, dim, even_strengths(rng, dim))
    matrix[:, rng.permutation(dim)[: int(rng.uniform(0.05, 0.35) * dim)]] = 0.0
    return Planted(matrix, EVEN, frozenset({EVEN}))


def popular(rng):
    found = even(rng)
    matrix = stretched(rng, found.matrix)
    verdicts = frozenset({EVEN, "few rows dominate", "uneven"})
    return Planted(matrix, "popularity", verdicts)


def untouched(rng):
    rows, dim = tall(rng, least=6)
    rows = max(rows, 120)
    law = rng.choice(["normal", "uniform", "truncated"])
    if law == "normal":
        matrix = rng.normal(size=(rows, dim))
    elif law == "uniform":
        matrix = rng.uniform(-1, 1, (rows, dim))
    else:
        matrix = np.clip(rng.normal(size=(rows, dim)), -2, 2)
    if rng.random() < 0.3:
        matrix[0] = 0.0  # padding
    return Planted(matrix, "untouched", frozenset({"like random"}))


def strong(count):
    """Return a kind with so many strong directions over an even rest."""

    def drawn(rng):
        rows, dim = tall(rng, least=6, dims=DIMS[4:])
        share = rng.uniform(0.45, 0.8)
        rest = rng.uniform(0.8, 1, dim - count)
        lead = np.sqrt(share / (1 - share) * (rest**2).sum() / count) * rng.uniform(0.8, 1, count)
        matrix = spread(rng, rows, dim, np.append(lead, rest))
        return Planted(matrix, "strong direction", frozenset({"strong direction"}))

    return drawn


def uneven(rng):
    rows, dim = tall(rng, least=10, dims=DIMS[4:])
    strengths = np.arange(1, dim + 1) ** -rng.uniform(0.5, 0.7)
    return Planted(spread(rng, rows, dim, strengths), "uneven", frozenset({"uneven"}))


def outliers(rng):
    found = even(rng)
    least = 10 * np.sqrt(len(found.matrix))  # so that one holds 99% of the energy
    matrix = with_outliers(rng, found.matrix, least, 10 * least)
    return Planted(matrix, "few rows dominate", frozenset({"few rows dominate"}))


def mild_outliers(rng):
    found = even(rng)
    matrix = with_outliers(rng, found.matrix, 3, 15)
    return Planted(matrix, EVEN, frozenset({EVEN, "few rows dominate"}))


def mostly_zero(rng):
    rows, dim = tall(rng, least=120)
    matrix = spread(rng, rows, dim, even_strengths(rng, dim))
    return Planted(
        with_zeros(rng, matrix, 0.55, 0.97), "rows near zero", frozenset({"rows near zero"})
    )


def some_zero(rng):
    rows, dim = tall(rng, least=8)
    matrix = spread(rng, rows, dim, even_strengths(rng, dim))
    return Planted(with_zeros(rng, matrix, 0.01, 0.4), EVEN, frozenset({EVEN}))


def mostly_untrained(rng):
    rows, dim = tall(rng, least=60)
    counts = np.where(rng.random(rows) < rng.uniform(0.1, 0.4), rng.integers(1, 50, rows), 0)
    matrix = rng.normal(size=(rows, dim)) / np.sqrt(dim) * rng.uniform(0.1, 1)
    met = np.flatnonzero(counts)
    matrix[met] = spread(rng, len(met), dim, even_strengths(rng, dim))
    return Planted(matrix, "untrained rows", frozenset({"untrained rows"}), counts)


KINDS = {
    "low rank": low_rank,
    "low rank, few rows": low_rank_wide,
    "rank one, few rows": rank_one_wide,
    "low rank, noise": low_rank_noise,
    "low rank, offset": changed(low_rank_noise, moved),
    "low rank, popularity": changed(low_rank, stretched),
    "low rank, long rows": changed(low_rank, with_outliers),
    "low rank, rows near zero": changed(low_rank, lambda rng, m: with_zeros(rng, m, 0.1, 0.6)),
    "low rank, several changes": compounded(low_rank_noise),
    "clusters": clusters,
    "half the columns dead": half_dead,
    "copied sets": copied_sets,
    "steep power law or exponential": steep,
    "trained rows of low rank": trained_low_rank,
    "even": even,
    "even, few rows": even_few_rows,
    "tiny": tiny,
    "fewer rows than columns": too_wide,
    "even, offset": offset,
    "even, several changes": compounded(even),
    "even, slight offset": slight_offset,
    "even, few columns dead": few_dead,
    "even, popularity": popular,
    "untouched": untouched,
    "one strong direction": strong(1),
    "two strong directions": strong(2),
    "power law of LightGCN": uneven,
    "even, long rows": outliers,
    "even, mildly long rows": mild_outliers,
    "mostly rows near zero": mostly_zero,
    "some rows near zero": some_zero,
    "mostly untrained": mostly_untrained,
}


def noisy(rng):
    rows, dim = tall(rng, dims=DIMS[4:])
    matrix = spread(rng, rows, dim, np.ones(int(rng.integers(1, 0.3 * dim))))
    noise = rng.normal(size=(rows, dim)) * size(matrix) / np.sqrt(dim)
    share = rng.uniform(0.1, 0.25)
    return Planted(matrix + noise * np.sqrt(share / (1 - share)), "judgement", NOT_LOW | {LOW})


def near_half(rng):
    rows, dim = tall(rng, dims=DIMS[4:])
    rank = round(rng.uniform(0.46, 0.6) * dim)
    return Planted(spread(rng, rows, dim, np.ones(rank)), "judgement", NOT_LOW | {LOW})


def between(rng):
    rows, dim = tall(rng, least=10, dims=DIMS[4:])
    strengths = np.arange(1, dim + 1) ** -rng.uniform(0.8, 1.3)
    return Planted(spread(rng, rows, dim, strengths), "judgement", NOT_LOW | {LOW})


def three_strong(rng):
    return replace(strong(3)(rng), truth="judgement", verdicts=NOT_LOW | {LOW})


def head_of_low_rank(rng):
    rows, dim = tall(rng, least=60, dims=DIMS[3:])
    matrix = rng.normal(size=(rows, dim))
    head = rng.permutation(rows)[: round(rng.uniform(0.01, 0.3) * rows)]
    matrix[head] = spread(rng, len(head), dim, np.ones(2)) * np.exp(rng.uniform(1, 5))
    return Planted(matrix, "judgement", NOT_LOW | {LOW})


def noise_floor(rng):
    found = changed(low_rank, stretched)(rng)
    floor = rng.normal(size=found.matrix.shape) / np.sqrt(found.matrix.shape[1])
    matrix = found.matrix + floor * size(found.matrix) * np.exp(rng.uniform(-4, -2))
    return Planted(matrix, "judgement", NOT_LOW | {LOW})


JUDGEMENTS = {
    "low rank, noise of 10% to 25% of the energy": noisy,
    "rank of 46% to 60% of the columns": near_half,
    "power law of exponent 0.8 to 1.3": between,
    "three strong directions": three_strong,
    "1% to 30% of rows long and of rank 2, the others noise": head_of_low_rank,
    "low rank and popularity above a floor of noise": noise_floor,
}
"""Tables that two people would call by two names: no verdict on them is counted as wrong."""


def planted(seed, kind):
    """Draw one table of a kind."""
    rng = np.random.default_rng([seed, *kind.encode()])
    found = (KINDS | JUDGEMENTS)[kind](rng)
    return replace(found, matrix=stored(rng, found.matrix), kind=kind, seed=seed)
