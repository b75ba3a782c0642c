"""Tuning: the same trials again, killed and gone on with, pruned, and never a row of the test."""

import itertools
import json
import re
import shutil
import warnings

import optuna
import pytest
import torch
from safetensors.torch import load_file

import multiembed as me
from multiembed.base.errors import WriteError
from multiembed.config import read_config
from multiembed.experiments.tune import trials as tune_trials
from multiembed.experiments.tune.tuned import results
from multiembed.testing.planted_clicks import PlantedClicks, write_planted
from multiembed.training.trainer import Trainer

SHORT = (
    *("training.max_epochs=2", "training.threads=1", "training.batch_size=200"),
    *("model.options.hidden=[4]", "model.sets=1", "model.dim=2"),
)
OPTIONS = me.TuneOptions(
    settings=(*SHORT, "training.max_epochs=1"),
    only="training.learning_rate,model.options.dropout",
    architectures="dnn,ipnn",
)
ONE = me.TuneOptions(
    settings=(*SHORT, "model.architecture=dnn"), only="training.learning_rate,training.weight_decay"
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tune") / "data"
    write_planted(folder, PlantedClicks(cardinalities=(12, 5), ranks=2, rows=800))
    return folder


@pytest.fixture(scope="module")
def tuned(dataset, tmp_path_factory):
    """A tuning without the rows of the test split: nobody misses them."""
    blind = tmp_path_factory.mktemp("blind") / "data"
    shutil.copytree(dataset, blind)
    shutil.rmtree(blind / "test")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = me.tune(blind, blind.parent / "out", OPTIONS, trials=10)
    return blind, found


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """A tuning that nothing came between."""
    return me.tune(dataset, tmp_path_factory.mktemp("whole") / "out", ONE, trials=3)


def told(found):
    """What trials were and came to, but for the time they took."""
    rows = results(found)["trials"]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def tensors_of(path):
    return load_file(path / "best.safetensors")


def same_tensors(one, other):
    first, second = tensors_of(one), tensors_of(other)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_the_best_is_at_least_the_recipe_and_its_run_alone_is_kept(tuned):
    _, found = tuned

    assert len(found.counted) == 10
    assert found.records[0].state == "complete"
    complete = [record.value for record in found.records if record.state == "complete"]
    assert found.best.value == min(complete) <= found.recipe.value
    assert [path.name for path in (found.folder / "runs").iterdir()] == [f"{found.best.number:04}"]
    assert found.best.value == min(record["log_loss"] for record in found.run.records)
    assert found.run.best_state["log_loss"] == found.best.value


def test_best_toml_makes_the_same_numbers_again(call, tuned, tmp_path):
    data, found = tuned

    code, _, err = call(
        *("train", data, tmp_path / "run", "--config", found.folder / "best.toml"),
    )

    assert code in (0, 2), err  # the model card wants the test split, which is not there
    assert same_tensors(tmp_path / "run", found.run_path)
    config = read_config(found.folder / "best.toml")
    assert found.space.shown(config) == found.settings(found.best)


def test_the_files_say_what_was_found(tuned):
    _, found = tuned

    content = json.loads((found.folder / "results.json").read_text())
    assert content == json.loads(json.dumps(results(found)))
    assert content["best"]["value"] == found.best.value
    assert [row["number"] for row in content["trials"]] == list(range(len(found.records)))
    assert sum(content["importance"].values()) == pytest.approx(1)
    page = (found.folder / "report.html").read_text()
    (line,) = re.findall(r'<polyline points="([^"]+)"', page)
    places = [point.split(",") for point in line.split()]
    assert all(a[0] == b[0] or a[1] == b[1] for a, b in itertools.pairwise(places)), "steps"
    for key in content["importance"]:
        assert key in page
    assert not any(word in page for word in ("http://", "https://cdn", "plotly"))


def test_the_same_seed_makes_the_same_trials_and_another_others(dataset, whole, tmp_path):
    again = me.tune(dataset, tmp_path / "again", ONE, trials=3)
    other = me.TuneOptions(**{**ONE.model_dump(), "seed": 1})

    assert told(whole) == told(again)
    assert same_tensors(whole.run_path, again.run_path)
    assert told(me.tune(dataset, tmp_path / "other", other, trials=2))[1] != told(whole)[1]


class Killed(BaseException):
    """What no training catches, as a kill."""


@pytest.mark.parametrize("after", [1, 5])
def test_a_kill_costs_nothing(dataset, whole, tmp_path, monkeypatch, after):
    """Whenever it comes, and whatever it leaves of the journal's last line, trials are the same."""
    evaluate, left = Trainer._evaluate, [after]

    def killed(self, *, last=False):
        evaluate(self, last=last)
        left[0] -= 1
        if not left[0]:
            raise Killed

    monkeypatch.setattr(Trainer, "_evaluate", killed)
    with pytest.raises(Killed):
        me.tune(dataset, tmp_path / "killed", ONE, trials=3)
    monkeypatch.setattr(Trainer, "_evaluate", evaluate)
    journal = tmp_path / "killed" / "trials.journal"
    journal.write_bytes(journal.read_bytes() + b'{"op_code":6,"worker')
    (tmp_path / "killed" / "trials.journal.lock").touch()

    found = me.tune(dataset, tmp_path / "killed", ONE, trials=3)

    assert [(r.number, r.state, r.value, r.evaluations) for r in found.records] == [
        (r.number, r.state, r.value, r.evaluations) for r in whole.records
    ]
    assert same_tensors(found.run_path, whole.run_path)


def test_more_trials_go_on_and_as_many_ask_for_nothing(dataset, whole, tmp_path, monkeypatch):
    me.tune(dataset, tmp_path / "out", ONE, trials=2)
    more = me.tune(dataset, tmp_path / "out", ONE, trials=3)
    assert told(more) == told(whole)

    monkeypatch.setattr(tune_trials, "train", None)
    assert told(me.tune(dataset, tmp_path / "out", ONE, trials=2)) == told(more)


def test_a_pruned_training_stops_at_once(dataset, tmp_path, monkeypatch):
    """Half of the trials diverge slowly: Optuna's own rule says which are stopped, and when."""
    evaluations = []
    evaluate = Trainer._evaluate

    def counted(self, *, last=False):
        evaluations.append(self.directory.path.name)
        evaluate(self, last=last)

    monkeypatch.setattr(Trainer, "_evaluate", counted)
    settings = (*SHORT, "model.architecture=dnn", "training.max_epochs=3")
    options = me.TuneOptions(settings=settings, only="training.learning_rate")
    found = me.tune(dataset, tmp_path / "out", options, trials=9)

    pruned = [record for record in found.records if record.state == "pruned"]
    assert pruned
    study = tune_trials.open_study(found.folder, "log_loss")
    complete = [record for record in found.records if record.state == "complete"]
    for record in pruned:
        ran = evaluations.count(f"{record.number:04}")
        assert ran == record.evaluations == 2
        values = study.trials[record.number].intermediate_values
        others = sorted(
            study.trials[other.number].intermediate_values[ran]
            for other in complete
            if other.number < record.number
        )
        middle = len(others) // 2
        median = others[middle] if len(others) % 2 else sum(others[middle - 1 : middle + 1]) / 2
        assert len(others) >= 5
        assert min(values.values()) > median
    assert found.best.number not in {record.number for record in pruned}


def test_trials_that_fail_are_told_and_the_others_go_on(dataset, tmp_path, monkeypatch):
    really = tune_trials.train

    def sometimes(config, *, run, **rest):
        if run.name == "0001":
            raise RuntimeError("out of\nmemory")
        return really(config, run=run, **rest)

    monkeypatch.setattr(tune_trials, "train", sometimes)
    found = me.tune(dataset, tmp_path / "out", ONE, trials=3)

    assert [record.state for record in found.records] == ["complete", "failed", "complete"]
    assert found.records[1].reason == "out of memory"

    monkeypatch.setattr(tune_trials, "train", lambda *_, **__: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(me.DataError, match="the recipe itself must be trainable, got: MemoryError"):
        me.tune(dataset, tmp_path / "none", ONE, trials=3)
    monkeypatch.setattr(tune_trials, "train", really)
    assert me.tune(dataset, tmp_path / "none", ONE, trials=1).best.number == 0


def test_a_full_disk_ends_tuning_and_costs_no_trial(dataset, whole, tmp_path, monkeypatch):
    really = tune_trials.train

    def full(config, *, run, **rest):
        if run.name == "0001":
            raise WriteError(run, "No space left on device")
        return really(config, run=run, **rest)

    monkeypatch.setattr(tune_trials, "train", full)
    with pytest.raises(me.DataError, match="must be writable, got: No space left"):
        me.tune(dataset, tmp_path / "out", ONE, trials=3)
    monkeypatch.setattr(tune_trials, "train", really)

    assert told(me.tune(dataset, tmp_path / "out", ONE, trials=3)) == told(whole)


def test_what_was_tried_is_not_trained_again_and_tuning_ends_when_all_was(dataset, tmp_path):
    settings = (*SHORT, "training.max_epochs=1")
    options = me.TuneOptions(settings=settings, only="model.architecture", architectures="dnn,ipnn")
    found = me.tune(dataset, tmp_path / "out", options, trials=50)

    assert [record.state for record in found.counted] == ["complete", "complete"]
    skipped = [record for record in found.records if record.state == "skipped"]
    assert len(skipped) >= 100
    assert {record.reason for record in skipped} <= {
        "the settings of trial 0",
        f"the settings of trial {found.counted[1].number}",
    }


def test_models_above_ten_times_the_recipe_are_left_out(dataset, tmp_path, monkeypatch):
    """Tables of ten times the size are all there is here, but for a layer of one unit."""
    settings = (*SHORT[:3], "model.options.hidden=[1]", "model.architecture=dnn")
    settings = (*settings, "model.options.batch_norm=false", "training.max_epochs=1")
    monkeypatch.setattr(tune_trials, "_MOST_TIMES", 2)
    options = me.TuneOptions(settings=settings, only="model.dim,model.sets")
    found = me.tune(dataset, tmp_path / "out", options, trials=4)

    parameters = {True: [], False: []}
    for record in found.records:
        dim, sets = record.chosen["model.dim"], record.chosen["model.sets"]
        # The tables; a layer of one unit on two fields in every set; the last one's weight, bias.
        ids = sum(me.open_dataset(dataset).cardinalities)
        count = ids * dim * sets + sets * (2 * dim + 1) + 2
        parameters[record.state == "skipped"].append(count)
        if record.state == "skipped":
            assert record.reason.startswith(
                (f"{count:,} parameters, above 2 times", "the settings")
            )
    recipes = ids * 10 + 21 + 2
    assert max(parameters[False]) <= 2 * recipes < max(parameters[True])
    assert len(found.counted) == 4


def test_time_ends_tuning(dataset, tmp_path):
    found = me.tune(dataset, tmp_path / "out", ONE, trials=1000, time_limit=0.5)

    assert 1 <= len(found.counted) < 200
    with pytest.raises(me.ConfigError, match="must be above 0"):
        me.tune(dataset, tmp_path / "out", ONE, time_limit=0.0)


def test_by_auc_more_is_better(dataset, tmp_path):
    options = me.TuneOptions(**{**ONE.model_dump(), "by": "auc"})
    found = me.tune(dataset, tmp_path / "out", options, trials=3)

    assert found.best.value == max(record.value for record in found.counted)
    assert found.run.best_state["auc"] == found.best.value
    assert found.config(found.best).training.best_by == "auc"
    before = optuna.logging.get_verbosity()
    tune_trials.open_study(found.folder, "auc")
    assert optuna.logging.get_verbosity() == before


def test_a_directory_of_others_and_other_questions_are_refused(dataset, tmp_path):
    me.tune(dataset, tmp_path / "out", ONE, trials=1)
    for changes, key in (({"seed": 7}, "seed"), ({"by": "auc"}, "by"), ({"only": ()}, "only")):
        other = me.TuneOptions(**{**ONE.model_dump(), **changes})
        with pytest.raises(me.ConfigError, match=f"as it was begun, got another {key}"):
            me.tune(dataset, tmp_path / "out", other, trials=2)
    write_planted(tmp_path / "rows", PlantedClicks(cardinalities=(12, 5), ranks=2, rows=801))
    with pytest.raises(me.ConfigError, match="got another dataset"):
        me.tune(tmp_path / "rows", tmp_path / "out", ONE, trials=2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "results.json").write_text("mine")
    with pytest.raises(me.ConfigError, match=r"an experiment's of this kind, got results\.json"):
        me.tune(dataset, tmp_path / "mine", ONE, trials=1)
    (tmp_path / "out" / "trials.journal").write_text("{}\n")
    with pytest.raises(me.DataError, match="must be the journal of a tuning"):
        me.tune(dataset, tmp_path / "out", ONE, trials=1)
