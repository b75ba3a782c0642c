"""Comparisons of models, and how sure each is, given the rows and the seeds it was made on."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import scipy  # scipy loads `stats`, an eighth of the command line's start, when it is asked for

from multiembed.experiments.grid.outcome import Point, Spread, spread

CONFIDENCE = 0.95
"""Of every interval; a difference whose interval leaves out zero is evident."""
NO_EVIDENCE = "no evidence"
JUDGED_BY = {"test_auc": "AUC", "test_log_loss": "log loss"}
"""Measures of quality, and what they are called."""


class Interval(NamedTuple):
    """A difference and its 95% interval."""

    difference: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether all of the interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class PairedDifference:
    """Two models compared seed by seed (or fold by fold)."""

    difference: float
    """Mean of first less second."""
    std: float
    """Of the differences; NaN for one pair."""
    count: int
    t: Interval
    """By Student's t: right for any number of pairs whose differences are about normal."""
    p_value: float = math.nan
    """Two-sided, of the t test; NaN for one pair."""

    @property
    def is_evidence(self) -> bool:
        """Whether the t interval excludes zero."""
        return self.t.excludes_zero

    def words(self, first: str, second: str, *, measure: str = "AUC") -> str:
        """Say which is larger, or that there is no evidence, in one clause."""
        if self.count < 2:
            return (
                f"{NO_EVIDENCE}: {first} and {second} were compared once "
                f"({measure} {self.difference:+.5f})"
            )
        numbers = (
            f"{measure} {self.difference:+.5f}, 95% interval {self.t.low:+.5f} to "
            f"{self.t.high:+.5f}, {self.count} pairs"
        )
        if not self.is_evidence:
            return f"{NO_EVIDENCE} that {first} and {second} differ ({numbers})"
        return f"{first} is {'above' if self.difference > 0 else 'below'} {second} ({numbers})"

    def sentence(self, first: str, second: str, *, measure: str = "AUC") -> str:
        """Say the same as a sentence."""
        words = self.words(first, second, measure=measure)
        return f"{words[0].upper()}{words[1:]}."


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Return the mean with its 95% interval by Student's t; `None` for one value."""
    found = spread(values)
    if found.count < 2:
        return None
    reach = _t_reach(found.std / math.sqrt(found.count), found.count)
    return Interval(found.mean, found.mean - reach, found.mean + reach)


def paired_difference(first: Sequence[float], second: Sequence[float]) -> PairedDifference:
    """Compare values that belong together: the same seed, the same fold.

    What a seed does to both cancels, so far fewer pairs are needed than for two samples.

    Raises:
        ValueError: If the values are not as many, or none.
    """
    if len(first) != len(second) or len(first) == 0:
        raise ValueError(f"values must come in pairs, got {len(first)} and {len(second)}")
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    found = spread(list(differences))
    mean, count = found.mean, found.count
    if count < 2:
        return PairedDifference(mean, found.std, count, Interval(mean, -math.inf, math.inf))
    error = found.std / math.sqrt(count)
    reach = _t_reach(error, count)
    interval = Interval(mean, mean - reach, mean + reach)
    return PairedDifference(mean, found.std, count, interval, _p_value(mean, error, count))


def _t_reach(error: float, count: int) -> float:
    return float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error


def _p_value(mean: float, error: float, count: int) -> float:
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * scipy.stats.t.sf(abs(mean) / error, count - 1))


def seeds_needed(std: float, difference: float, *, power: float = 0.8, most: int = 100_000) -> int:
    """Return the fewest pairs with which a t test finds a true difference, as often as `power`.

    Two-sided at 5%, by the noncentral t distribution.

    Args:
        std: Of the paired differences.
        difference: The size worth finding.
        power: How often it should be found.
        most: Where to stop looking.

    Raises:
        ValueError: If `std` or `difference` is no positive number, or `most` are too few.
    """
    if not (std > 0 and difference != 0 and math.isfinite(std) and math.isfinite(difference)):
        raise ValueError(f"std and difference must be other than zero, got {std}, {difference}")
    effect = abs(difference) / std
    counts = range(2, most + 1)
    at = bisect_left(counts, power, key=lambda count: paired_power(effect, count))
    if at == len(counts):
        raise ValueError(f"pairs must be at most {most}, got an effect of {effect:g} std")
    return counts[at]


def paired_power(effect: float, count: int) -> float:
    """Return how often a two-sided paired t test at 5% finds a difference of `effect` std."""
    critical = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, count - 1))
    shift = effect * math.sqrt(count)
    # Far out, scipy's noncentral tails turn to NaN where the power is 1 to all digits.
    above = float(scipy.stats.nct.sf(critical, count - 1, shift))
    below = float(scipy.stats.nct.cdf(-critical, count - 1, shift))
    return 1.0 if math.isnan(above) else above + (0.0 if math.isnan(below) else below)


def rank_correlation(
    x: Sequence[float], y: Sequence[float], *, permutations: int = 20_000
) -> tuple[float, float]:
    """Return Spearman's correlation and its two-sided p value by permutation.

    Both NaN where x or y is constant.
    """
    ranks = [scipy.stats.rankdata(values) - (len(values) + 1) / 2 for values in (x, y)]
    scale = float(np.sqrt((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1])))
    if scale == 0:
        return float("nan"), float("nan")
    test = scipy.stats.permutation_test(
        ranks[:1],
        lambda shuffled, axis: np.sum(shuffled * ranks[1], axis=axis),
        permutation_type="pairings",
        vectorized=True,
        n_resamples=permutations,
        random_state=np.random.default_rng(0),  # `rng` since SciPy 1.15
    )
    return float(test.statistic) / scale, float(test.pvalue)


def compare_points(first: Point, second: Point, measure: str = "test_auc") -> PairedDifference:
    """Compare two points replica by replica: the same fold, the same seed."""
    return compare_values(first, first.values(measure), second, second.values(measure))


def compare_values(
    first: Point, ours: Sequence[float], second: Point, theirs: Sequence[float]
) -> PairedDifference:
    """Compare what was found of every run of two points, replica by replica."""
    of_first = dict(zip(first.replicas, ours, strict=True))
    of_second = dict(zip(second.replicas, theirs, strict=True))
    common = [replica for replica in of_first if replica in of_second]
    return paired_difference([of_first[r] for r in common], [of_second[r] for r in common])


def compare_on_average(
    pairs: Sequence[tuple[Point, Point]], measure: str = "test_auc"
) -> PairedDifference:
    """Compare two ways to build a model over architectures, of each the mean of its replicas.

    The interval is that of the mean over architectures like these: how far they differ counts,
    besides what seeds do.
    """
    means = [[point.spread(measure).mean for point in pair] for pair in pairs]
    return paired_difference([first for first, _ in means], [second for _, second in means])


@dataclass(frozen=True)
class Contrast:
    """One measure of a variant less that of the first variant of the grid, run by run."""

    model: str
    """Architecture, way, size and share: what the two have in common."""
    variant: str
    measure: str
    difference: PairedDifference
    first: Spread
    """Of the first variant's runs: how far seeds and folds alone move the measure."""


def contrasts(points: Sequence[Point], first: str) -> list[Contrast]:
    """Compare every variant to the variant `first` where both were run, by AUC and log loss.

    A setting that changes a measure by less than seeds do may be chosen for its speed.
    """
    firsts = {_place(point): point for point in points if point.labels.variant == first}
    found = []
    for point in points:
        other = firsts.get(_place(point), point)
        if other is not point and set(point.replicas) & set(other.replicas):
            found += [_contrast(point, other, measure) for measure in JUDGED_BY]
    return found


def _contrast(point: Point, first: Point, measure: str) -> Contrast:
    return Contrast(
        model=replace(point.labels, variant="").point,
        variant=point.labels.variant,
        measure=JUDGED_BY[measure],
        difference=compare_points(point, first, measure),
        first=first.spread(measure),
    )


def _place(point: Point) -> tuple[object, ...]:
    labels = point.labels
    return labels.architecture, labels.scaling, labels.size, labels.share
