"""Planted click data: rows whose true probabilities, and so the best possible AUC, are known."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import polars as pl
import pydantic
from jaxtyping import Float64, Int32
from scipy.special import expit

from multiembed.base.workplaces import workplace
from multiembed.data.encoding.journal import BUSY, resumable_folder, settled_target
from multiembed.data.store.dataset import DatasetWriter
from multiembed.data.store.schema import SPLITS, Field, Schema, SplitName
from multiembed.data.store.shards import Batch
from multiembed.data.store.vocabularies import write_vocabulary

ROWS_PER_SHARD = 1 << 20
MONTE_CARLO_ROWS = 1 << 18
_TABLES, _SCALE, _BEST, _ROWS = range(4)
"""First number of the seed of every stream of random numbers, so that no two are the same."""


class PlantedClicks(pydantic.BaseModel, frozen=True, extra="forbid"):
    """How clicks come about: every field has a table of known rank, and the tables interact.

    A row's raw score is the elementary symmetric polynomial of degree `order` of its fields'
    vectors, summed over coordinates: for order 2, the sum of the inner products of all pairs.
    Raw scores are brought to mean 0 and standard deviation `strength`, then shifted so that
    clicks have the base rate.
    """

    cardinalities: tuple[Annotated[int, pydantic.Field(ge=2)], ...] = (1000, 300, 100, 30, 10, 3)
    """Number of ids per field. Id 1 is the most frequent value; id 0, *other*, the rarest."""
    exponents: tuple[Annotated[float, pydantic.Field(ge=0)], ...] | float = 1.0
    """Zipf exponent of the values, per field or for all of them; 0 is uniform."""
    ranks: tuple[Annotated[int, pydantic.Field(ge=1)], ...] | int = 4
    """True rank of the tables, per field or for all of them; the largest is their width."""
    order: Literal[1, 2, 3] = 2
    """How many fields act together."""
    strength: Annotated[float, pydantic.Field(gt=0)] = 2.0
    """Standard deviation of the logits."""
    base_rate: Annotated[float, pydantic.Field(gt=0, lt=1)] = 0.25
    """Share of clicks."""
    noise: Annotated[float, pydantic.Field(ge=0)] = 0.0
    """Standard deviation of what no feature tells, added to the logit of every row."""
    rows: Annotated[int, pydantic.Field(ge=10)] = 100_000
    seed: Annotated[int, pydantic.Field(ge=0)] = 0

    @pydantic.model_validator(mode="after")
    def _one_per_field(self) -> "PlantedClicks":
        fields = len(self.cardinalities)
        if fields < self.order:
            raise ValueError(f"order must be at most the number of fields, {fields}")
        for name in ("exponents", "ranks"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != fields:
                raise ValueError(f"{name} must be one per field, {fields}, got {len(value)}")
        return self

    @property
    def tables(self) -> tuple[Float64[np.ndarray, "_ width"], ...]:
        """The true embeddings of every field: as many rows as ids, rank as chosen."""
        return _tables(self)

    def draw_ids(self, rows: int, random: np.random.Generator) -> Int32[np.ndarray, "rows fields"]:
        """Draw the ids of rows."""
        ids = np.empty((rows, len(self.cardinalities)), np.int32)
        exponents = np.broadcast_to(self.exponents, len(self.cardinalities))
        for field, cardinality in enumerate(self.cardinalities):
            weights = np.arange(1, cardinality + 1, dtype=np.float64) ** -exponents[field]
            cumulative = np.cumsum(weights) / weights.sum()
            place = np.searchsorted(cumulative[:-1], random.random(rows), side="right")
            ids[:, field] = (place + 1) % cardinality
        return ids

    def logits(self, ids: Int32[np.ndarray, "rows fields"]) -> Float64[np.ndarray, " rows"]:
        """Return the true logit of every row, before noise."""
        centre, spread, intercept = _scale(self)
        return (self.raw_scores(ids) - centre) / spread * self.strength + intercept

    def probabilities(self, ids: Int32[np.ndarray, "rows fields"]) -> Float64[np.ndarray, " rows"]:
        """Return the true probability of a click for every row: the mean over the noise."""
        return _mean_sigmoid(self.logits(ids), self.noise)

    def raw_scores(self, ids: Int32[np.ndarray, "rows fields"]) -> Float64[np.ndarray, " rows"]:
        """Return the interaction of every row's fields, before it is scaled to a logit."""
        # sums[d]: the elementary symmetric polynomial of degree d of the fields seen so far.
        shape = (len(ids), self.tables[0].shape[1])
        sums = [np.ones(shape)] + [np.zeros(shape) for _ in range(self.order)]
        for table, column in zip(self.tables, ids.T, strict=True):
            vectors = table[column]
            for degree in range(self.order, 0, -1):
                sums[degree] += sums[degree - 1] * vectors
        return sums[self.order].sum(axis=1)


def best_auc(planted: PlantedClicks, rows: int = MONTE_CARLO_ROWS) -> float:
    """Return the AUC of the true probabilities on rows whose labels are drawn from them.

    The labels are averaged over rather than drawn: a row counts as a click with its
    probability. Only the draw of the rows leaves an error, about `0.5 / sqrt(rows)` or less.
    """
    random = np.random.default_rng((_BEST, planted.seed))
    chances = np.sort(planted.probabilities(planted.draw_ids(rows, random)))
    below = np.concatenate([[0.0], np.cumsum(1 - chances)])
    first = np.searchsorted(chances, chances, side="left")
    last = np.searchsorted(chances, chances, side="right")
    beaten = (below[first] + below[last]) / 2
    # A row is no pair with itself; it stands in its own group of ties with weight one half.
    own = chances * (1 - chances)
    pairs = chances.sum() * (1 - chances).sum() - own.sum()
    return float((np.sum(chances * beaten) - own.sum() / 2) / pairs)


def write_planted(path: Path | str, planted: PlantedClicks, *, overwrite: bool = False) -> Schema:
    """Write planted rows as an encoded dataset, 8:1:1; equal settings give equal bytes."""
    sizes = planted.cardinalities
    fields = [
        Field(name=f"f{number}", kind="categorical", cardinality=size, min_count=0)
        for number, size in enumerate(sizes)
    ]
    target = settled_target(Path(path), overwrite=overwrite)
    with (
        workplace(target, busy=BUSY) as place,
        resumable_folder(place, target, overwrite=overwrite) as (folder, _),
    ):
        writer = DatasetWriter(folder, [1] * len(sizes))
        trained = [np.zeros(size, np.int64) for size in sizes]
        for split, shard, rows in _shards(planted.rows):
            number = SPLITS.index(split)
            random = np.random.default_rng((_ROWS, planted.seed, number, shard))
            ids = planted.draw_ids(rows, random)
            labels = (random.random(rows) < planted.probabilities(ids)).astype(np.uint8)
            writer.shard(split, Batch(ids, labels))
            if split == "train":
                for count, column in zip(trained, ids.T, strict=True):
                    count += np.bincount(column, minlength=len(count))
        for field, count in zip(fields, trained, strict=True):
            kept = np.arange(1, len(count), dtype=np.int32)
            values = pl.Series("value", kept).cast(pl.String)
            known = pl.DataFrame({"value": values, "count": count[1:], "id": kept})
            write_vocabulary(folder, field.name, known)
        return writer.finish("click", fields, options=planted.model_dump(mode="json"))


def _shards(rows: int) -> Iterator[tuple[SplitName, int, int]]:
    """Give split, number in it and rows of every shard."""
    small = rows // 10
    for split in SPLITS:
        left = rows - 2 * small if split == "train" else small
        for shard, first in enumerate(range(0, left, ROWS_PER_SHARD)):
            yield split, shard, min(ROWS_PER_SHARD, left - first)


@lru_cache(maxsize=8)
def _tables(planted: PlantedClicks) -> tuple[Float64[np.ndarray, "_ width"], ...]:
    ranks: list[int] = np.broadcast_to(planted.ranks, len(planted.cardinalities)).tolist()
    random = np.random.default_rng((_TABLES, planted.seed))
    tables = []
    for cardinality, rank in zip(planted.cardinalities, ranks, strict=True):
        basis = random.standard_normal((rank, max(ranks))) / np.sqrt(rank)
        tables.append(random.standard_normal((cardinality, rank)) @ basis)
    return tuple(tables)


@lru_cache(maxsize=8)
def _scale(planted: PlantedClicks) -> tuple[float, float, float]:
    """Return the mean and deviation of the raw scores, and the intercept of the base rate."""
    random = np.random.default_rng((_SCALE, planted.seed))
    scores = planted.raw_scores(planted.draw_ids(MONTE_CARLO_ROWS // 4, random))
    centre, spread = float(scores.mean()), float(scores.std())
    logits = (scores - centre) / spread * planted.strength
    low, high = -40.0 - 10 * planted.strength, 40.0 + 10 * planted.strength
    for _ in range(50):
        middle = (low + high) / 2
        if _mean_sigmoid(logits + middle, planted.noise).mean() < planted.base_rate:
            low = middle
        else:
            high = middle
    return centre, spread, (low + high) / 2


def _mean_sigmoid(
    logits: Float64[np.ndarray, " rows"], noise: float
) -> Float64[np.ndarray, " rows"]:
    """Average the sigmoid over normal noise on the logit, by Gauss-Hermite quadrature."""
    if noise == 0:
        return expit(logits)
    nodes, weights = np.polynomial.hermite_e.hermegauss(32)
    total = np.zeros_like(logits)
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        total += weight * expit(logits + noise * node)
    return total
