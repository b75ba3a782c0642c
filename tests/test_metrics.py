"""Metrics against scikit-learn, and against numbers worked by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from multiembed.base.errors import DataError
from multiembed.runs.metrics import auc, calibration_ratio, group_auc, log_loss, normalized_entropy


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("distinct", [2, 10, 10**9])
def test_auc_equals_scikit_learn_with_and_without_ties(dtype, distinct):
    random = np.random.default_rng(distinct)
    scores = (random.integers(0, distinct, 5000) / distinct).astype(dtype)
    labels = (random.random(5000) < 0.2 + 0.3 * scores).astype(np.int64)

    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.floats(width=32, allow_nan=False, allow_infinity=False),
        ),
        min_size=2,
        max_size=60,
    )
)
def test_auc_equals_scikit_learn_on_adversarial_scores(rows):
    labels = np.array([label for label, _ in rows], dtype=np.int64)
    labels[:2] = [0, 1]
    scores = np.array([score for _, score in rows], dtype=np.float32)

    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_auc_of_all_ties_is_a_half():
    assert auc(np.array([0, 1, 1, 0, 1]), np.full(5, 0.3, dtype=np.float32)) == 0.5


def test_negative_zero_ties_with_zero():
    assert auc(np.array([0, 1]), np.array([0.0, -0.0], dtype=np.float32)) == 0.5


def test_auc_survives_more_pairs_than_32_bits():
    labels = np.repeat([0, 1], 100_000)
    scores = labels.astype(np.float32)

    assert auc(labels, scores) == 1.0


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([1, 1], [0.1, 0.2], "rows of both classes, got 2 positives and 0 negatives"),
        ([0, 1], [0.1, math.nan], "must be numbers, got NaN in 1 of 2 rows"),
        ([0, 1], [0.1], "as many as labels, got 1 and 2"),
        ([], [], "at least one row, got none"),
    ],
)
def test_auc_refuses_what_has_no_answer(labels, scores, message):
    with pytest.raises(DataError, match=message):
        auc(np.array(labels, dtype=np.int64), np.array(scores, dtype=np.float32))


def test_log_loss_equals_scikit_learn():
    random = np.random.default_rng(0)
    probabilities = random.random(1000).astype(np.float32) * 0.98 + 0.01
    labels = random.integers(0, 2, 1000)

    expected = sklearn_log_loss(labels, probabilities.astype(np.float64))
    assert log_loss(labels, probabilities) == pytest.approx(expected, rel=1e-12)


def test_a_certain_and_wrong_row_costs_a_finite_loss():
    cost = log_loss(np.array([1]), np.array([0.0], dtype=np.float32))

    assert cost == pytest.approx(24 * math.log(2))  # half of 2^-23


def test_normalized_entropy_of_the_mean_is_one():
    labels = np.array([0, 0, 0, 1])

    constant = np.full(4, 0.25, dtype=np.float32)
    assert normalized_entropy(labels, constant) == pytest.approx(1, abs=1e-12)


def test_calibration_ratio_is_expected_over_observed():
    labels = np.array([0, 1, 0, 0])

    assert calibration_ratio(labels, np.full(4, 0.5, dtype=np.float32)) == 2.0


def test_probabilities_outside_their_range_are_refused():
    with pytest.raises(DataError, match=r"between 0 and 1, got -0\.5 to 1\.5"):
        log_loss(np.array([0, 1]), np.array([-0.5, 1.5], dtype=np.float32))


def test_group_auc_equals_scikit_learn_group_by_group():
    random = np.random.default_rng(3)
    groups = random.integers(0, 40, 2000)
    scores = (random.integers(0, 20, 2000) / 20).astype(np.float32)
    labels = (random.random(2000) < 0.1).astype(np.int64)

    expected, weight = 0.0, 0
    for group in range(40):
        of_group = groups == group
        if 0 < labels[of_group].sum() < of_group.sum():
            expected += of_group.sum() * roc_auc_score(labels[of_group], scores[of_group])
            weight += of_group.sum()
    measured, counted = group_auc(labels, scores, groups)
    assert counted == weight
    assert measured == pytest.approx(expected / weight, abs=1e-12)


def test_groups_of_one_class_alone_have_no_group_auc():
    with pytest.raises(DataError, match="a group with both classes, got none"):
        group_auc(np.array([0, 1]), np.array([0.1, 0.2], dtype=np.float32), np.array([0, 1]))
