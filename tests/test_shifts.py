"""The test of steps: its rates over a hundred draws, and its statistic written out."""

import numpy as np
import pytest

from multiembed.diagnosis.shifts import LEVEL, _contrasts, judge_steps


def squared(points):
    """Squared distances between checkpoints, `(tables, kinds, checkpoints, dim)`."""
    return ((points[..., :, None, :] - points[..., None, :, :]) ** 2).sum(-1)


def alarms(test):
    return [shift.certain and shift.abrupt for shift in test.shifts]


def months(rng, count, *, cut=None, size=2.5, dims=20):
    """Two tables, of which the first moves at the cut."""
    points = rng.standard_normal((2, 1, count, dims)) / np.sqrt(dims)
    if cut is not None:
        points[0, 0, cut:, 0] += size
    return points


@pytest.mark.parametrize("cut", [None, 7])
def test_of_a_hundred_shuffled_rows_of_months_at_most_five_alarm(cut):
    rng = np.random.default_rng(4)
    shuffled = (months(rng, 12, cut=cut)[:, :, rng.permutation(12)] for _ in range(100))

    assert sum(any(alarms(judge_steps(squared(of)))) for of in shuffled) <= 5


@pytest.mark.parametrize("count", [3, 4, 8])
def test_of_a_hundred_short_quiet_rows_at_most_five_alarm_even_in_one_direction(count):
    rng = np.random.default_rng(5)
    quiet = (months(rng, count, dims=1 + draw % 3) for draw in range(100))

    assert sum(any(alarms(judge_steps(squared(of)))) for of in quiet) <= 5


@pytest.mark.parametrize(("count", "cut"), [(12, 7), (12, 3), (9, 4), (30, 15), (6, 3)])
def test_a_shift_is_found_at_its_cut_in_its_table(count, cut):
    rng = np.random.default_rng(6)
    size = 2.5 if count > 8 else 20
    tests = [judge_steps(squared(months(rng, count, cut=cut, size=size))) for _ in range(10)]

    assert sum(alarms(test) == [True, False] for test in tests) >= 9
    assert sum(test.shifts[0].step == cut - 1 for test in tests) >= 9
    assert all(test.p_value == min(shift.p_value for shift in test.shifts) for test in tests)


def test_even_drift_is_no_shift_and_a_jump_within_it_is():
    rng = np.random.default_rng(7)
    walks = rng.standard_normal((10, 2, 1, 14, 40)).cumsum(axis=3)
    jumped = walks.copy()
    jumped[:, 0, 0, 8:] += 5 * rng.standard_normal((10, 1, 40))

    assert sum(any(alarms(judge_steps(squared(walk)))) for walk in walks) <= 1
    found = [judge_steps(squared(walk)).shifts[0] for walk in jumped]
    assert sum(shift.certain and shift.abrupt and shift.step == 7 for shift in found) >= 9


def test_the_statistic_compares_pairs_of_equal_lags():
    """Written out for five checkpoints and the step after the second."""
    distance = np.random.default_rng(8).random((5, 5))
    pairs = distance[np.triu_indices(5, 1)]

    def mean(*places):
        return np.mean([distance[a, b] for a, b in places])

    lags = {  # across the step; beside it
        1: ([(1, 2)], [(0, 1), (2, 3), (3, 4)]),
        2: ([(0, 2), (1, 3)], [(2, 4)]),
    }  # pairs three and four apart all cross it
    weights = {1: 1 * 3 / 4, 2: 2 * 1 / 3}
    across = sum(weights[lag] * mean(*sides[0]) for lag, sides in lags.items())
    beside = sum(weights[lag] * mean(*sides[1]) for lag, sides in lags.items())

    assert _contrasts(pairs)[0] == pytest.approx(np.log(across / beside), abs=1e-6)


def test_equal_checkpoints_and_two_of_them_are_no_alarm():
    same = judge_steps(np.zeros((1, 3, 10, 10)))
    two = judge_steps(squared(np.random.default_rng(0).standard_normal((2, 3, 2, 5))))

    assert alarms(same) == [False] and same.p_value == 1
    assert (two.null, two.p_value, alarms(two)) == ("none", 1.0, [False, False])


def test_no_order_of_eight_can_be_rarer_than_the_level():
    """Why order decides from nine on: four and four come back in 2 of 70 orders, in 2 of 126."""
    assert 2 / 70 > LEVEL > 2 / 126
