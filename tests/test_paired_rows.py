"""Differences of two models over test rows, against DeLong's own sums, SciPy and scikit-learn."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import log_loss, roc_auc_score

from multiembed.experiments.analysis.paired_rows import (
    auc_difference,
    log_loss_difference,
    mean_with_interval,
)
from multiembed.runs.metrics import auc

ROWS = 300


@pytest.fixture(scope="module")
def rows():
    """Labels, two models' probabilities (with ties), and weights."""
    drawn = np.random.default_rng(0)
    labels = drawn.random(ROWS) < 0.3
    logits = np.where(labels, 0.8, -0.4) + drawn.normal(size=ROWS)
    first = 1 / (1 + np.exp(-logits))
    second = np.round(1 / (1 + np.exp(-0.5 * logits - drawn.normal(size=ROWS))), 1)
    second = second.clip(0.05, 0.95)
    return labels.astype(np.uint8), first, second, drawn.integers(1, 5, ROWS).astype(np.float32)


def delong(labels, first, second):
    """Variance of a difference of AUCs from all pairs of a positive and a negative."""
    above = []
    for scores in (first, second):
        pairs = scores[labels == 1][:, None] - scores[labels == 0][None, :]
        above.append((pairs > 0) + (pairs == 0) / 2)
    kernel = above[0] - above[1]
    of_positives, of_negatives = kernel.mean(axis=1), kernel.mean(axis=0)
    variance = of_positives.var(ddof=1) / len(of_positives)
    variance += of_negatives.var(ddof=1) / len(of_negatives)
    freedom = stats.ttest_ind(of_positives, of_negatives, equal_var=False).df
    return kernel.mean(), variance, freedom


@pytest.mark.parametrize("count", [ROWS, 12])
def test_the_interval_of_an_auc_difference_is_delongs_with_welchs_freedom(rows, count):
    labels, first, second, _ = (of[:count] for of in rows)
    mean, variance, freedom = delong(labels, first, second)
    low, high = stats.t.interval(0.95, freedom, loc=mean, scale=variance**0.5)

    expected = mean, max(low, -1), min(high, 1)
    assert auc_difference(labels, first, second) == pytest.approx(expected, abs=1e-12)
    by_libraries = roc_auc_score(labels, first) - roc_auc_score(labels, second)
    assert mean == pytest.approx(by_libraries, abs=1e-12)


def test_resampled_rows_give_about_the_same_interval(rows):
    labels, first, second, _ = rows

    def difference(*of: np.ndarray) -> float:
        return auc(of[0], of[1]) - auc(of[0], of[2])

    resampled = stats.bootstrap(
        (labels.astype(np.int64), first, second),
        difference,
        n_resamples=2000,
        paired=True,
        vectorized=False,
        method="percentile",
        rng=0,
    ).confidence_interval
    ours = auc_difference(labels, first, second)

    assert ours.high - ours.low == pytest.approx(resampled.high - resampled.low, rel=0.1)


def test_the_interval_of_a_log_loss_difference_is_that_of_a_mean(rows):
    labels, first, second, _ = rows
    losses = [-np.log(np.where(labels, of, 1 - of)) for of in (first, second)]
    differences = losses[0] - losses[1]
    low, high = stats.t.interval(0.95, ROWS - 1, differences.mean(), stats.sem(differences))

    found = log_loss_difference(labels, first, second)
    assert found == pytest.approx((differences.mean(), low, high), abs=1e-9)
    assert found.difference == pytest.approx(log_loss(labels, first) - log_loss(labels, second))


@pytest.mark.parametrize("measure", ["auc", "log loss"])
def test_weighted_rows_count_what_they_weigh(rows, measure):
    """The difference is scikit-learn's; its variance that of rows drawn anew, by derivatives.

    A row moves the difference by its weight times the derivative in the weight; the variance is
    the sum of their squares (the infinitesimal jackknife), but for n over n - 1.
    """
    labels, first, second, weights = (of[:200] for of in rows)
    ours = {"auc": auc_difference, "log loss": log_loss_difference}[measure]
    theirs = {"auc": roc_auc_score, "log loss": log_loss}[measure]

    def difference(of):
        return theirs(labels, first, sample_weight=of) - theirs(labels, second, sample_weight=of)

    exact = weights.astype(np.float64)
    there = difference(exact)
    moved = np.empty(200)
    for row in range(200):
        step = np.zeros(200)
        step[row] = 1e-4
        moved[row] = exact[row] * (difference(exact + step) - there) / 1e-4
    low, high = stats.norm.interval(0.95, there, np.sqrt((moved**2).sum()))

    found = ours(labels, first, second, weights)
    assert found.difference == pytest.approx(there, abs=1e-9)
    assert found.high - found.low == pytest.approx(high - low, rel=0.04)
    equal = ours(labels, first, second, np.full(200, 3, np.float32))
    assert equal == pytest.approx(ours(labels, first, second), abs=1e-9)


def test_a_model_does_not_differ_from_itself(rows):
    labels, first, _, weights = rows

    assert auc_difference(labels, first, first, weights) == (0, 0, 0)
    assert log_loss_difference(labels, first, first) == (0, 0, 0)


def test_of_one_positive_nothing_is_sure(rows):
    _, first, second, _ = rows
    labels = np.zeros(ROWS, np.uint8)
    labels[3] = 1

    found = auc_difference(labels, first, second)
    assert not found.excludes_zero
    assert (found.low, found.high) == (-1, 1)


def test_the_interval_holds_what_is_true_as_often_as_it_says():
    """Of 400 samples about 95%: at most 4 deviations of a binomial away."""
    drawn = np.random.default_rng(1)
    values = drawn.exponential(size=(400, 200)) - 1
    held = sum(of.low <= 0 <= of.high for of in map(mean_with_interval, values))

    assert abs(held - 380) <= 4 * (400 * 0.95 * 0.05) ** 0.5
