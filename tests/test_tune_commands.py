"""`multiembed tune` as a user meets it: lines, tables, several at once, mistakes, its document."""

import json
import multiprocessing
import re
import shlex
from functools import partial
from pathlib import Path

import pytest

import multiembed as me
from multiembed.experiments.grid import pool
from multiembed.experiments.tune import tuning
from multiembed.experiments.tune.knobs import KNOBS
from multiembed.testing.planted_clicks import PlantedClicks, write_planted

SHORT = (
    *("training.max_epochs=1", "training.threads=1", "model.options.hidden=[4]"),
    *("model.architecture=dnn", "model.sets=1", "training.batch_size=200"),
)
DOCUMENT = Path(__file__).parents[1] / "docs" / "tune.md"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tune") / "clicks"
    write_planted(folder, PlantedClicks(cardinalities=(12, 5), ranks=2, rows=800))
    return folder


def test_without_optuna_the_extra_is_named(call, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("multiembed.experiments.tune.tuning.find_spec", lambda name: None)

    code, out, err = call("tune", dataset, tmp_path / "out")

    assert (code, out) == (2, "")
    assert err == "multiembed: optuna must be installed: pip install 'multiembed[tune]'\n"
    assert not (tmp_path / "out").exists()


def test_the_command_line_trains_several_at_once_and_says_how_it_went(call, dataset, tmp_path):
    asked = ["tune", dataset, tmp_path / "out", "--trials", "4", "--workers", "2"]
    asked += ["--only", "training.learning_rate"]
    for setting in SHORT:
        asked += ["--set", setting]

    code, out, err = call(*asked, "--json", tmp_path / "found.json")

    assert code == 0, err
    lines = err.splitlines()
    assert [line.split()[0] for line in lines] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
    found = json.loads((tmp_path / "found.json").read_text())
    values = [row["value"] for row in found["trials"]]
    assert found["best"]["value"] == min(values)
    assert f"best {min(values):.5f}" in lines[-1]
    assert "training.learning_rate" in out
    assert "best on validation: log loss" in out
    assert max(map(len, out.splitlines()[:3])) <= 80
    assert call(*asked)[2] == "4 of 4 trials are there\n"
    code, _, err = call(*asked[:3], "--only", "nothing")
    assert code == 2
    assert err.startswith("multiembed: only must be one of model.architecture")


class Killing:
    """Kills the process of a trial once it trains, as a system out of memory does."""

    def __init__(self, name):
        self.name = name

    def moved(self, tuning, running):
        if running.get(self.name) is not None:
            for child in multiprocessing.active_children():
                if child.name == self.name:
                    child.kill()

    def ended(self, tuning, record):
        pass

    def found(self, tuning):
        pass


def test_a_process_that_dies_fails_its_trial_alone(dataset, tmp_path):
    settings = (*SHORT, "training.batch_size=10")
    options = me.TuneOptions(settings=settings, only="training.learning_rate")
    found = me.tune(
        *(dataset, tmp_path / "out", options), trials=3, workers=1, observer=Killing("trial-1")
    )

    assert [record.state for record in found.records] == ["complete", "failed", "complete"]
    assert found.records[1].reason == "its process ended with exit code -9"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("--only", "nothing"), "only must be one of model.architecture"),
        (("--set", "model.dims=3"), "'model.dims' is unknown; did you mean 'dim'?"),
        (("--architectures", "dcnv3"), "did you mean 'dcnv2'?"),
        (("--seed", "-1"), "seed must be at least 0, got -1"),
        (("--time-limit", "0"), "must be above 0, got"),
        (("--ray", "127.0.0.1:1"), "ray must be the address of a running cluster"),
    ],
)
def test_a_mistake_is_one_line(call, dataset, tmp_path, asked, said):
    if asked[0] == "--ray":
        pytest.importorskip("ray", reason="needs the extra [cluster]")

    code, out, err = call("tune", dataset, tmp_path / "out", "--set", SHORT[2], *asked)

    assert (code, out) == (2, "")
    assert err.startswith("multiembed: ")
    assert said in " ".join(err.split())
    assert "Traceback" not in err


def test_every_command_of_the_document_runs(call, dataset, monkeypatch):
    """As it is printed, but for two short trials, which are trained in this process."""
    monkeypatch.chdir(dataset.parent)
    monkeypatch.setattr(tuning, "run_jobs", lambda jobs, workers: pool.run_jobs(jobs, workers=None))
    text = DOCUMENT.read_text(encoding="utf-8")
    commands = re.findall(r"^multiembed (.*)$", text, re.MULTILINE)
    assert len(commands) >= 4
    assert [knob.key for knob in KNOBS if f"`{knob.key}`" not in text] == []
    for command in commands:
        asked = shlex.split(command.partition(" #")[0])
        if asked[0] == "tune":
            asked = [
                "2" if part.isdecimal() and asked[at - 1] == "--trials" else part
                for at, part in enumerate(asked)
            ]
            taken = {"model.architecture=dnn"} if "--architectures" in asked else set()
            asked += [p for s in SHORT if s not in taken for p in ("--set", s)]
        code, _, err = call(*asked)
        assert code == 0, (command, err)


def test_the_documents_python_runs(dataset, monkeypatch):
    monkeypatch.chdir(dataset.parent)
    block = re.search(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    code = block[1].replace("trials=50", "trials=2").replace('"tuned"', '"tuned-by-python"')
    names = {}
    short = partial(me.TuneOptions, settings=SHORT)
    monkeypatch.setattr(me, "TuneOptions", short, raising=False)
    exec(code, names)
    assert names["found"].best.value >= names["found"].recipe.value
