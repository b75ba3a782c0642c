"""Two models on the same rows: how far their AUC and their log loss differ, and how sure that is.

Both intervals are those of the test rows: other rows like these would move the differences so far.
"""

from collections.abc import Sequence

import numpy as np
import scipy
from jaxtyping import Float, Float64, Shaped

from multiembed.experiments.analysis.statistics import CONFIDENCE, Interval
from multiembed.runs.influence import placements
from multiembed.runs.metrics import row_losses

_Labels = Shaped[np.ndarray, " rows"]
_Scores = Float[np.ndarray, " rows"]
_Weights = Float[np.ndarray, " rows"] | None


def auc_difference(
    labels: _Labels, first: _Scores, second: _Scores, weights: _Weights = None
) -> Interval:
    """Return `auc(first) - auc(second)` with its 95% interval, by DeLong's variance.

    The AUC is the mean over positives of the share of negatives below each, and over negatives of
    the share of positives above each; the variance of a difference is the sum of those of both
    means (DeLong et al., Biometrics 1988). Its degrees of freedom are Welch's, so that few rows of
    a class give a wide interval. Rows of weights count these in every mean.

    Args:
        labels: 0 or 1, of both kinds.
        first: Scores of one model, in any unit that rises with the probability.
        second: Scores of another, of the same rows.
        weights: What every row counts; the same if not given.
    """
    mass = np.ones(len(labels)) if weights is None else weights.astype(np.float64)
    positive = labels.astype(bool)
    differences = placements(positive, first, mass) - placements(positive, second, mass)
    found = _interval([_mean(differences[of], mass[of]) for of in (positive, ~positive)])
    return found._replace(low=max(found.low, -1.0), high=min(found.high, 1.0))  # as all AUCs


def log_loss_difference(
    labels: _Labels, first: _Scores, second: _Scores, weights: _Weights = None
) -> Interval:
    """Return `log_loss(first) - log_loss(second)` with the 95% interval of a mean over rows.

    Args:
        labels: 0 or 1.
        first: Probabilities of one model.
        second: Those of another, of the same rows.
        weights: What every row counts; the same if not given.
    """
    return mean_with_interval(row_losses(labels, first) - row_losses(labels, second), weights)


def mean_with_interval(values: Float64[np.ndarray, " rows"], weights: _Weights = None) -> Interval:
    """Return the mean of what rows have, which may count differently, with its 95% interval."""
    mass = np.ones(len(values)) if weights is None else weights.astype(np.float64)
    return _interval([_mean(values, mass)])


def _mean(
    values: Float64[np.ndarray, " some"], mass: Float64[np.ndarray, " some"]
) -> tuple[float, float, int]:
    """Return a weighted mean, its variance, and of how many values; of one it is infinite."""
    count, total = len(values), mass.sum()
    mean = float(values @ mass / total)
    if count < 2:
        return mean, np.inf, count
    spread = ((mass * (values - mean)) ** 2).sum() / total**2
    return mean, float(spread * count / (count - 1)), count


def _interval(means: Sequence[tuple[float, float, int]]) -> Interval:
    """Return the first of some means, and an interval whose variance is the sum of theirs."""
    mean, variance = means[0][0], sum(of for _, of, _ in means)
    if variance in (0, np.inf):
        return Interval(mean, mean - variance, mean + variance)
    freedom = variance**2 / sum(of**2 / (count - 1) for _, of, count in means)
    reach = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * variance**0.5
    return Interval(mean, mean - reach, mean + reach)
