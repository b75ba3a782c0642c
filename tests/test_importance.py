"""What each field does for a model: beside scikit-learn, with intervals that hold."""

import json
import re

import numpy as np
import polars as pl
import pytest
import torch
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.inspection import permutation_importance
from sklearn.metrics import log_loss, roc_auc_score

import multiembed as me
from multiembed.data.store.shards import Batch
from multiembed.diagnosis.importance_page import importance_page
from multiembed.runs.importance import columns_of, permuted

ROWS = 1_200


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Every kind of field: ids, cells of several values, a history, a number, weights.

    Clicks follow the item, the number and, where the item was clicked before, the history.
    """
    folder = tmp_path_factory.mktemp("kinds")
    random = np.random.default_rng(0)
    item = random.integers(0, 6, ROWS)
    price = random.normal(size=ROWS)
    tags = [list(random.choice(list("xyz"), random.integers(1, 4))) for _ in range(ROWS)]
    before = [list(random.integers(0, 6, random.integers(0, 5))) for _ in range(ROWS)]
    again = np.array([i in past for i, past in zip(item, before, strict=True)])
    level = item - 2.5 + 1.5 * price + again
    rows = pl.DataFrame(
        {
            "click": (random.random(ROWS) < expit(level)).astype(int),
            "item": [f"i{i}" for i in item],
            "price": price,
            "tags": ["|".join(of) for of in tags],
            "clicked": [" ".join(f"i{i}" for i in of) for of in before],
            "weight": random.uniform(0.5, 2, ROWS),
        }
    )
    rows.write_csv(folder / "rows.csv")
    options = me.PrepareOptions(
        format="table",
        label="click",
        weight="weight",
        multivalued={"tags": "|", "clicked": " "},
        sequences={"clicked": "item"},
        numeric_embedding="plr",
    )
    me.prepare(folder / "rows.csv", folder / "encoded", options)
    model = me.ModelConfig(architecture="dnn", dim=4, options={"hidden": [16]})
    training = me.TrainingConfig(max_epochs=8, batch_size=64, learning_rate=0.01, threads=1)
    config = me.RunConfig(model=model, training=training)
    return me.train(config, dataset=folder / "encoded", run=folder / "run")


class Wrapped(ClassifierMixin, BaseEstimator):
    """The run as scikit-learn sees a model: a column per field, the place of a row's cell."""

    def __init__(self, run, rows):
        self.run, self.rows, self.classes_ = run, rows, np.array([0, 1])

    def fit(self, *_):
        return self

    def predict_proba(self, cells):
        ids, numbers = np.empty_like(self.rows.ids), np.empty_like(self.rows.numbers)
        for cell, (columns, number) in zip(cells.T, columns_of(self.run.schema), strict=True):
            ids[:, columns] = self.rows.ids[cell, columns]
            if number is not None:
                numbers[:, number] = self.rows.numbers[cell, number]
        found = self.run.predict(ids, numbers).astype(float)
        return np.stack([1 - found, found], 1)


def test_means_are_those_of_scikit_learn_within_its_noise(run):
    rows = run.dataset().split("valid").take(np.arange(120))
    names = [field.name for field in run.schema.fields]
    cells = np.tile(np.arange(120)[:, None], (1, len(names)))
    theirs = permutation_importance(
        Wrapped(run, rows),
        cells,
        rows.labels,
        scoring=["roc_auc", "neg_log_loss"],
        n_repeats=40,
        sample_weight=rows.weights,
        random_state=1,
    )

    found = me.importance(run, "valid", repeats=40)

    assert found.rows == found.of_rows == 120
    assert names == ["item", "price", "tags", "clicked"]
    for of in found.fields:
        at = names.index(of.field)
        for ours, name in ((of.auc, "roc_auc"), (of.log_loss, "neg_log_loss")):
            drops = theirs[name]["importances"][at]
            error = drops.std(ddof=1) * np.sqrt(2 / 40)
            assert ours.value == pytest.approx(drops.mean(), abs=4 * error + 1e-6)
    values = [of.auc.value for of in found.fields]
    assert values == sorted(values, reverse=True)
    assert {of.field for of in found.fields[:2]} == {"item", "price"}


def test_each_permutation_is_scored_as_scikit_learn_scores_it(run):
    """The same permutations, cell by cell, through raw arrays; a history moves with its padding."""
    rows = run.dataset().split("valid").take(np.arange(120))
    permutations = [np.random.default_rng(s).permutation(120) for s in range(3)]
    fields = columns_of(run.schema)

    def predict(batch):
        return run.predict(batch.ids, batch.numbers)

    found = permuted(predict, rows, fields, permutations)

    base = predict(rows).astype(float)
    weights = rows.weights
    assert found.base[0] == pytest.approx(roc_auc_score(rows.labels, base, sample_weight=weights))
    assert [number for _, number in fields] == [None, 0, None, None]
    assert fields[3][0].stop - fields[3][0].start == run.schema.fields[3].slots > 1
    for (columns, number), (fall, rise) in zip(fields, found.fields, strict=True):
        falls, rises = [], []
        for order in permutations:
            ids, numbers = rows.ids.copy(), rows.numbers.copy()
            ids[:, columns] = ids[order][:, columns]
            if number is not None:
                numbers[:, number] = numbers[order, number]
            p = run.predict(ids, numbers).astype(float)
            falls.append(
                roc_auc_score(rows.labels, base, sample_weight=weights)
                - roc_auc_score(rows.labels, p, sample_weight=weights)
            )
            rises.append(
                log_loss(rows.labels, p, sample_weight=weights)
                - log_loss(rows.labels, base, sample_weight=weights)
            )
        assert fall.value == pytest.approx(np.mean(falls), abs=1e-9)
        assert rise.value == pytest.approx(np.mean(rises), abs=1e-6)


def test_a_field_that_the_model_cannot_use_is_exactly_zero(run):
    """Its rows of the table are all alike, so it tells no row from another."""
    blind = me.load_run(run.path)
    with torch.no_grad():
        blind.model.embedding.weight[-run.schema.cardinalities[2] :] = 0

    found = {of.field: of for of in me.importance(blind, repeats=2).fields}

    assert found["tags"].auc == found["tags"].log_loss == (0, 0, 0)
    assert str(found["tags"].auc.value) == "0.0"
    assert found["item"].auc.low > 0


def planted(rows, random):
    """Clicks by two fields of a known model, and a third that it reads and clicks do not."""
    ids = random.integers(0, 5, (rows, 3)).astype(np.int32)
    level = logit(model(Batch(ids, ids[:, 0])).astype(float)) - 0.2 * (ids[:, 2] - 2)
    labels = (random.random(rows) < expit(level)).astype(np.uint8)
    weights = random.uniform(0.3, 2, rows).astype(np.float32)
    return Batch(ids, labels, weights)


def model(batch):
    ids = batch.ids
    first = np.array([-1.5, -1, 0, 1, 1.5])[ids[:, 0]]
    second = np.array([-0.6, 0.2, 0, 0.3, 0.5])[ids[:, 1]]
    level = first + second + first * second - 1 + 0.2 * (ids[:, 2] - 2)
    return expit(level).astype(np.float32)


def exact():
    """The importances of `model`, by all combinations of ids and both labels: no draw."""
    grid = np.stack(np.meshgrid(*[np.arange(5)] * 3, indexing="ij"), -1).reshape(-1, 3)
    base = model(Batch(grid.astype(np.int32), grid[:, 0]))
    chance = expit(logit(base.astype(float)) - 0.2 * (grid[:, 2] - 2))
    labels, mass = np.repeat([0, 1], 125), np.concatenate([1 - chance, chance])

    def measured(field):
        parts = []
        for value in range(5):
            ids = grid.astype(np.int32)
            if field is not None:
                ids[:, field] = value
            parts.append(np.tile(model(Batch(ids, ids[:, 0])), 2).astype(float))
        p, given = np.concatenate(parts), {"sample_weight": np.tile(mass, 5)}
        y = np.tile(labels, 5)
        return np.array([roc_auc_score(y, p, **given), log_loss(y, p, **given)])

    return [(measured(None) - measured(field)) * (1, -1) for field in range(3)]


def test_intervals_hold_the_exact_importances_of_a_known_model():
    """Of 150 draws of 800 weighted rows, 95% within what so many draws can tell."""
    true, fields = exact(), [(slice(at, at + 1), None) for at in range(3)]
    inside = np.zeros((3, 2))
    for seed in range(150):
        random = np.random.default_rng(seed)
        rows = planted(800, random)
        permutations = [random.permutation(800) for _ in range(3)]
        for at, estimates in enumerate(permuted(model, rows, fields, permutations).fields):
            for measure, of in enumerate(estimates):
                inside[at, measure] += of.low <= true[at][measure] <= of.high

    assert true[0][0] > true[1][0] > 0 > true[2][1] - 0.05
    assert (inside / 150 >= 0.89).all() and (inside / 150 <= 0.995).all(), inside / 150


def test_few_rows_are_drawn_and_draws_repeat(run):
    first, again, other = (me.importance(run, repeats=2, max_rows=70, seed=s) for s in (1, 1, 2))

    assert first == again != other
    assert (first.rows, first.of_rows) == (70, 120)


def test_a_calibrated_run_is_measured_as_it_predicts(run, tmp_path):
    calibration = me.calibrate(run, "platt")
    scores = run.score("test")
    weights, mended = scores.weights, calibration.apply(scores.probabilities).astype(float)
    try:
        found = me.importance(run, repeats=2, calibrated=True)
        plain = me.importance(run, repeats=2)
    finally:
        run.directory.calibration.unlink()

    expected = log_loss(scores.labels, mended, sample_weight=weights)
    assert found.log_loss == pytest.approx(expected, rel=1e-6)
    assert plain.log_loss == pytest.approx(run.evaluate("test")["log_loss"], rel=1e-9)
    assert [of.auc for of in found.fields] == [of.auc for of in plain.fields]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"repeats": 1}, "repeats must be at least 2, got 1"),
        ({"max_rows": 1}, "max_rows must be at least 2, got 1"),
        ({"split": "tests"}, "split must be one of train, valid, test, got 'tests'"),
    ],
)
def test_a_mistake_is_one_line(run, wrong, message):
    with pytest.raises(me.InputError, match=message):
        me.importance(run, **wrong)


def test_the_command_shows_it_on_80_columns_in_json_and_on_a_page(run, tmp_path, call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    asked = ("evaluate", run.path, "--importance", "--repeats", "2", "--seed", "3")
    expected = me.importance(run, repeats=2, seed=3)

    code, said, _ = call(*asked, "--page", tmp_path / "page.html")
    assert code == 0
    table = said.partition("importance: ")[2].splitlines()
    assert max(map(len, table)) <= 80
    shown = [line.split()[0] for line in table[-4:]]
    assert shown == [of.field for of in expected.fields]
    best = expected.fields[0].auc
    assert f"{'█' * 12}  {best.value:.5f} ± {best.high - best.value:.5f}" in said

    code, said, _ = call(*asked, "--json", "-")
    assert json.loads(said)["importance"] == json.loads(json.dumps(expected.to_json()))

    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page == importance_page(str(run.path), expected)
    widths = [float(of) for of in re.findall(r'width="([\d.]+)%"', page)]
    assert len(widths) == 2 * len(expected.fields)


def test_commands_refuse_what_goes_together_badly(run, tmp_path, call):
    both = ("--importance", "--by", "item")
    for given, got in (((), "none"), (both, "both")):
        code, _, said = call("evaluate", run.path, *given, "--page", tmp_path / "page.html")
        assert code == 2
        assert f"page must stand with by or with importance, got {got}" in said
    code, _, said = call("evaluate", run.path, "--importance", "--repeats", "0")
    assert code == 2
    assert "repeats must be at least 2, got 0" in said
    assert not (tmp_path / "page.html").exists()


def test_a_page_names_fields_as_they_are(run):
    found = me.importance(run, repeats=2)
    odd = found._replace(fields=(found.fields[0]._replace(field="<b>&"),))

    page = importance_page("a<b", odd)

    assert "<td>&lt;b&gt;&amp;</td>" in page and "a&lt;b" in page and "<script" not in page
