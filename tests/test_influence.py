"""What rows move AUC and log loss by, the interval that comes of it, and how few positives are."""

import json
import math

import numpy as np
import pytest
from scipy.stats import norm, rankdata
from sklearn.metrics import log_loss, roc_auc_score

import multiembed as me
from multiembed.data.remarks import auc_error, dataset_remarks, rare_remark
from multiembed.data.store.schema import Schema, SplitSummary
from multiembed.runs.influence import auc_influence, auc_interval, log_loss_influence
from multiembed.testing.planted_clicks import PlantedClicks, write_planted


def drawn(rows=60, seed=0):
    random = np.random.default_rng(seed)
    labels = (random.random(rows) < 0.3).astype(int)
    scores = np.round(np.clip(random.normal(0.3 + 0.2 * labels, 0.2), 0.1, 0.9), 1)
    return labels, scores, random.uniform(0.5, 3, rows)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(auc_influence, roc_auc_score), (log_loss_influence, log_loss)]
)
@pytest.mark.parametrize("weighted", [False, True])
def test_influence_is_the_derivative_of_scikit_learns_measure_by_a_rows_weight(
    ours, theirs, weighted
):
    labels, scores, weights = drawn()
    weights = weights if weighted else np.ones(len(labels))

    value, influence = ours(labels, scores, weights if weighted else None)

    assert value == pytest.approx(theirs(labels, scores, sample_weight=weights), rel=1e-6)
    assert influence.mean() == pytest.approx(0, abs=1e-12)
    for row in range(0, 60, 7):
        step = np.zeros(60)
        step[row] = 1e-5
        up, down = (theirs(labels, scores, sample_weight=weights + s) for s in (step, -step))
        slope = weights[row] * (up - down) / 2e-5
        assert influence[row] / 60 == pytest.approx(slope, rel=1e-4, abs=1e-9)


def test_the_interval_is_that_of_delong_by_every_pair_on_the_logit():
    """Structural components as in the paper: means over the other class, pair by pair."""
    labels, scores, _ = drawn(200)
    above, below = scores[labels == 1], scores[labels == 0]
    wins = (above[:, None] > below) + (above[:, None] == below) / 2
    error = math.sqrt(wins.mean(1).var(ddof=1) / len(above) + wins.mean(0).var(ddof=1) / len(below))
    middle = np.log(wins.mean() / (1 - wins.mean()))
    reach = norm.ppf(0.975) * error / (wins.mean() * (1 - wins.mean()))

    low, high = auc_interval(labels, scores)

    for found, at in ((low, middle - reach), (high, middle + reach)):
        assert found == pytest.approx(1 / (1 + math.exp(-at)), rel=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_interval_holds_for_forty_positives(weighted):
    """Normal scores whose AUC is known; weights that do not depend on them leave it."""
    true, inside = norm.cdf(1.2 / math.sqrt(2)), 0
    for seed in range(400):
        random = np.random.default_rng(seed)
        labels = np.repeat([0, 1], [600, 40])
        scores = random.normal(1.2 * labels)
        weights = random.uniform(0.2, 2, len(labels)) if weighted else None
        low, high = auc_interval(labels, scores, weights)
        inside += low <= true <= high

    assert 0.92 <= inside / 400 <= 0.98


def test_there_is_no_interval_where_there_is_nothing_to_tell_it_by():
    one, same = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    scores = np.array([0.1, 0.2, 0.3, 0.4])

    assert auc_interval(one, scores) is None
    assert auc_interval(same, scores) is None
    assert auc_interval(same, np.full(4, 0.5)) is None


def test_the_error_by_counts_alone_is_the_published_one_and_that_of_exponential_scores():
    """Hanley and McNeil's own case, 51 and 58 at 0.893: 0.032."""
    assert auc_error(0.893, 51, 58) == pytest.approx(0.032, abs=6e-4)
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], [300, 25])
    scores = random.exponential(np.where(labels, 3.0, 1.0), (4000, 325))  # AUC 3 / 4
    ranks = rankdata(scores, axis=1)[:, labels == 1].sum(1)
    found = (ranks - 25 * 26 / 2) / (25 * 300)
    assert np.mean(found) == pytest.approx(0.75, abs=0.005)
    assert auc_error(0.75, 25, 300) == pytest.approx(np.std(found), rel=0.04)


def schema(train, test):
    splits = {
        name: SplitSummary(rows=rows, positives=of)
        for name, (rows, of) in {"train": train, "valid": (10, 5), "test": test}.items()
    }
    return Schema(label="click", fields=(), splits=splits)


def test_a_rare_class_is_named_with_what_can_be_known():
    """By hand for 28 of 12,500: half of 1.96 standard errors, the square root of 0.00253."""
    said = rare_remark(schema((100_000, 227), (12_500, 28)))

    q1, q2, n = 0.75 / 1.25, 2 * 0.5625 / 1.75, 12_472
    variance = (0.1875 + 27 * (q1 - 0.5625) + (n - 1) * (q2 - 0.5625)) / (28 * n)
    assert f"{1.96 * math.sqrt(variance):.2g}" == "0.11"
    assert said == [
        "positives are few: 227 of 100,000 rows that train (0.23%); by 28 that test, an AUC of "
        "0.75 is known to ±0.11 (95%)"
    ]
    assert dataset_remarks(schema((100_000, 227), (12_500, 28))) == said


@pytest.mark.parametrize(
    ("train", "test", "named"),
    [
        ((8_000, 999), (1_000, 99), "positives are few: 999 of 8,000"),
        ((8_000, 1_000), (1_000, 99), None),
        ((1_000_000, 9_999), (1_000, 99), "positives are few: 9,999 of 1,000,000"),
        ((1_000_000, 10_000), (1_000, 99), None),
        ((8_000, 7_500), (1_000, 940), "negatives are few: 500 of 8,000"),
        ((8_000, 0), (1_000, 0), None),
    ],
)
def test_few_is_below_a_thousand_or_one_in_a_hundred(train, test, named):
    said = rare_remark(schema(train, test))

    assert [line.startswith(named) for line in said] == ([True] if named else [])


def test_commands_say_it_and_evaluate_shows_the_interval(tmp_path, call):
    rows = ["y,a", *(f"{int(n % 9 == 0)},{n % 7}" for n in range(900))]
    (tmp_path / "rows.csv").write_text("\n".join(rows))
    code, said, _ = call("prepare", tmp_path / "rows.csv", tmp_path / "encoded", "--label", "y")
    assert code == 0 and "positives are few: " in said
    arguments = ("--set", "training.max_epochs=1", "--architecture", "dnn", "--dim", "2")
    code, said, _ = call("train", tmp_path / "encoded", tmp_path / "run", *arguments)
    best = me.load_run(tmp_path / "run").best_state["auc"]
    assert code == 0 and "positives are few: " in said
    assert f"an AUC of {best:.2f} is known" in " ".join(said.split())

    scores = me.load_run(tmp_path / "run").score("test")
    expected = auc_interval(scores.labels, scores.probabilities)
    code, said, _ = call("evaluate", tmp_path / "run", "--json", "-")
    assert json.loads(said)["auc_interval"] == list(expected)
    code, said, _ = call("evaluate", tmp_path / "run")
    assert f"{expected[0]:.6f} to {expected[1]:.6f}" in said


def test_enough_positives_are_not_remarked_on(tmp_path):
    written = write_planted(
        tmp_path / "planted", PlantedClicks(cardinalities=(5, 4), ranks=2, rows=20_000)
    )

    assert rare_remark(written) == []
