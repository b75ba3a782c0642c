"""The classifier in the manner of scikit-learn, by scikit-learn's own checks and on raw tables."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import RobustScaler

import multiembed as me
from multiembed.base.errors import ConfigError, DataError

EXPECTED_FAILURES = {
    "check_supervised_y_2d": (
        "labels in one column are taken as they are; the warning asked for is a class of "
        "scikit-learn, which is not needed to run"
    ),
    "check_array_api_input": "runs only where SCIPY_ARRAY_API is set",
    "check_sample_weight_equivalence_on_dense_data": (
        "batches of rows that are there several times are other batches, and other rows are held "
        "back; a weight of 0 is as good as no row, as test_weights.py shows"
    ),
}


def small(**training):
    training = {"max_epochs": 12, "batch_size": 16, "learning_rate": 0.02, "threads": 1} | training
    options = {"hidden": [16], "dropout": 0.0, "batch_norm": False}
    return me.ClickClassifier("dnn", dim=4, options=options, training={"patience": 12} | training)


def clicks(rows=4000):
    random = np.random.default_rng(0)
    city = random.choice(["Zürich", "Lima", "Oslo"], rows).astype(object)
    city[random.random(rows) < 0.1] = None
    price = random.gamma(2, 10, rows)
    logit = (city == "Lima") * 2.0 + price / 10 - 3
    label = np.where(random.random(rows) < 1 / (1 + np.exp(-logit)), "yes", "no")
    return pd.DataFrame({"city": city, "price": price}), label, logit


def test_it_passes_the_checks_of_scikit_learn():
    """In a process of its own: a check makes an estimator with arguments of any type."""
    brief = small(max_epochs=4, learning_rate=0.05)
    script = f"""
import json, sys
import multiembed as me
from sklearn.utils.estimator_checks import check_estimator
estimator = eval({repr(brief)!r}, {{"ClickClassifier": me.ClickClassifier}})
expected = {EXPECTED_FAILURES}
results = check_estimator(estimator, expected_failed_checks=expected, on_fail=None, on_skip=None)
print(json.dumps([[r["status"], r["check_name"], str(r["exception"])] for r in results]))
"""
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    results = json.loads(done.stdout)
    assert [result for result in results if result[0] in ("failed", "xpass")] == []
    assert sum(status == "passed" for status, _, _ in results) > 45


def test_it_learns_from_raw_tables_of_every_kind():
    X, y, logit = clicks()
    model = small(batch_size=256, max_epochs=8).fit(X[:3000], y[:3000])

    probabilities = model.predict_proba(X[3000:])

    best = roc_auc_score(y[3000:] == "yes", logit[3000:])
    assert list(model.classes_) == ["no", "yes"]
    assert roc_auc_score(y[3000:] == "yes", probabilities[:, 1]) > best - 0.03
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert set(model.predict(X[3000:])) <= {"no", "yes"}
    for same in (pl.DataFrame(X), X.to_numpy(), X.to_numpy().tolist()):
        again = clone(model).fit(same[:3000], y[:3000])
        np.testing.assert_array_equal(again.predict_proba(same[3000:]), probabilities)


def test_values_that_fit_did_not_see_are_no_error():
    X, y, _ = clicks(500)
    model = small().fit(X, y)
    new = pd.DataFrame({"city": ["Atlantis", None], "price": [np.nan, 1e9]})

    assert model.predict_proba(new).shape == (2, 2)


def test_a_column_of_moments_may_come_without_names():
    when = pd.date_range("2024-01-31 05:36", periods=300, freq="7h")
    site = np.arange(300) % 5
    clicked = (when.hour > 12).astype(int)
    named = pd.DataFrame({"seen": when, "site": site})
    nameless = [[str(moment), int(one)] for moment, one in zip(when, site, strict=True)]

    of_named = small(max_epochs=3).fit(named, clicked)
    of_nameless = small(max_epochs=3).fit(nameless, clicked)

    found = of_nameless.predict_proba(nameless)
    np.testing.assert_array_equal(found, of_named.predict_proba(named))
    assert of_nameless.n_features_in_ == 2


def test_it_survives_pickling_and_grid_search():
    X, y, _ = clicks(600)
    search = GridSearchCV(small(max_epochs=2), {"dim": [2, 3]}, scoring="roc_auc", cv=2)

    search.fit(X, y)

    again = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(again.predict_proba(X), search.predict_proba(X))
    assert "dim=" in repr(again)


def test_it_works_in_pipelines_and_cross_validation():
    X, y, _ = clicks(900)
    prices = ColumnTransformer([("price", RobustScaler(), ["price"])], remainder="passthrough")
    steps = [("scale", prices), ("clicks", small(batch_size=256, max_epochs=8))]

    scores = cross_val_score(Pipeline(steps), X, y, scoring="roc_auc", cv=3)

    assert len(scores) == 3
    assert scores.min() > 0.65


def test_it_needs_no_scikit_learn():
    script = """
import sys
sys.modules["sklearn"] = None
import multiembed as me
model = me.ClickClassifier("dnn", options={"hidden": [4]}, training={"max_epochs": 1, "threads": 1})
try:
    model.predict([["a"]])
except ValueError as error:
    assert "must be fitted first" in str(error)
model.fit([["a"], ["b"]] * 10, [0, 1] * 10)
assert model.predict_proba([["a"], ["c"]]).shape == (2, 2)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_mistakes_are_said_before_training():
    X, y, _ = clicks(50)

    with pytest.raises(NotFittedError):
        small().predict(X)
    with pytest.raises(ConfigError, match="did you mean 'dcnv2'"):
        me.ClickClassifier("dcnv3").fit(X, y)
    with pytest.raises(ConfigError, match=r"training\..*learning_rate"):
        small(lerning_rate=1).fit(X, y)
    with pytest.raises(ConfigError, match="numeric_rule must be"):
        small().set_params(numeric_rule="deciles").fit(X, y)
    with pytest.raises(ConfigError, match="parameter must be one of architecture, dim"):
        small().set_params(depth=3)
    with pytest.raises(DataError, match=r"at least 2 rows of each of two classes, got 1 of 'a'"):
        small().fit(X[:3], ["a", "b", "b"])
    with pytest.raises(DataError, match="as many labels as there are rows, 50, got 2"):
        small().fit(X, [0, 1])
    with pytest.raises(DataError, match="feature names should match"):
        small().fit(X, y).predict(X.rename(columns={"city": "town"}))
