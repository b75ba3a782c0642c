"""Whether one step in a row of checkpoints stands out from the others: a calibrated test.

Every checkpoint differs from the one before: other rows, another seed. A *shift* is a step across
which checkpoints differ more than beside it. Its statistic, for every step, is the log of the mean
distance between checkpoints on different sides over that of checkpoints on the same side, pairs of
equal lags compared with each other: checkpoints that each continue the one before, and drift
evenly, differ by the lag alone. Drift is seldom so even, so a shift must also be abrupt: longer by
a tenth than the mean of the two steps before it and the two after.

From nine checkpoints on, the null is the order itself: in random orders of the same checkpoints no
place is special, so the p-value is exact whatever the noise, if the checkpoints are exchangeable
where nothing happened. Tables, kinds of distance and steps are reordered together, and judged by
the largest of their standardised statistics (Westfall & Young, 1993), which holds the error of all
together. With one checkpoint on a side, no step can be told from an odd checkpoint.

Fewer checkpoints have too few orders. There the null is that of independent checkpoints with normal
noise along a single direction, the widest null of its kind: noise in more directions makes
distances more alike. Tables and kinds share the error evenly (Bonferroni).
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int

LEVEL = 0.02
"""Largest p-value that is an alarm: so that of 100 quiet rows at most 5 alarm, 98 times of 100."""
BY_ORDER_FROM = 9
"""Checkpoints from which a step in the middle can have a p-value below `LEVEL` by order alone."""
ABRUPT = 1.1
"""How much longer than its neighbours, at least, a step is that is a shift and no drift."""
_ORDERS = 4_999
_DRAWS = 100_000
_SEED = 20261130

Null = Literal["order", "normal", "none"]

_SAME = 1e-9
"""Squared distances below this are rounding of tables stored in float32."""


@dataclass(frozen=True, eq=False)
class Shift:
    """The step of one table that stands out most, and how sure that is."""

    step: int
    """Its place: 0 is from the first checkpoint to the second."""
    kind: int
    """Which of the distances says so."""
    p_value: float
    """Adjusted for all tables, kinds and steps; 1 where there is nothing to compare with."""
    abrupt: bool
    """Whether it is longer than its neighbours."""

    @property
    def certain(self) -> bool:
        """Whether checkpoints changed in the course of time: at the step, if it is abrupt."""
        return self.p_value <= LEVEL


@dataclass(frozen=True, eq=False)
class StepTest:
    """What the test says of every table."""

    null: Null
    """What p-values rest on: the order, normal noise, or nothing, below three checkpoints."""
    shifts: tuple[Shift, ...]

    @property
    def p_value(self) -> float:
        """Of all tables together."""
        return min((shift.p_value for shift in self.shifts), default=1.0)


def judge_steps(
    distances: Float64[np.ndarray, "tables kinds checkpoints checkpoints"],
) -> StepTest:
    """Find the step that stands out in every table.

    Args:
        distances: Squared distances between all checkpoints, in order of time, symmetric; kinds
            need no common unit.
    """
    tables, kinds, count, _ = distances.shape
    if count < 3 or tables == 0:
        return StepTest("none", tuple(Shift(0, 0, 1.0, False) for _ in range(tables)))
    by_order = count >= BY_ORDER_FROM
    flat = distances.reshape(tables * kinds, count, count)
    strength, steps, p_values = (_by_order if by_order else _by_noise)(flat)
    found = [
        Shift(int(step), at % kinds, float(p_value), _is_abrupt(series, int(step)))
        for at, (series, step, p_value) in enumerate(zip(flat, steps, p_values, strict=True))
    ]
    # A shift of one kind before what is surer of another kind, but no more than drift.
    ranks = [(of.certain and of.abrupt, force) for of, force in zip(found, strength, strict=True)]
    best = (max(range(at, at + kinds), key=ranks.__getitem__) for at in range(0, len(found), kinds))
    return StepTest("order" if by_order else "normal", tuple(found[at] for at in best))


def _is_abrupt(series: Float64[np.ndarray, "checkpoints checkpoints"], step: int) -> bool:
    lengths = np.diagonal(series, offset=1)
    beside = np.concatenate([lengths[max(0, step - 2) : step], lengths[step + 1 : step + 3]])
    return bool(lengths[step] > ABRUPT * beside.mean())


_Found = tuple[
    Float64[np.ndarray, " series"], Int[np.ndarray, " series"], Float64[np.ndarray, " series"]
]
"""Of every series of checkpoints: its largest statistic, the step of it, and its p-value."""


def _by_order(flat: Float64[np.ndarray, "series checkpoints checkpoints"]) -> _Found:
    count = flat.shape[-1]
    reordered = _reordered_pairs(count)
    strength, steps = np.zeros(len(flat)), np.zeros(len(flat), np.int64)
    largest = np.full(len(reordered), -np.inf)
    for at, series in enumerate(flat):
        found = _contrasts(series.ravel()[reordered])
        spread = found.std(axis=0)
        standard = (found - found.mean(axis=0)) / np.where(spread > 1e-9, spread, np.inf)
        steps[at] = _cuts(count)[standard[0].argmax()] - 1
        strength[at] = standard[0].max()
        np.maximum(largest, standard.max(axis=1), out=largest)
    return strength, steps, _share_above(largest, strength)


def _by_noise(flat: Float64[np.ndarray, "series checkpoints checkpoints"]) -> _Found:
    count = flat.shape[-1]
    first, second = np.triu_indices(count, 1)
    mean, spread, null = _normal_null(count)
    standard = (_contrasts(flat[:, first, second]) - mean) / spread
    strength = standard.max(axis=1)
    steps = np.array(_cuts(count))[standard.argmax(axis=1)] - 1
    return strength, steps, np.minimum(1.0, len(flat) * _share_above(null, strength))


def _share_above(
    null: Float64[np.ndarray, " draws"], found: Float64[np.ndarray, " series"]
) -> Float64[np.ndarray, " series"]:
    """Return the share of draws that reach each; the order of time, or one draw more, counts."""
    below = np.searchsorted(np.sort(null), found - 1e-9)
    return np.maximum(len(null) - below, 1) / len(null)


def _cuts(count: int) -> range:
    """Return how many checkpoints may stand before a step: two on each side, if there are four."""
    return range(2, count - 1) if count > 4 else range(1, count)


def _contrasts(pairs: Float64[np.ndarray, "*rows pairs"]) -> Float64[np.ndarray, "*rows cuts"]:
    """Return the statistic of every step: log mean distance across it over that beside it."""
    across, beside = _weights(pairs.shape[-1])
    return np.log((pairs @ across + _SAME) / (pairs @ beside + _SAME))


@lru_cache(maxsize=8)
def _weights(
    pairs: int,
) -> tuple[Float64[np.ndarray, "pairs cuts"], Float64[np.ndarray, "pairs cuts"]]:
    """Return the weights of all pairs in both means, for every step.

    A lag weighs as much as the pairs it has on both sides allow: `1 / (1 / across + 1 / beside)`.
    """
    count = (1 + math.isqrt(1 + 8 * pairs)) // 2
    first, second = np.triu_indices(count, 1)
    found = np.zeros((2, pairs, len(_cuts(count))))
    for at, cut in enumerate(_cuts(count)):
        crosses = (first < cut) & (second >= cut)
        for lag in range(1, count):
            sides = [(second - first == lag) & (crosses == side) for side in (True, False)]
            sizes = [int(side.sum()) for side in sides]
            for means, side, size in zip(found, sides, sizes, strict=True):
                if min(sizes) > 0:
                    means[side, at] = math.prod(sizes) / sum(sizes) / size
    across, beside = found / found.sum(axis=1, keepdims=True)
    return across, beside


@lru_cache(maxsize=8)
def _reordered_pairs(count: int) -> Int[np.ndarray, "orders pairs"]:
    """Return where all pairs lie in a flat matrix: in the order of time, then in random ones."""
    rng = np.random.default_rng((_SEED, count))
    shuffled = rng.permuted(np.tile(np.arange(count), (_ORDERS, 1)), axis=1)
    orders = np.concatenate([np.arange(count)[None], shuffled])
    first, second = np.triu_indices(count, 1)
    return orders[:, first] * count + orders[:, second]


@lru_cache(maxsize=8)
def _normal_null(count: int) -> tuple[Float64[np.ndarray, " _"], ...]:
    """Return mean and spread of every step's statistic, and the largest of each draw."""
    places = np.random.default_rng((_SEED, count)).standard_normal((_DRAWS, count))
    first, second = np.triu_indices(count, 1)
    found = _contrasts((places[:, first] - places[:, second]) ** 2)
    mean, spread = found.mean(axis=0), found.std(axis=0)
    return mean, spread, ((found - mean) / spread).max(axis=1)
