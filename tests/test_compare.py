"""`compare`: what it prints, writes and says, reuses after a kill, and refuses."""

import json
import sys

import numpy as np
import polars as pl
import pytest
from scipy import stats
from sklearn.metrics import log_loss, roc_auc_score

import multiembed as me
from multiembed.base.errors import ConfigError, DataError
from multiembed.base.workplaces import locked
from multiembed.experiments.analysis.paired_rows import auc_difference, log_loss_difference
from multiembed.experiments.compare.contenders import CONTENDERS, Contender, Fitted
from multiembed.runs.directory import LOCK_FILE
from multiembed.runs.recipe import RECIPES

ROWS = 1200
OTHERS = ("base_rate", "logistic_regression", "lightgbm", "catboost")
SMALL = ("training.max_epochs=2", "model.dim=2", "model.options.hidden=[4]", "training.threads=1")
SET = [part for of in SMALL for part in ("--set", of)]


@pytest.fixture(scope="module")
def clicks(tmp_path_factory):
    """An encoded dataset whose label hangs on two numbers, with weights."""
    drawn = np.random.default_rng(0)
    price, age, site = drawn.normal(size=(3, ROWS))
    both = ((price > 0) & (age > 0)) | ((price < -0.5) & (age < -0.5))
    chance = np.where(both, 0.95, 0.05)
    rows = pl.DataFrame(
        {
            "click": (drawn.random(ROWS) < chance).astype(int),
            "price": price,
            "age": age,
            "site": [f"s{100 * abs(of):.0f}" for of in site],
            "counts": drawn.integers(1, 4, ROWS),
        }
    )
    folder = tmp_path_factory.mktemp("clicks")
    rows.write_csv(folder / "rows.csv")
    options = me.PrepareOptions(format="table", label="click", weight="counts")
    me.prepare(folder / "rows.csv", folder / "encoded", options)
    return folder / "encoded"


@pytest.fixture(scope="module")
def found(clicks, tmp_path_factory):
    """All contenders on these rows, and the directory of them."""
    out = tmp_path_factory.mktemp("compared") / "out"
    return me.compare(clicks, out, assignments=SMALL), out


def predictions(out, name):
    (file,) = (out / "contenders").glob(f"{name}-*.npy")
    return np.load(file)


def test_measures_are_scikit_learns(found, clicks):
    comparison, out = found
    test = me.open_dataset(clicks).split("test")
    assert [one.name for one in comparison.standings] == [*OTHERS, *RECIPES]
    for one in comparison.standings:
        scores = predictions(out, one.name)
        weighted = {"sample_weight": test.weights}
        assert one.auc == pytest.approx(roc_auc_score(test.labels, scores, **weighted))
        assert one.log_loss == pytest.approx(log_loss(test.labels, scores, **weighted), abs=1e-6)
        sums = test.weights @ scores, test.weights @ test.labels
        assert one.calibration_ratio == pytest.approx(sums[0] / sums[1], rel=1e-5)
        assert one.seconds > 0


def test_all_are_compared_with_the_best_of_ours_by_validation(found, clicks):
    comparison, out = found
    ours = [one for one in comparison.standings if one.is_ours]
    best = min(ours, key=lambda one: one.valid_log_loss)
    test = me.open_dataset(clicks).split("test")
    (run,) = (out / best.settings["run"]).parent.glob(f"*{best.settings['run'][-10:]}")
    valid = me.load_run(run).evaluate("valid")

    assert comparison.reference == best.name
    assert best.valid_log_loss == pytest.approx(valid["log_loss"], abs=1e-6)
    assert set(comparison.differences) == {*OTHERS, *RECIPES} - {best.name}
    for name, difference in comparison.differences.items():
        pair = predictions(out, name), predictions(out, best.name)
        expected = auc_difference(test.labels, *pair, test.weights)
        assert difference.auc == pytest.approx(tuple(expected), abs=1e-8)
        expected = log_loss_difference(test.labels, *pair, test.weights)
        assert difference.log_loss == pytest.approx(tuple(expected), abs=1e-8)


def test_a_tree_that_wins_is_said_to_and_why(found):
    """The label is where two numbers lie, which trees cut; ours had two epochs and buckets."""
    comparison, _ = found
    said = " ".join(comparison.verdict)

    assert " is ahead of multiembed " in comparison.verdict[0]
    assert comparison.verdict[0].startswith(("LightGBM", "CatBoost"))
    assert "Why we think so: 2 of 3 fields are numbers" in said
    assert "--numeric-embedding plr" in said
    assert "there are 960 training rows" in said


def test_the_command_prints_what_a_terminal_holds_and_reuses_all(found, clicks, call):
    comparison, out = found
    before = {file: file.stat().st_mtime_ns for file in (out / "contenders").iterdir()}

    code, said, heard = call("compare", clicks, out, *SET)

    assert (code, heard) == (0, "")
    assert max(map(len, said.splitlines())) <= 80
    for one in comparison.standings:
        assert f"{one.title:<20}" in said
        assert f"{one.auc:.5f} {one.log_loss:>8.5f}" in said
    assert " ".join(comparison.verdict) in " ".join(said.split())
    assert {file: file.stat().st_mtime_ns for file in (out / "contenders").iterdir()} == before


def test_json_holds_everything(found, clicks, call, tmp_path):
    comparison, out = found
    written = json.loads((out / "results.json").read_text(encoding="utf-8"))
    code, said, _ = call("compare", clicks, out, *SET, "--json", "-")

    assert code == 0
    assert json.loads(said) == written
    assert [one["name"] for one in written["standings"]] == [*OTHERS, *RECIPES]
    assert written["differences"]["lightgbm"]["auc"].keys() == {"difference", "low", "high"}
    assert written["rows"] == {"train": 960, "valid": 120, "test": 120}
    assert written["verdict"] == list(comparison.verdict)
    assert written["standings"][2]["settings"]["patience"] == 100
    assert written["standings"][2]["chosen"][0]["rounds"] >= 1
    call("compare", clicks, out, *SET, "--json", tmp_path / "found.json")
    assert json.loads((tmp_path / "found.json").read_text(encoding="utf-8")) == written


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_shows_all_and_fits(found, open_page, width):
    comparison, out = found
    page = open_page((out / "report.html").read_text(encoding="utf-8"), width=width)

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    text = page.inner_text("body")
    for one in comparison.standings:
        assert one.title in text
    assert comparison.verdict[0] in text
    assert page.locator("svg.plot").count() == 2


def counted(calls, name, probability=0.5):
    """A contender that counts how often it is fitted."""

    def fit(task):
        calls.append((name, task.seed))
        drawn = np.random.default_rng(task.seed)
        valid, test = (
            probability + 0.1 * drawn.random(len(of.labels))
            for of in (task.columns.valid, task.columns.test)
        )
        return Fitted(valid, test, {"drawn": task.seed})

    return Contender(title=f"a {name}", fit=fit, seeded=True)


def test_a_contender_of_ones_own_is_one_entry(clicks, tmp_path, call):
    calls = []
    with CONTENDERS.also("coin", counted(calls, "coin")):
        code, said, _ = call("compare", clicks, tmp_path / "out", "--only", "coin,base_rate")

    assert code == 0
    assert "a coin" in said
    assert calls == [("coin", 0)]
    assert "a coin" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_kill_loses_nothing_that_was_finished(clicks, tmp_path, call):
    calls, out = [], tmp_path / "out"

    def killed(task):
        raise KeyboardInterrupt

    names = ("--only", "coin,dice")
    dice = Contender(title="dice", fit=killed)
    with CONTENDERS.also("coin", counted(calls, "coin")):
        with CONTENDERS.also("dice", dice):
            assert call("compare", clicks, out, *names)[0] == 130
        assert not (out / "results.json").exists()
        with CONTENDERS.also("dice", counted(calls, "dice")):
            assert call("compare", clicks, out, *names)[0] == 0
            assert calls == [("coin", 0), ("dice", 0)]
            # Half a file, or none, is fitted again; what is whole is not.
            (file,) = (out / "contenders").glob("coin-*.npy")
            file.write_bytes(file.read_bytes()[:100])
            assert call("compare", clicks, out, *names)[0] == 0
            assert calls == [("coin", 0), ("dice", 0), ("coin", 0)]


class Killer:
    """Ends a training in its second epoch."""

    def evaluated(self, record):
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    def stepped(self, progress): ...
    def warned(self, message): ...
    def announce(self, name): ...
    def advance(self, stage, done, total, note=""): ...
    def ended(self, title, result): ...


def test_a_killed_training_of_ours_goes_on(clicks, tmp_path):
    """It comes to what one comes to that was not killed; its seconds are those of both calls."""
    asked = {"only": ["multiembed"], "recipes": ["paper"], "assignments": SMALL}
    with pytest.raises(KeyboardInterrupt):
        me.compare(clicks, tmp_path / "out", **asked, observer=Killer())
    found = me.compare(clicks, tmp_path / "out", **asked).standings[0]
    whole = me.compare(clicks, tmp_path / "whole", **asked).standings[0]

    assert (found.auc, found.log_loss) == (whole.auc, whole.log_loss)
    (run,) = (tmp_path / "out" / "runs").iterdir()
    assert found.seconds >= me.load_run(run).records[-1]["seconds"]


def test_several_seeds_are_paired_by_students_t(clicks, tmp_path):
    calls, test = [], me.open_dataset(clicks).split("test")
    with CONTENDERS.also("coin", counted(calls, "coin")):
        found = me.compare(
            clicks,
            tmp_path / "out",
            only=["base_rate", "coin", "multiembed"],
            recipes=["robust"],
            assignments=SMALL,
            seeds=3,
        )
    files = [
        [np.load(file) for file in sorted((tmp_path / "out" / "contenders").glob(f"{of}-*.npy"))]
        for of in ("coin", "robust")
    ]
    aucs = [
        [roc_auc_score(test.labels, scores, sample_weight=test.weights) for scores in of]
        for of in files
    ]
    expected = stats.ttest_rel(*aucs).confidence_interval(0.95)

    assert calls == [("coin", 0), ("coin", 1), ("coin", 2)]
    assert [one.fits for one in found.standings] == [1, 3, 3]
    assert found.differences["coin"].auc[1:] == pytest.approx(tuple(expected))
    assert found.named("robust").auc == pytest.approx(np.mean(aucs[1]))
    single = np.array(aucs[1])
    against = stats.ttest_1samp(0.5 - single, 0).confidence_interval(0.95)
    assert found.differences["base_rate"].auc[1:] == pytest.approx(tuple(against))


def test_one_that_fails_stops_no_other(clicks, tmp_path, call):
    def fit(task):
        raise DataError("dice must fall, got one on its edge")

    with CONTENDERS.also("dice", Contender(title="Dice", fit=fit)):
        code, said, heard = call("compare", clicks, tmp_path / "out", "--only", "dice,base_rate")
        assert code == 2
        assert "base rate" in said
        assert heard.splitlines()[-1].endswith(
            "not fitted: Dice: dice must fall, got one on its edge"
        )
        with pytest.raises(DataError, match="all contenders failed: dice must fall"):
            me.compare(clicks, tmp_path / "alone", only=["dice"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--only", "lightgmb"), "did you mean 'lightgbm'?"),
        (("--only", "lightgbm,"), "contender must be one of"),
        (("--only", "lightgbm", "--recipe", "paper"), "must stand with multiembed"),
        (("--recipe", "papre"), "did you mean 'paper'?"),
        (("--seeds", "0"), "'--seeds'"),
        (("--set", "training.max_epoch=1"), "max_epoch"),
        (("--set", "dataset=other"), "dataset must be left out"),
    ],
)
def test_bad_input_is_one_line_before_any_work(clicks, tmp_path, call, arguments, words):
    code, said, heard = call("compare", clicks, tmp_path / "out", *arguments)

    assert (code, said) == (2, "")
    assert words in heard
    assert len(heard.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "package", "called"),
    [
        ("lightgbm", "lightgbm", "lightgbm"),
        ("catboost", "catboost", "catboost"),
        ("logistic_regression", "sklearn", "scikit-learn"),
    ],
)
def test_a_missing_package_names_the_extra(clicks, tmp_path, monkeypatch, name, package, called):
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(
        ConfigError, match=rf"package {called}: pip install 'multiembed\[compare\]'"
    ):
        me.compare(clicks, tmp_path / "out", only=["base_rate", name])
    assert not (tmp_path / "out").exists()


def test_directories_of_others_are_left_alone(clicks, tmp_path, call):
    (tmp_path / "results.json").write_text("mine", encoding="utf-8")
    code, _, heard = call("compare", clicks, tmp_path, "--only", "base_rate")
    assert (code, "must be new or an experiment's" in heard) == (2, True)

    out = tmp_path / "out"
    out.mkdir()
    with locked(out / LOCK_FILE, subject=out):
        code, _, heard = call("compare", clicks, out, "--only", "base_rate")
    assert (code, "is in use by another process" in heard) == (2, True)
    assert call("compare", tmp_path / "nowhere", out)[0] == 2
