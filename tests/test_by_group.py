"""Quality day by day, and how far each day's values are from those of training."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import chi2
from sklearn.metrics import log_loss, roc_auc_score

import multiembed as me
from multiembed.base.errors import DataError
from multiembed.runs.by_group import FREQUENT, sorted_names

DAYS = ("2026-11-28", "2026-11-29", "2026-11-30")
ROWS = 300


def rows(seed, day, sites):
    drawn = np.random.default_rng(seed)
    click = drawn.integers(0, 2, ROWS)
    tags = [["x", "y"] if of else ["z"] for of in drawn.integers(0, 2, ROWS)]
    site = drawn.choice(sites, ROWS)
    n = drawn.normal(size=ROWS)
    return pl.DataFrame(
        {"click": click, "day": day, "site": site, "tags": ["|".join(of) for of in tags], "n": n}
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run, and test rows of three days: the last one has sites of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("days"))
        usual = ["a"] * 6 + ["b"] * 3 + ["c"]
        rows(0, "2026-11-27", [*usual, *"defghijklmnopqrstuvwxyz"]).write_csv("train.csv")
        rows(1, "2026-11-27", usual).write_csv("valid.csv")
        days = [rows(2, DAYS[1], usual), rows(3, DAYS[2], ["a", "new1", "new2", "c"])]
        last = rows(4, DAYS[0], usual).with_columns(click=pl.lit(1, pl.Int64))
        pl.concat([*days, last]).write_csv("test.csv")
        options = me.PrepareOptions(
            format="table",
            label="click",
            keep=("day",),
            drop=("day",),
            min_count=2,
            multivalued={"tags": "|"},
        )
        source = {name: [f"{name}.csv"] for name in ("train", "valid", "test")}
        me.prepare(source, "encoded", options)
        model = me.ModelConfig(architecture="dnn", dim=2, options={"hidden": [4]})
        training = me.TrainingConfig(max_epochs=1, threads=1)
        yield me.train(me.RunConfig(model=model, training=training), dataset="encoded", run="run")


def test_every_day_is_measured_as_others_measure_it(run):
    found = run.evaluate_by("day")
    assert [of.value for of in found] == list(DAYS)
    test, scores = pl.read_csv("test.csv"), run.score("test")
    for of in found:
        here = (test["day"] == of.value).to_numpy()
        labels, probabilities = scores.labels[here], scores.probabilities[here].astype(float)
        measures = of.measures
        assert measures["rows"] == here.sum() == ROWS
        assert measures["observed"] == pytest.approx(labels.mean())
        assert measures["mean_probability"] == pytest.approx(probabilities.mean())
        assert measures["log_loss"] == pytest.approx(log_loss(labels, probabilities, labels=[0, 1]))
        if labels.min() == 1:
            assert measures["auc"] is None
            continue
        assert measures["auc"] == pytest.approx(roc_auc_score(labels, probabilities))
        ratio = probabilities.sum() / labels.sum()
        assert measures["calibration_ratio"] == pytest.approx(ratio)


def test_shares_of_other_and_of_unseen_values_are_counted(run):
    train, test = pl.read_csv("train.csv"), pl.read_csv("test.csv")
    counts = dict(train["site"].value_counts().iter_rows())
    by_day = {of.value: of.fields for of in run.evaluate_by("day")}
    for day in DAYS:
        sites = test.filter(pl.col("day") == day)["site"].to_list()
        other = np.mean([counts.get(site, 0) < 2 for site in sites])
        assert by_day[day]["site"].other == pytest.approx(other)
        # Rare values trained the row of *other*, so that none of these ids is new.
        rare = any(count < 2 for count in counts.values())
        assert by_day[day]["site"].unseen == pytest.approx(0 if rare else other)
    assert by_day[DAYS[2]]["site"].other > 0.4
    assert by_day[DAYS[2]]["site"].drifted and not by_day[DAYS[1]]["tags"].drifted


def test_the_stability_index_is_its_sum_and_chance_is_chi_squared(run):
    train, test = pl.read_csv("train.csv"), pl.read_csv("test.csv")
    found = {of.value: of.fields for of in run.evaluate_by("day")}[DAYS[2]]["tags"]
    now = test.filter(pl.col("day") == DAYS[2])
    sizes = []
    for frame in (train, now):  # three values: x, y and z, of several a row
        of_tags = frame["tags"].str.split("|").explode().value_counts().sort("tags")
        assert of_tags["tags"].to_list() == ["x", "y", "z"]
        sizes.append(of_tags["count"].to_numpy())
    q, p = ((of + 0.5) / (of + 0.5).sum() for of in sizes)
    assert found.stability == pytest.approx(((p - q) * np.log(p / q)).sum())
    spread = 1 / sizes[0].sum() + 1 / sizes[1].sum()
    assert found.by_chance == pytest.approx(chi2.ppf(0.999, 2) * spread)
    assert found.unseen == found.other == 0


def test_chance_is_exceeded_as_rarely_as_it_says():
    """Draws of the same shares: about one in a thousand indices is above `by_chance`."""
    from multiembed.runs.by_group import _compared

    drawn = np.random.default_rng(0)
    shares = drawn.dirichlet(np.full(FREQUENT + 2, 5.0))
    draws = 4000
    above = 0
    for _ in range(draws // 100):
        counts = drawn.multinomial(20_000, shares)
        now = drawn.multinomial(2_000, shares, size=100)
        kinds = np.arange(FREQUENT + 2)
        found = _compared(now, np.zeros(100, np.int64), kinds, counts)
        above += sum(of.stability > of.by_chance for of in found)
    assert above <= 16  # 4 expected; more than 16 would come once in a million times


def test_a_field_says_the_day_as_well_and_numbers_are_put_in_order(run):
    assert sorted_names(pl.Series(["10", "9", "-1"])) == ["-1", "9", "10"]
    assert sorted_names(pl.Series(["10", "9", "x"])) == ["10", "9", "x"]
    found = run.evaluate_by("site")
    assert sum(of.measures["rows"] for of in found) < 3 * ROWS  # *other* is in no group
    assert {of.value for of in found} == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("tags", "must be a field of one value per row, got 'tags'"),
        ("n", "must be a field whose values have ids of their own, got 'n'"),
        ("hour", "must be one of the fields and kept columns site, tags, n, day, got 'hour'"),
    ],
)
def test_columns_that_tell_no_groups_are_refused(run, column, message):
    with pytest.raises(DataError, match=message):
        run.evaluate_by(column)


def test_other_rows_are_measured_by_the_command_line(run, call):
    rows(7, DAYS[0], ["a", "b"]).write_csv("more.csv")
    me.prepare("more.csv", "more", me.PrepareOptions(like="run"))
    code, said, _ = call("evaluate", "run", "--by", "day", "--on", "more", "--json", "-")
    assert code == 0
    (day,) = json.loads(said)["by"]
    assert (day["value"], day["rows"]) == (DAYS[0], ROWS / 10)
    assert set(day["fields"]["site"]) == {"other", "unseen", "stability", "by_chance"}
    code, said, _ = call("evaluate", "run", "--by", "day", "--page", "days.html")
    assert code == 0 and "by day" in said and "stability" in said
    page = Path("days.html").read_text(encoding="utf-8")
    assert page.count("<svg") >= 5 and "<script" not in page
    assert all(day in page for day in DAYS) and "undefined" in page
    code, _, error = call("evaluate", "run", "--page", "days.html")
    assert code == 2 and "page must stand with by" in error
    me.prepare("more.csv", "stranger", me.PrepareOptions(format="table", label="click"))
    code, _, error = call("evaluate", "run", "--by", "day", "--on", "stranger")
    assert code == 2 and error.count("\n") == 1 and "must have the fields of the run" in error
    assert Path("run").is_dir()
