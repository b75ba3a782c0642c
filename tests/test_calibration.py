"""Calibration: measured in bins of equal mass, mended by a rising function, kept with the run."""

import json
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from multiembed.__main__ import main
from multiembed.base.errors import DataError
from multiembed.config import ModelConfig, RunConfig, TrainingConfig
from multiembed.runs.calibrate import calibrate, fit_isotonic, fit_platt
from multiembed.runs.metrics import expected_calibration_error, reliability_curve
from multiembed.runs.run import load_run
from multiembed.testing.planted_clicks import PlantedClicks, write_planted
from multiembed.training.start import train


def drawn(rows, seed=0):
    random = np.random.default_rng(seed)
    chance = random.beta(1, 4, rows)
    labels = (random.random(rows) < chance).astype(np.int64)
    return labels, (chance**2).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibration")
    planted = PlantedClicks(cardinalities=(20, 10, 5), ranks=2, rows=20_000, base_rate=0.2)
    write_planted(folder / "dataset", planted)
    model = ModelConfig(architecture="dnn", dim=3, options={"hidden": [8, 4]})
    training = TrainingConfig(max_epochs=1, threads=1, learning_rate=0.01, batch_size=256)
    config = RunConfig(model=model, training=training)
    train(config, dataset=folder / "dataset", run=folder / "run")
    return folder


def test_bins_have_equal_mass_and_hand_calculated_means():
    labels = np.array([0, 1, 0, 0, 1, 1])
    probabilities = np.array([0.3, 0.9, 0.1, 0.2, 0.6, 0.5], np.float32)

    curve = reliability_curve(labels, probabilities, bins=3)

    assert [of.rows for of in curve] == [2, 2, 2]
    np.testing.assert_allclose([of.predicted for of in curve], [0.15, 0.4, 0.75], rtol=1e-6)
    assert [of.observed for of in curve] == [0, 0.5, 1]
    assert expected_calibration_error(curve) == pytest.approx((0.15 + 0.1 + 0.25) / 3)


def test_equal_probabilities_share_a_bin():
    labels = np.array([1, 0, 1, 0, 1])
    probabilities = np.array([0.2, 0.2, 0.2, 0.2, 0.7])

    curve = reliability_curve(labels, probabilities, bins=4)

    assert [(of.rows, of.predicted, of.observed) for of in curve] == [(4, 0.2, 0.5), (1, 0.7, 1.0)]


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1), st.integers(1, 20))
@settings(max_examples=50, deadline=None)
def test_bins_hold_all_rows_in_rising_order(rows, bins):
    labels = np.array([label for label, _ in rows])
    probabilities = np.array([p for _, p in rows])

    curve = reliability_curve(labels, probabilities, bins=bins)

    assert sum(of.rows for of in curve) == len(rows)
    assert len(curve) <= bins
    predicted = [of.predicted for of in curve]
    assert predicted == sorted(predicted)
    assert sum(of.rows * of.observed for of in curve) == pytest.approx(labels.sum())


def test_isotonic_calibration_is_that_of_scikit_learn_but_for_the_steepest_places():
    labels, probabilities = drawn(3000)
    probabilities = np.round(probabilities, 2)  # many ties
    others = np.linspace(0.001, 0.999, 5000)
    reference = IsotonicRegression(out_of_bounds="clip").fit(probabilities, labels)
    ends = logit(np.clip(reference.X_thresholds_, 1e-7, 1 - 1e-7))
    nearest = np.abs(logit(others)[:, None] - ends).min(axis=1)

    ours = fit_isotonic(labels, probabilities, "w")

    found, expected = ours.apply(others), reference.predict(others)
    far = nearest > 0.01
    assert far.mean() > 0.8
    np.testing.assert_allclose(found[far], expected[far], atol=1e-6)
    assert np.abs(found - expected).max() <= np.diff(reference.y_thresholds_).max()
    assert len(ours.points) <= 2 * len(reference.X_thresholds_)


def test_a_calibration_hardly_moves_where_a_probability_moves_in_its_last_digit():
    labels, probabilities = drawn(20_000)

    ours = fit_isotonic(labels, probabilities, "w")

    moved = expit(logit(probabilities.astype(float)) + 1e-6)
    steps = np.diff(np.array(ours.points)[:, 1])
    largest = np.abs(ours.apply(moved) - ours.apply(probabilities.astype(float))).max()
    assert steps.max() > 0.01
    assert largest < 1e-4 * 1.1 * steps.max()


def test_platt_calibration_is_that_of_scikit_learn():
    labels, probabilities = drawn(3000)
    logits = np.log(probabilities.astype(float)) - np.log1p(-probabilities.astype(float))
    reference = LogisticRegression(C=np.inf, tol=1e-8).fit(logits[:, None], labels)

    ours = fit_platt(labels, probabilities.astype(np.float64), "w")

    assert ours.slope == pytest.approx(reference.coef_.item(), rel=1e-3)
    assert ours.intercept == pytest.approx(reference.intercept_.item(), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("method", ["isotonic", "platt"])
def test_a_calibrated_run_errs_less_and_says_so_everywhere(folder, method, tmp_path):
    run = load_run(folder / "run")
    before = run.evaluate("test")

    calibration = calibrate(run, method)
    after = load_run(folder / "run").evaluate("test", calibrated=True)

    assert after["expected_calibration_error"] <= before["expected_calibration_error"] + 0.01
    assert after["calibration_ratio"] == pytest.approx(1, abs=0.15)
    assert load_run(folder / "run").evaluate("test") == before
    rows = pl.DataFrame({f"f{f}": ["1", "2", "x"] for f in range(3)})
    expected = calibration.apply(run.predict(run.encoder.encode(rows)))
    np.testing.assert_array_equal(load_run(folder / "run").predict_proba(rows), expected)
    (folder / "run" / "calibration.json").unlink()


def test_a_calibration_of_other_weights_is_refused(folder):
    run = load_run(folder / "run")
    calibrate(run)
    file = folder / "run" / "calibration.json"
    content = json.loads(file.read_text())

    for change, message in [
        ({"weights": "other"}, "fitted to these weights"),
        ({"points": [[0, 1], [1, 0]]}, "rising between 0 and 1"),
        ({"points": []}, "points for isotonic"),
        ({"method": "magic"}, "method must be 'isotonic' or 'platt', got 'magic'"),
    ]:
        file.write_text(json.dumps(content | change))
        with pytest.raises(DataError, match=message):
            run.evaluate("test", calibrated=True)
    file.write_text("{")
    with pytest.raises(DataError, match=r"must be (JSON|a calibration)"):
        run.predict_proba(pl.DataFrame({f"f{f}": ["1"] for f in range(3)}))
    file.unlink()
    with pytest.raises(DataError, match="must be calibrated first"):
        run.evaluate("test", calibrated=True)


def test_commands_calibrate_and_show_the_curve(folder, monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["multiembed", *map(str, arguments)])
        assert main() == 0
        return capsys.readouterr().out

    assert "before" in call("calibrate", folder / "run", "--method", "platt")
    assert "reliability" in call("evaluate", folder / "run", "--calibrated")
    measured = json.loads(call("evaluate", folder / "run", "--calibrated", "--json", "-"))
    assert sum(of["rows"] for of in measured["reliability"]) == measured["rows"]
    assert measured["expected_calibration_error"] < 0.1
    (folder / "run" / "calibration.json").unlink()
