"""Runs that calibrate themselves when training ends: when, by what, and who uses it then."""

import json
import shutil

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

import multiembed as me
from multiembed.experiments.grid.outcome import outcome_of
from multiembed.runs.calibrate import FOR_ISOTONIC, FOR_SLOPE, fit_platt, self_calibrate
from multiembed.runs.calibration import (
    CALIBRATED_FROM,
    CALIBRATED_TO,
    Calibration,
    read_self_calibrated,
)
from multiembed.runs.compress import compress_run
from multiembed.runs.directory import RunDirectory
from multiembed.serving.loader import Bundle
from multiembed.testing.planted_clicks import PlantedClicks, write_planted


def config(dataset=None, **training):
    """A model that, after one epoch of large steps and strong decay, is off on average."""
    model = me.ModelConfig(architecture="dnn", dim=3, options={"hidden": [8]})
    usual = {"max_epochs": 1, "threads": 1, "batch_size": 256, "learning_rate": 0.003}
    return me.RunConfig(
        dataset=dataset, model=model, training=me.TrainingConfig(**usual | training)
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("self") / "dataset"
    planted = PlantedClicks(cardinalities=(30, 12, 5), ranks=2, rows=8_000, base_rate=0.05)
    write_planted(folder, planted)
    return folder


@pytest.fixture(scope="module")
def plain(dataset, tmp_path_factory):
    return me.train(config(), dataset=dataset, run=tmp_path_factory.mktemp("plain") / "run")


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("auto") / "run"
    return me.train(config(calibration="auto"), dataset=dataset, run=folder)


def summary(run):
    return json.loads((run.path / "summary.json").read_text())


def curve(path):
    """The calibration without the name of its weights, in which seconds count."""
    return {**json.loads((path / "calibration.json").read_text()), "weights": ""}


def test_nothing_is_calibrated_unless_asked(plain):
    assert me.TrainingConfig().calibration == "none"
    assert plain.calibration is None
    assert "calibration" not in summary(plain)


def test_a_ratio_that_is_off_is_mended_as_scikit_learn_does(run, plain):
    """The model is that of the run which nothing was said to; the line that of scikit-learn."""
    scores = plain.score("valid")
    p = scores.probabilities.astype(float)
    ratio = p.sum() / scores.labels.sum()
    line = LogisticRegression(C=np.inf, tol=1e-10).fit(logit(p)[:, None], scores.labels)
    mended = line.predict_proba(logit(p)[:, None])[:, 1]

    said = summary(run)["calibration"]

    assert not CALIBRATED_FROM <= ratio <= CALIBRATED_TO
    assert scores.labels.sum() < FOR_ISOTONIC
    assert said["method"] == "platt"
    assert said["ratio"] == pytest.approx(ratio, rel=1e-6)
    assert said["after"] == pytest.approx(1, abs=1e-4)
    assert mended.sum() == pytest.approx(scores.labels.sum(), rel=1e-4)
    found = run.score("valid").probabilities
    np.testing.assert_allclose(found, mended, rtol=2e-3)


def test_it_is_the_calibration_that_the_command_writes(run, plain, tmp_path):
    shutil.copytree(plain.path, tmp_path / "run")
    me.calibrate(me.load_run(tmp_path / "run"), "platt")

    assert curve(run.path) == curve(tmp_path / "run")


def test_it_is_applied_wherever_quality_is_measured(run, plain):
    """Without being asked; what a command fitted later is applied where that is said."""
    mended = run.calibration.apply(plain.score("test").probabilities)

    assert (run.score("test").probabilities == mended).all()
    assert (run.score("test", calibrated=False).probabilities != mended).any()
    loss = log_loss(run.score("test").labels, mended.astype(float))
    assert run.evaluate("test")["log_loss"] == pytest.approx(loss, rel=1e-6)
    assert outcome_of(run.path, run.dataset()).test_log_loss == pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize(("ratio", "left"), [(0.9699, 0), (0.97, 1), (1.03, 1), (1.0301, 0)])
def test_a_ratio_within_the_bounds_is_left_as_it_is(run, tmp_path, ratio, left):
    shutil.copytree(run.path, tmp_path / "run")
    (tmp_path / "run" / "calibration.json").unlink()
    copy = me.load_run(tmp_path / "run")
    copy.best_state["calibration_ratio"] = ratio

    said = self_calibrate(copy)

    assert (said.method is None) == (copy.calibration is None) == bool(left)
    assert (said.after == ratio) == bool(left)
    if left:
        assert (copy.score().probabilities == copy.score(calibrated=False).probabilities).all()


@pytest.mark.parametrize("killed", ["calibration", "summary"])
def test_a_kill_at_the_end_and_a_resume_give_the_same_files(
    run, dataset, tmp_path, monkeypatch, killed
):
    def kill(*_):
        raise KeyboardInterrupt

    home, name = {"calibration": (Calibration, "save"), "summary": (RunDirectory, "write_summary")}[
        killed
    ]
    with monkeypatch.context() as patch:
        patch.setattr(home, name, kill)
        with pytest.raises(KeyboardInterrupt):
            me.train(config(calibration="auto"), dataset=dataset, run=tmp_path / "run")
    assert not (tmp_path / "run" / "summary.json").exists()

    resumed = me.train(None, dataset=dataset, run=tmp_path / "run", resume=True)

    assert resumed.calibration is not None
    assert curve(resumed.path) == curve(run.path)
    assert summary(resumed)["calibration"] == summary(run)["calibration"]


def test_resuming_a_finished_run_leaves_what_was_calibrated_since(run, dataset, tmp_path):
    shutil.copytree(run.path, tmp_path / "run")
    me.calibrate(me.load_run(tmp_path / "run"), "isotonic")
    before = (tmp_path / "run" / "calibration.json").read_bytes()

    me.train(None, dataset=dataset, run=tmp_path / "run", resume=True)

    assert (tmp_path / "run" / "calibration.json").read_bytes() == before


def test_down_sampled_negatives_and_weights_count_in_the_ratio(tmp_path):
    """Weights that make positives four times as many; negatives of which half were seen."""
    random = np.random.default_rng(0)
    rows = 6_000
    ids = random.integers(1, 6, (rows, 2)).astype(np.int32)
    labels = (random.random(rows) < expit(ids.sum(1) / 3 - 3)).astype(np.uint8)
    weights = np.where(labels, 4, 1).astype(np.float32)
    frame = pd.DataFrame({"a": ids[:, 0], "b": ids[:, 1], "y": labels, "w": weights})
    frame.to_csv(tmp_path / "rows.csv", index=False)
    options = me.PrepareOptions(format="table", label="y", weight="w")
    me.prepare(tmp_path / "rows.csv", tmp_path / "encoded", options)
    asked = config(calibration="isotonic", negative_rate=0.5)

    run = me.train(asked, dataset=tmp_path / "encoded", run=tmp_path / "run")

    raw = run.score("valid", calibrated=False)
    ratio = (raw.weights * raw.probabilities).sum() / (raw.weights * raw.labels).sum()
    reference = IsotonicRegression(out_of_bounds="clip").fit(
        raw.probabilities, raw.labels, sample_weight=raw.weights
    )
    said = summary(run)["calibration"]
    assert said["ratio"] == pytest.approx(ratio, rel=1e-5)
    assert said["after"] == pytest.approx(1, abs=0.01)
    expected = reference.predict(raw.probabilities)
    found = run.score("valid").probabilities
    assert np.average(np.abs(found - expected), weights=raw.weights) < 0.01


@pytest.mark.parametrize("reverse", [False, True])
def test_few_rows_or_a_falling_line_move_the_mean_alone(reverse):
    """Where scikit-learn's slope would be infinite, or negative."""
    rows = 40 if reverse else FOR_SLOPE - 1
    labels = np.repeat([0, 1], [600, rows])
    p = np.where(labels == 1, 0.2, 0.01) + np.linspace(0, 0.001, len(labels))
    p = p[::-1] if reverse else p

    found = fit_platt(labels, p, "w")

    assert found.slope == 1
    assert found.apply(p).sum() == pytest.approx(rows, rel=1e-4)


def test_the_mean_is_right_for_the_rarest_positives():
    """One in 20,000: scikit-learn's line, whose tolerance is no share of the positives, is not."""
    random = np.random.default_rng(1)
    p = expit(random.normal(-10, 1, 600_000))
    labels = (random.random(len(p)) < p / 1.5).astype(int)

    found = fit_platt(labels, p, "w")

    assert labels.mean() < 1e-4
    assert found.apply(p).sum() == pytest.approx(labels.sum(), rel=1e-3)


def test_a_classifier_predicts_what_its_run_does_and_a_compressed_run_is_calibrated_too(
    run, plain, tmp_path
):
    """The classifier's own validation rows are not shown: its probabilities add up over all."""
    random = np.random.default_rng(0)
    rows = random.integers(0, 6, (3_000, 2)).astype(str)
    labels = (random.random(3_000) < 0.1 * (1 + (rows[:, 0] == "0"))).astype(int)
    made = {"dim": 2, "options": {"hidden": [4]}, "recipe": "paper"}
    training = {"max_epochs": 1, "learning_rate": 1e-4, "threads": 1}
    kept, mended = (
        me.ClickClassifier("dnn", **made, training={**training, "calibration": of}).fit(
            rows, labels
        )
        for of in ("none", "platt")
    )

    before, after = (of.predict_proba(rows)[:, 1] for of in (kept, mended))
    assert before.sum() > 1.5 * labels.sum()
    assert after.sum() == pytest.approx(labels.sum(), rel=0.1)
    slope, intercept = np.polyfit(logit(before), logit(after), 1)  # one line on the logit
    np.testing.assert_allclose(logit(after), slope * logit(before) + intercept, atol=1e-3)

    compress_run(run.path, tmp_path / "narrow", keep=0.9)
    narrow = me.load_run(tmp_path / "narrow")
    assert narrow.evaluate("valid")["calibration_ratio"] == pytest.approx(1, abs=1e-3)
    compress_run(plain.path, tmp_path / "plain", keep=0.9)
    assert me.load_run(tmp_path / "plain").calibration is None


def test_a_bundle_and_raw_rows_are_calibrated_by_themselves(run, dataset, tmp_path):
    me.export(run, tmp_path / "bundle", format="torch")

    rows = pl.DataFrame({f"f{field}": ["1", "2", "other"] for field in range(3)})
    expected, raw = run.predict_proba(rows), run.predict(run.encoder.encode(rows))
    assert (expected == run.calibration.apply(raw)).all()
    assert (expected != raw).all()
    found = Bundle(tmp_path / "bundle").predict(rows.to_arrow())
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_train_says_in_a_line_what_it_did_and_the_card_keeps_it(dataset, tmp_path, call):
    arguments = ["--architecture", "dnn", "--dim", "3", "--set", "training.max_epochs=1"]
    asked = [*arguments, "--set", "training.calibration=auto", "--set", "training.threads=1"]

    code, said, _ = call("train", dataset, tmp_path / "run", *asked)

    found = json.loads((tmp_path / "run" / "summary.json").read_text())["calibration"]
    line = (
        f"predicted {found['ratio']:.2f} times what was observed on validation: calibrated by "
        f"platt, now 1.00"
    )
    assert code == 0
    assert line in " ".join(said.split())
    card = (tmp_path / "run" / "README.md").read_text()
    assert f"The model {line}." in card
    mended = me.load_run(tmp_path / "run").evaluate("test", calibrated=True)
    assert f"{mended['log_loss']:.6f}" in card
    measured = json.loads(call("evaluate", tmp_path / "run", "--json", "-")[1])
    assert measured["log_loss"] == mended["log_loss"]
    raw = json.loads(call("evaluate", tmp_path / "run", "--no-calibrated", "--json", "-")[1])
    assert raw["log_loss"] != mended["log_loss"]


def test_a_broken_summary_is_one_line(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "run")
    for content in ({"ratio": "1"}, [1], {"ratio": 1.0, "method": "none", "after": 1.0}):
        (tmp_path / "run" / "summary.json").write_text(json.dumps({"calibration": content}))
        with pytest.raises(me.DataError, match=r"summary.json must be a run's summary, got: "):
            read_self_calibrated(tmp_path / "run" / "summary.json")
