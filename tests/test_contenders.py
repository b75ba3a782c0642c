"""Every contender against its library, called the way that library's users call it."""

import catboost
import lightgbm
import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import OneHotEncoder

import multiembed as me
from multiembed.base.errors import DataError
from multiembed.experiments.compare.contender_columns import Columns
from multiembed.experiments.compare.contenders import CONTENDERS, Task
from multiembed.experiments.compare.linear import PENALTIES

ROWS, SEED = 1500, 3
SPLITS = {"train": slice(0, 1000), "valid": slice(1000, 1250), "test": slice(1250, 1500)}


@pytest.fixture(scope="module")
def columns(tmp_path_factory):
    """Rows with weights, a number with gaps, and two categories."""
    drawn = np.random.default_rng(0)
    site, user = drawn.integers(0, 6, ROWS), drawn.integers(0, 40, ROWS)
    price = drawn.normal(size=ROWS)
    logit = site - 3 + 2 * np.sin(2 * price) + drawn.normal(size=40)[user]
    rows = pl.DataFrame(
        {
            "click": (drawn.random(ROWS) < 1 / (1 + np.exp(-logit))).astype(int),
            "site": [f"s{of}" for of in site],
            "user": [f"u{of}" for of in user],
            "price": [None if of > 1.5 else of for of in price],
            "weight": drawn.integers(1, 5, ROWS),
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("contenders"))
        for name, of in SPLITS.items():
            rows[of].write_csv(f"{name}.csv")
        options = me.PrepareOptions(
            format="table", label="click", weight="weight", numeric_embedding={"*": "linear"}
        )
        me.prepare({name: [f"{name}.csv"] for name in SPLITS}, "encoded", options)
        yield Columns(me.open_dataset("encoded"))


def fitted(name, columns, told=None):
    told = [] if told is None else told
    return CONTENDERS[name].fit(Task(columns, SEED, 1, lambda *said: told.append(said)))


def frame(rows):
    """As users of scikit-learn hold such rows."""
    return pd.DataFrame({"price": rows.numbers[:, 0]}).assign(
        site=pd.Categorical(rows.categories[:, 0], categories=range(7)),
        user=pd.Categorical(rows.categories[:, 1], categories=range(41)),
    )


def test_the_base_rate_is_the_weighted_share_of_positives(columns):
    found = fitted("base_rate", columns)
    rows = pl.read_csv(columns.dataset.path.parent / "train.csv")
    share = (rows["click"] * rows["weight"]).sum() / rows["weight"].sum()

    assert found.test == pytest.approx(np.full(250, share))
    assert len(found.valid) == 250


def test_logistic_regression_is_scikit_learns_with_the_penalty_that_validates_best(columns):
    train, valid, test = columns.train, columns.valid, columns.test

    def features(rows, split):  # the ids of all three fields, and the number on its scale
        ids = columns.dataset.split(split).ids
        return np.concatenate([ids, np.nan_to_num(rows.numbers)], axis=1)

    def predicted(penalty, rows, split):
        encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        model = LogisticRegression(C=penalty, max_iter=5000, tol=1e-6)
        hot = encoder.fit_transform(features(train, "train")[:, :3])
        hot = np.concatenate([hot, features(train, "train")[:, 3:]], axis=1)
        model.fit(hot, train.labels, sample_weight=train.weights)
        of = features(rows, split)
        of = np.concatenate([encoder.transform(of[:, :3]), of[:, 3:]], axis=1)
        return model.predict_proba(of)[:, 1]

    found = fitted("logistic_regression", columns)
    losses = [
        log_loss(valid.labels, predicted(of, valid, "valid"), sample_weight=valid.weights)
        for of in PENALTIES
    ]

    assert found.chosen == {"C": PENALTIES[int(np.argmin(losses))]}
    assert found.valid == pytest.approx(predicted(found.chosen["C"], valid, "valid"), abs=2e-3)
    assert found.test == pytest.approx(predicted(found.chosen["C"], test, "test"), abs=2e-3)


def test_lightgbm_is_its_classifier_with_early_stopping(columns):
    told = []
    found = fitted("lightgbm", columns, told)
    train, valid, test = columns.train, columns.valid, columns.test
    model = lightgbm.LGBMClassifier(
        n_estimators=5000, learning_rate=0.05, n_jobs=1, random_state=SEED, verbosity=-1
    )
    model.fit(
        frame(train),
        train.labels,
        sample_weight=train.weights,
        eval_X=(frame(valid),),
        eval_y=(valid.labels,),
        eval_sample_weight=[valid.weights],
        callbacks=[lightgbm.early_stopping(100, verbose=False)],
    )

    assert found.chosen == {"rounds": model.best_iteration_}
    assert found.test == pytest.approx(model.predict_proba(frame(test))[:, 1], abs=1e-6)
    assert found.valid == pytest.approx(model.predict_proba(frame(valid))[:, 1], abs=1e-6)
    assert told[-1][:2] == (model.best_iteration_ + 100, 5000)


def test_catboost_is_its_classifier_with_early_stopping(columns):
    told = []
    found = fitted("catboost", columns, told)
    train, valid, test = columns.train, columns.valid, columns.test

    def pool(rows):  # categories as text, as they often come
        texts = frame(rows).astype({"site": str, "user": str})
        return catboost.Pool(texts, rows.labels, ["site", "user"], weight=rows.weights)

    model = catboost.CatBoostClassifier(
        iterations=5000,
        learning_rate=0.05,
        random_seed=SEED,
        thread_count=1,
        od_type="Iter",
        od_wait=100,
        allow_writing_files=False,
        verbose=False,
    )
    model.fit(pool(train), eval_set=pool(valid))

    assert found.chosen == {"rounds": model.tree_count_}
    assert found.test == pytest.approx(model.predict_proba(pool(test))[:, 1], abs=1e-6)
    assert told[-1][:2] == (model.tree_count_ + 100, 5000)


def test_what_a_library_cannot_fit_is_one_line_that_names_it(columns, monkeypatch):
    def refuse(*_, **__):
        raise lightgbm.basic.LightGBMError("no\nroom")

    monkeypatch.setattr(lightgbm, "train", refuse)

    with pytest.raises(DataError, match=r"^LightGBM must be able to fit these rows, got: no room$"):
        fitted("lightgbm", columns)


def test_trees_take_what_is_missing_and_ids_beyond_float32(columns, monkeypatch):
    """No value at all is NaN to LightGBM; ids above 2^24 are told apart."""
    from multiembed.experiments.compare import trees

    rows = columns.test._replace(
        numbers=np.zeros((3, 1), np.float32),
        categories=np.array([[-1], [2**24], [2**24 + 1]], np.int32),
    )

    found = trees.tree_matrix(rows)
    assert np.isnan(found[0, 1])
    assert found[1:, 1].tolist() == [2**24, 2**24 + 1]
