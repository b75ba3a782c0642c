"""Statistics of comparisons, against SciPy and against what resampling finds."""

import math

import numpy as np
import pytest
from scipy import stats

from multiembed.experiments.analysis.statistics import (
    paired_difference,
    paired_power,
    seeds_needed,
)
from multiembed.experiments.grid.outcome import spread

FIRST = [0.7587, 0.7641, 0.7633, 0.7612, 0.7655]
SECOND = [0.7570, 0.7640, 0.7601, 0.7615, 0.7630]


def test_a_spread_is_mean_and_sample_deviation():
    found = spread(FIRST)

    assert found.mean == pytest.approx(np.mean(FIRST))
    assert found.std == pytest.approx(stats.tstd(FIRST))
    assert found.count == 5
    assert math.isnan(spread([0.5]).std)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_t_interval_and_p_value_are_those_of_scipy(count):
    found = paired_difference(FIRST[:count], SECOND[:count])
    theirs = stats.ttest_rel(FIRST[:count], SECOND[:count])

    interval = theirs.confidence_interval(0.95)
    assert (found.t.low, found.t.high) == pytest.approx((interval.low, interval.high))
    assert found.p_value == pytest.approx(theirs.pvalue)
    assert found.difference == pytest.approx(np.mean(FIRST[:count]) - np.mean(SECOND[:count]))


def test_pairing_sees_what_two_samples_do_not():
    common = np.array([0.0, 0.01, 0.02, 0.03])
    gains = np.array([1e-3, 1.1e-3, 0.9e-3, 1e-3])
    found = paired_difference(list(common + gains), list(common))

    assert found.is_evidence
    assert stats.ttest_ind(common + 1e-3, common).pvalue > 0.5


def test_one_pair_is_no_evidence():
    found = paired_difference([0.8], [0.7])

    assert not found.is_evidence
    assert "no evidence" in found.words("multi", "single")
    assert math.isnan(found.p_value)


def test_equal_differences_are_certain_and_no_difference_is_none():
    assert paired_difference([1.5, 2.5], [1.0, 2.0]).p_value == 0
    same = paired_difference([1.0, 2.0], [1.0, 2.0])
    assert same.p_value == 1
    assert not same.is_evidence


def test_words_say_which_is_larger_or_that_there_is_no_evidence():
    clear = paired_difference([0.80, 0.81, 0.82], [0.70, 0.711, 0.719])
    unclear = paired_difference([0.80, 0.71, 0.82], [0.79, 0.72, 0.80])

    assert clear.words("multi 4x", "single 4x").startswith("multi 4x is above single 4x")
    assert (
        paired_difference([0.70, 0.711, 0.719], [0.80, 0.81, 0.82])
        .words("a", "b")
        .startswith("a is below b")
    )
    assert unclear.words("multi", "single").startswith("no evidence that multi and single differ")


@pytest.mark.parametrize(("effect", "pairs"), [(0.5, 34), (0.8, 15), (1.0, 10), (2.0, 5)])
def test_seeds_needed_are_those_of_power_tables(effect, pairs):
    # Paired t test, two-sided 5%, power 80%: G*Power and Cohen (1988) give these.
    assert seeds_needed(1.0, effect) == pairs
    assert seeds_needed(3e-4, 3e-4 * effect) == pairs
    assert seeds_needed(1.0, -effect) == pairs


def test_power_is_what_simulated_experiments_find():
    random = np.random.default_rng(0)
    drawn = random.normal(1.0, 1.0, (4000, 5))

    found = np.mean(stats.ttest_1samp(drawn, 0.0, axis=1).pvalue < 0.05)

    assert paired_power(1.0, 5) == pytest.approx(found, abs=0.03)


def test_seeds_needed_for_a_huge_or_an_impossible_effect():
    assert seeds_needed(1e-6, 1.0) == 2
    with pytest.raises(ValueError, match="at most 1000"):
        seeds_needed(1.0, 1e-3, most=1000)
    with pytest.raises(ValueError, match="other than zero"):
        seeds_needed(0.0, 1.0)


def test_values_must_come_in_pairs():
    with pytest.raises(ValueError, match="pairs"):
        paired_difference([1.0], [1.0, 2.0])
