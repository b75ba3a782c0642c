"""Rows that count differently: scikit-learn's numbers, copies in place of weights, bad weights."""

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

import multiembed as me
from multiembed.base.errors import DataError
from multiembed.runs.calibrate import fit_isotonic, fit_platt
from multiembed.runs.metrics import (
    auc,
    calibration_ratio,
    expected_calibration_error,
    group_auc,
    log_loss,
    normalized_entropy,
    reliability_curve,
)
from multiembed.training.trainer import Trainer

SMALL = me.ModelConfig(architecture="dnn", dim=2, options={"hidden": [4], "dropout": 0.0})
BRIEF = me.TrainingConfig(max_epochs=2, batch_size=32, threads=1, learning_rate=0.01)


def scored(rows=3000, *, distinct=None, seed=0):
    random = np.random.default_rng(seed)
    p = random.random(rows) if distinct is None else random.integers(0, distinct, rows) / distinct
    labels = (random.random(rows) < p).astype(np.int64)
    return labels, p.astype(np.float32), random.gamma(0.5, 2, rows).astype(np.float32)


@pytest.mark.parametrize("distinct", [None, 3, 40])
def test_weighted_measures_are_those_of_scikit_learn(distinct):
    labels, p, w = scored(distinct=distinct)
    exact = w.astype(np.float64)
    inside = np.clip(p.astype(np.float64), 2**-24, 1 - 2**-24)
    entropy = sklearn_log_loss(labels, inside, sample_weight=exact)
    share = np.average(labels, weights=exact)
    base = sklearn_log_loss(labels, np.full(len(p), share), sample_weight=exact)

    assert auc(labels, p, w) == pytest.approx(roc_auc_score(labels, p, sample_weight=exact), 1e-12)
    assert log_loss(labels, p, w) == pytest.approx(entropy, rel=1e-12)
    assert normalized_entropy(labels, p, w) == pytest.approx(entropy / base, rel=1e-12)
    assert calibration_ratio(labels, p, w) == pytest.approx(
        np.average(p.astype(np.float64), weights=exact) / share, rel=1e-12
    )


@pytest.mark.parametrize("measure", [auc, log_loss, normalized_entropy, calibration_ratio])
def test_a_weight_of_three_is_three_rows_and_one_of_nought_is_none(measure):
    labels, p, _ = scored(500, distinct=20)
    counts = np.random.default_rng(1).integers(0, 4, len(p))

    weighted = measure(labels, p, counts.astype(np.float32))

    assert weighted == pytest.approx(measure(labels.repeat(counts), p.repeat(counts)), rel=1e-12)


def test_weighted_group_auc_is_the_mean_of_scikit_learns_in_every_group():
    labels, p, w = scored(distinct=30)
    groups = np.random.default_rng(2).integers(0, 400, len(p))
    chosen = [groups == group for group in np.unique(groups)]
    both = [rows for rows in chosen if len(np.unique(labels[rows])) == 2]
    exact = w.astype(np.float64)
    each = [roc_auc_score(labels[r], p[r], sample_weight=exact[r]) for r in both]

    value, rows = group_auc(labels, p, groups, w)

    assert value == pytest.approx(np.average(each, weights=[exact[r].sum() for r in both]), 1e-12)
    assert rows == sum(r.sum() for r in both)


def test_bins_of_equal_weight_hold_the_weighted_means_of_their_rows():
    labels, p, w = scored()
    curve = reliability_curve(labels, p, w, bins=10)
    exact, ends = w.astype(np.float64), np.cumsum([of.rows for of in curve])
    places = np.split(np.argsort(p, kind="stable"), ends[:-1])

    for of, rows in zip(curve, places, strict=True):
        assert of.observed == pytest.approx(np.average(labels[rows], weights=exact[rows]))
        assert of.predicted == pytest.approx(np.average(p[rows], weights=exact[rows]))
        assert of.weight == pytest.approx(exact[rows].sum())
    assert max(of.weight for of in curve) < 1.1 * exact.sum() / 10
    error = sum(of.weight * abs(of.observed - of.predicted) for of in curve) / exact.sum()
    assert expected_calibration_error(curve) == pytest.approx(error)


def test_equal_weights_give_the_curve_of_none():
    labels, p, _ = scored()

    ours = reliability_curve(labels, p, np.full(len(p), 0.5, np.float32), bins=5)
    observed, predicted = calibration_curve(labels, p, n_bins=5, strategy="quantile")

    np.testing.assert_allclose([of.observed for of in ours], observed, atol=2e-3)
    np.testing.assert_allclose([of.predicted for of in ours], predicted, atol=2e-3)


def test_platt_calibration_is_that_of_scikit_learn_with_weights():
    labels, p, w = scored(800)
    z = np.log(p.astype(np.float64) / (1 - p.astype(np.float64)))
    theirs = LogisticRegression(C=np.inf, tol=1e-10)
    theirs.fit(z[:, None], labels, sample_weight=w.astype(np.float64))

    ours = fit_platt(labels, p, "w", w)

    assert ours.slope == pytest.approx(theirs.coef_[0, 0], rel=1e-4)
    assert ours.intercept == pytest.approx(theirs.intercept_[0], abs=1e-4)


def test_isotonic_calibration_of_a_row_of_weight_three_is_that_of_three_rows():
    labels, p, _ = scored(800)
    counts = np.random.default_rng(1).integers(1, 4, len(p))

    weighted = fit_isotonic(labels, p, "w", counts.astype(np.float32))
    repeated = fit_isotonic(labels.repeat(counts), p.repeat(counts), "w")

    np.testing.assert_allclose(weighted.points, repeated.points, rtol=1e-12)
    assert weighted.points != fit_isotonic(labels, p, "w").points


def prepared(tmp_path, frame, **options):
    frame.write_csv(tmp_path / "rows.csv")
    known = me.PrepareOptions(format="table", label="click", weight="w", **options)
    me.prepare(tmp_path / "rows.csv", tmp_path / "ds", known)
    return me.open_dataset(tmp_path / "ds")


def rows_of(weights, *, seed=0):
    random = np.random.default_rng(seed)
    site = random.integers(0, 5, len(weights))
    click = (random.random(len(weights)) < 0.2 + 0.12 * site).astype(int)
    return pl.DataFrame({"click": click, "site": [f"s{n}" for n in site], "w": weights})


def test_weights_reach_every_split_in_the_order_of_their_rows(tmp_path):
    weights = np.random.default_rng(3).gamma(1, 3, 300).round(3)
    frame = rows_of(weights).with_columns(row=pl.int_range(300).cast(pl.String))

    dataset = prepared(tmp_path, frame, categorical_columns=("row",), min_count=1, shard_rows=64)

    assert (dataset.field_names, dataset.schema.weight) == (("site", "row"), "w")
    known = dict(dataset.vocabulary("row").select("id", "value").iter_rows())
    found = dataset.split("train")
    batches = list(found.batches(7, seed=1))
    for ids, weight in zip(
        np.concatenate([b.ids[:, 1] for b in batches]),
        np.concatenate([b.weights for b in batches]),
        strict=True,
    ):
        assert weight == np.float32(weights[int(known[ids])])


def test_a_batch_weighs_its_rows_by_hand(tmp_path):
    dataset = prepared(tmp_path, rows_of(np.tile([0.5, 4.0, 1.0], 60)))
    run = me.train(me.RunConfig(model=SMALL, training=BRIEF), dataset=dataset, run=tmp_path / "r")
    trainer = Trainer(run.config, dataset, run.directory)
    batch = next(dataset.split("train").batches(24))
    ids = torch.from_numpy(batch.ids)
    logits = trainer.model.score(trainer.tables.lookup(ids)).detach().double().numpy()

    labels, weights = torch.from_numpy(batch.labels).float(), torch.from_numpy(batch.weights)
    loss = trainer.step.loss(trainer.tables.lookup(ids), labels, weights)

    each = np.logaddexp(0, logits) - batch.labels * logits
    mean = dataset.split("train").weights.astype(np.float64).mean()
    assert loss.item() == pytest.approx(np.mean(each * batch.weights / mean), rel=1e-5)


def test_only_the_ratios_of_weights_count(tmp_path):
    runs = []
    for name, scale in (("one", 1.0), ("eight", 8.0), ("same", 0.0)):
        (tmp_path / name).mkdir()
        weights = np.tile([0.5, 2.0, 1.0], 100) * scale if scale else np.ones(300)
        dataset = prepared(tmp_path / name, rows_of(weights))
        config = me.RunConfig(model=SMALL, training=BRIEF)
        runs.append(me.train(config, dataset=dataset, run=tmp_path / name / "run"))
    plain = tmp_path / "plain"
    plain.mkdir()
    rows_of(np.ones(300)).drop("w").write_csv(plain / "rows.csv")
    me.prepare(plain / "rows.csv", plain / "ds", me.PrepareOptions(format="table", label="click"))
    unweighted = me.train(runs[2].config, dataset=plain / "ds", run=plain / "run")

    one, eight, same = (list(run.model.state_dict().values()) for run in runs)
    assert all(torch.equal(a, b) for a, b in zip(one, eight, strict=True))
    assert all(
        torch.equal(a, b) for a, b in zip(same, unweighted.model.state_dict().values(), strict=True)
    )
    assert not all(torch.equal(a, b) for a, b in zip(one, same, strict=True))


@pytest.mark.parametrize("negative_rate", [1.0, 0.5])
def test_inverse_propensities_undo_what_a_log_left_out(tmp_path, negative_rate):
    """A tenth of the rows without a click were logged; a weight of ten restores their share.

    What training leaves out beside that is restored by the logits, as without weights.
    """
    random = np.random.default_rng(5)
    site = random.integers(0, 4, 20_000)
    click = (random.random(len(site)) < 0.3).astype(int)
    seen = random.random(len(site)) < np.where(click == 0, 0.1, 1.0)
    frame = pl.DataFrame(
        {"click": click, "site": [f"s{n}" for n in site], "w": np.where(click == 0, 10.0, 1.0)}
    ).filter(pl.Series(seen))
    dataset = prepared(tmp_path, frame)
    training = me.TrainingConfig(
        max_epochs=10,
        patience=10,
        batch_size=128,
        learning_rate=0.02,
        threads=1,
        negative_rate=negative_rate,
    )

    config = me.RunConfig(model=SMALL, training=training)
    run = me.train(config, dataset=dataset, run=tmp_path / "r")

    assert run.predict_proba(frame).mean() == pytest.approx(0.3, abs=0.02)
    assert run.evaluate("test")["calibration_ratio"] == pytest.approx(1, abs=0.25)


def test_evaluate_counts_by_weight(tmp_path):
    dataset = prepared(tmp_path, rows_of(np.random.default_rng(6).gamma(1, 2, 400)), keep=("site",))
    config = me.RunConfig(model=SMALL, training=BRIEF)
    run = me.train(config, dataset=dataset, run=tmp_path / "run")
    scores = run.score("test")
    exact = scores.weights.astype(np.float64)

    found = run.evaluate("test", group="site")

    assert found["auc"] == pytest.approx(
        roc_auc_score(scores.labels, scores.probabilities, sample_weight=exact), rel=1e-12
    )
    assert found["mean_probability"] == pytest.approx(
        np.average(scores.probabilities, weights=exact), rel=1e-6
    )
    assert me.calibrate(run).method == "isotonic"
    best = max(record["auc"] for record in run.records)
    assert best == pytest.approx(run.evaluate("valid")["auc"], rel=1e-12)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("-1", "w must be a number of at least 0, got '-1'"),
        ("much", "w must be a number of at least 0, got 'much'"),
        ("", "w must be a number of at least 0, got nothing"),
        ("inf", "w must be a number of at least 0, got 'inf'"),
        ("1e300", "w must be a number of at least 0, got '1e300'"),
    ],
)
def test_a_weight_that_is_none_names_file_and_line(tmp_path, call, wrong, said):
    rows = ["click,site,w", *(f"{n % 2},a,1.5" for n in range(40))]
    rows[17] = f"1,a,{wrong}"
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n")

    code, _, err = call(
        "prepare", tmp_path / "rows.csv", tmp_path / "ds", "--label", "click", "--weight", "w"
    )

    assert code == 2
    assert f"rows.csv line 18: {said}" in err.replace("\n", " ")
    assert not (tmp_path / "ds").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--weight", "price"], "weight must be a column of "),
        (["--weight", "click"], "weight must be a column of its own, got 'click', the label"),
        (
            ["--weight", "w", "--numeric", "w"],
            "must be a column of its own, got 'w', a field",
        ),
    ],
)
def test_a_column_of_weights_is_there_and_nothing_else(tmp_path, call, more, said):
    rows_of(np.ones(40)).write_csv(tmp_path / "rows.csv")

    code, _, err = call(
        "prepare", tmp_path / "rows.csv", tmp_path / "ds", "--label", "click", *more
    )

    assert code == 2
    assert said in err.replace("\n", " ")


def test_rows_of_weight_nought_are_left_out_and_no_bad_rows(tmp_path):
    weights = np.where(np.arange(200) % 4 == 0, 0.0, 1.0)
    frame = rows_of(weights).with_columns(
        site=pl.when(pl.col("w") == 0).then(pl.lit("gone")).otherwise("site")
    )

    dataset = prepared(tmp_path, frame, min_count=1)

    assert sum(split.rows for split in dataset.schema.splits.values()) == 150
    assert "gone" not in dataset.vocabulary("site")["value"].to_list()
    assert dataset.schema.bad_rows.count == 0


def test_the_classifier_takes_scikit_learns_weights():
    frame = rows_of(np.ones(200)).to_pandas()
    training = {"max_epochs": 2, "batch_size": 16, "threads": 1}
    made = [
        me.ClickClassifier("dnn", dim=2, options={"hidden": [4]}, training=training)
        for _ in range(3)
    ]
    kept = np.arange(200) % 5 != 0
    X, y = frame[["site"]], frame["click"]

    left_out = made[0].fit(X, y, sample_weight=kept.astype(float)).predict_proba(X)
    absent = made[1].fit(X[kept], y[kept], sample_weight=np.full(160, 7)).predict_proba(X)

    np.testing.assert_array_equal(left_out, absent)
    weights = np.linspace(0, 1, 200)
    right = made[0].predict(X) == y.to_numpy()
    assert made[0].score(X, y, weights) == pytest.approx(np.average(right, weights=weights), 1e-6)
    with pytest.raises(DataError, match=r"sample_weight must be at least 0, got -1\.0 in row 3"):
        made[2].fit(X, y, sample_weight=np.where(np.arange(200) == 3, -1, 1))
    with pytest.raises(DataError, match="y must have at least 2 rows of each"):
        made[2].fit(X, y, sample_weight=y.to_numpy())
