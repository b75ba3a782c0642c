"""What is counted of rows, and where a difference lies, against pandas and NumPy."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import stats

import multiembed as me
from multiembed.experiments.compare.contender_columns import Columns
from multiembed.experiments.compare.row_facts import rare_rows, row_facts

ROWS = 900
SPLITS = {"train": slice(0, 500), "valid": slice(500, 600), "test": slice(600, 900)}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Raw rows and their dataset; users that have one row of training are *other*."""
    drawn = np.random.default_rng(0)
    user = np.minimum(drawn.geometric(0.03, ROWS), 90)
    rows = pl.DataFrame(
        {
            "click": drawn.integers(0, 2, ROWS),
            "user": [f"u{of}" for of in user],
            "site": [f"s{of}" for of in drawn.integers(0, 5, ROWS)],
            "price": drawn.normal(size=ROWS),
            "age": drawn.normal(size=ROWS),
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("facts"))
        for name, of in SPLITS.items():
            rows[of].write_csv(f"{name}.csv")
        options = me.PrepareOptions(
            format="table", label="click", min_count=2, numeric_embedding={"age": "plr"}
        )
        me.prepare({name: [f"{name}.csv"] for name in SPLITS}, "encoded", options)
        yield rows.to_pandas(), me.open_dataset("encoded")


def kept_counts(rows):
    """Training rows of every user and site that training has twice."""
    train = rows[SPLITS["train"]]
    counts = {name: train[name].value_counts() for name in ("user", "site")}
    return {name: of[of >= 2] for name, of in counts.items()}


def test_facts_are_pandas_counts(prepared):
    rows, dataset = prepared
    counts = kept_counts(rows)
    found = row_facts(dataset, Columns(dataset))

    assert (found.rows, found.positives) == (500, rows[SPLITS["train"]]["click"].sum())
    assert found.test_positives == rows[SPLITS["test"]]["click"].sum()
    assert (found.fields, found.numbers, found.kept, found.droppable) == (4, 2, 1, True)
    assert found.ids == sum(map(len, counts.values()))
    assert found.rows_per_id == pd.concat(counts).median()
    assert (found.largest, found.largest_ids) == ("user", len(counts["user"]))
    assert found.largest_rows_per_id == counts["user"].median()


def test_the_difference_in_rows_of_rare_users_is_their_mean(prepared):
    rows, dataset = prepared
    test = rows[SPLITS["test"]]
    drawn = np.random.default_rng(1)
    probabilities = drawn.uniform(0.1, 0.9, (2, 300))
    found = rare_rows(Columns(dataset), [probabilities[0]], [probabilities[1]])
    known = test["user"].map(kept_counts(rows)["user"]).fillna(0).to_numpy()
    of_label = np.where(test["click"] == 1, probabilities, 1 - probabilities)
    differences = np.log(of_label[1]) - np.log(of_label[0])

    assert found is not None
    assert (found.field, found.most) == ("user", int(np.median(known)))
    rare = known <= found.most
    assert found.rows == rare.sum()
    for interval, of in ((found.rare, rare), (found.frequent, ~rare)):
        mean, error = differences[of].mean(), stats.sem(differences[of])
        expected = (mean, *stats.t.interval(0.95, of.sum() - 1, mean, error))
        assert tuple(interval) == pytest.approx(expected, abs=1e-9)


def test_rows_without_categories_are_not_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    drawn = np.random.default_rng(0)
    rows = {"click": drawn.integers(0, 2, 300), "price": drawn.normal(size=300)}
    pl.DataFrame(rows).write_csv("rows.csv")
    me.prepare("rows.csv", "encoded", me.PrepareOptions(format="table", label="click"))
    dataset = me.open_dataset("encoded")
    columns, half = Columns(dataset), np.full(30, 0.5)

    assert rare_rows(columns, [half], [half]) is None
    facts = row_facts(dataset, columns)
    assert (facts.ids, facts.largest, facts.rows_per_id) == (0, "", 0)
    # All contenders take such rows.
    found = me.compare(dataset, "out", only=["base_rate", "logistic_regression", "lightgbm"])
    assert len(found.standings) == 3
