"""How sure a comparison is, given the rows and the seeds it was made on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy  # scipy loads `stats`, an eighth of the command line's start, when it is asked for
from jaxtyping import Float, Int

from multiembed.runs.metrics import auc

CONFIDENCE = 0.95
NO_EVIDENCE = "no evidence"


class Interval(NamedTuple):
    """A difference and what 95% of resamples give."""

    difference: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether all of the interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Spread:
    """Repetitions of one measurement."""

    mean: float
    std: float
    """Of the sample, `n - 1` below; NaN for one repetition."""
    count: int


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
    bootstrap: Interval
    """By resampling the pairs: assumes no shape, but is too narrow for few pairs."""
    p_value: float
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


def spread(values: Sequence[float]) -> Spread:
    """Return mean and sample standard deviation."""
    found = np.asarray(values, dtype=np.float64)
    std = float(found.std(ddof=1)) if len(found) > 1 else math.nan
    return Spread(float(found.mean()), std, len(found))


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Return the mean with its 95% interval by Student's t; `None` for one value."""
    found = spread(values)
    if found.count < 2:
        return None
    reach = _t_reach(found.std / math.sqrt(found.count), found.count)
    return Interval(found.mean, found.mean - reach, found.mean + reach)


def paired_difference(
    first: Sequence[float], second: Sequence[float], *, resamples: int = 10_000, seed: int = 0
) -> PairedDifference:
    """Compare values that belong together: the same seed, the same fold.

    What a seed does to both cancels, so far fewer pairs are needed than for two samples.
    """
    if len(first) != len(second) or len(first) == 0:
        raise ValueError(f"values must come in pairs, got {len(first)} and {len(second)}")
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    found = spread(list(differences))
    mean, std, count = found.mean, found.std, found.count
    if count < 2:
        nothing = Interval(mean, -math.inf, math.inf)
        return PairedDifference(mean, std, count, nothing, nothing, math.nan)
    error = std / math.sqrt(count)
    reach = _t_reach(error, count)
    random = np.random.default_rng(seed)
    drawn = differences[random.integers(0, count, (resamples, count))].mean(axis=1)
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return PairedDifference(
        difference=mean,
        std=std,
        count=count,
        t=Interval(mean, mean - reach, mean + reach),
        bootstrap=Interval(mean, float(low), float(high)),
        p_value=_p_value(mean, error, count),
    )


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
    low, high = 2, 2
    while paired_power(effect, high) < power:
        if high >= most:
            raise ValueError(f"pairs must be at most {most}, got an effect of {effect:g} std")
        low, high = high, min(2 * high, most)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if paired_power(effect, middle) >= power else (middle + 1, high)
    return high


def paired_power(effect: float, count: int) -> float:
    """Return how often a two-sided paired t test at 5% finds a difference of `effect` std."""
    critical = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, count - 1))
    shift = effect * math.sqrt(count)
    # Far out, scipy's noncentral tails turn to NaN where the power is 1 to all digits.
    above = float(scipy.stats.nct.sf(critical, count - 1, shift))
    below = float(scipy.stats.nct.cdf(-critical, count - 1, shift))
    return 1.0 if math.isnan(above) else above + (0.0 if math.isnan(below) else below)


def paired_auc_difference(
    labels: Int[np.ndarray, " rows"],
    first: Float[np.ndarray, " rows"],
    second: Float[np.ndarray, " rows"],
    *,
    resamples: int = 400,
    seed: int = 0,
) -> Interval:
    """Return `auc(first) - auc(second)` with a 95% percentile bootstrap over the rows.

    Both models are scored on the same resampled rows, so what the rows do to both cancels.
    This is the noise of the test rows alone: another seed of training moves both models too.
    """
    random = np.random.default_rng(seed)
    differences = np.empty(resamples)
    for at in range(resamples):
        rows = random.integers(0, len(labels), len(labels))
        differences[at] = auc(labels[rows], first[rows]) - auc(labels[rows], second[rows])
    low, high = np.quantile(differences, [0.025, 0.975])
    return Interval(auc(labels, first) - auc(labels, second), float(low), float(high))
