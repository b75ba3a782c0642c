"""The command line as a new user meets it: what it prints, where, and how it says no."""

import json
import os
import re
import subprocess
import sys

import pytest

from multiembed.__main__ import SPINS
from multiembed.testing.planted_clicks import PlantedClicks, write_planted

FAST = ["--set", "training.max_epochs=1", "--set", "model.options.hidden=[8, 4]", "--dim", "3"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    write_planted(folder / "dataset", PlantedClicks(cardinalities=(20, 10, 5), ranks=2, rows=4000))
    command = [sys.executable, "-m", "multiembed", "train", folder / "dataset", folder / "run"]
    done = subprocess.run([*command, *FAST, "--sets", "2"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "best on validation: AUC" in done.stdout
    assert "epoch 1" in done.stderr
    return folder


def test_what_needs_no_data_loads_no_library_for_it_and_openmp_is_told_how_long_to_spin():
    code = """
import os, sys
from multiembed.__main__ import main
for line in ("--version", "--help", "train --help", "prepare --help", "trian", "train a b --dim x"):
    sys.argv[1:] = line.split()
    print(main(), file=sys.stderr)
heavy = {"torch", "polars", "pyarrow", "numpy", "numba", "scipy", "pandas", "sklearn", "matplotlib"}
print(*sorted(heavy & set(sys.modules)), os.environ["GOMP_SPINCOUNT"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.stdout.splitlines()[-1] == SPINS  # which torch reads when it is loaded, later
    codes = [line for line in done.stderr.splitlines() if line.isdecimal()]
    assert codes == ["0", "0", "0", "0", "2", "2"], done.stderr


def test_an_interruption_while_loading_is_quiet(call, monkeypatch):
    class Interrupted:
        def find_spec(self, name, *_):
            if name == "multiembed.cli.commands":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "multiembed.cli.commands", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])

    assert call("--version") == (130, "", "")


def test_who_knows_better_how_long_to_spin_is_left_alone(call, monkeypatch):
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")

    assert call("--version")[0] == 0
    assert os.environ["GOMP_SPINCOUNT"] == "7"


def test_evaluate_prints_json_that_machines_read(call, trained):
    code, out, _ = call("evaluate", trained / "run", "--json", "-")

    measured = json.loads(out)
    assert code == 0
    assert measured["rows"] == 400
    assert 0 < measured["auc"] < 1


def test_diagnose_writes_a_page_and_json_and_prints_a_table(call, trained, tmp_path):
    code, out, _ = call(
        *("diagnose", trained / "run", "--html", tmp_path / "page.html"),
        *("--json", tmp_path / "found.json"),
    )

    assert code == 0
    assert "abund" in out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert len(json.loads((tmp_path / "found.json").read_text())["fields"]) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "nowhere"], "nowhere must be a run directory"),
        (["diagnose", "nowhere"], "nowhere"),
        (["train", "nowhere", "run"], "nowhere"),
        (["train", "nowhere", "run", "--architecture", "dcnv3"], "did you mean 'dcnv2'?"),
        (["train", "nowhere", "run", "--dim", "0"], "dim must be .* 1, got 0"),
        (["train", "nowhere", "run", "--set", "training.lerning_rate=1"], "learning_rate"),
        (["train", "nowhere", "run", "--set", "banana"], "--set must be KEY=VALUE, got 'banana'"),
        (["train", "nowhere", "run", "--config", "none.toml"], "none.toml must be a readable file"),
        (["prepare", "nowhere.csv", "dataset", "--label", "y"], "nowhere.csv"),
        (["trian"], "Did you mean 'train'"),
        (["train"], "Missing argument 'dataset'"),
        (["export", "run"], "Missing argument 'OUT'"),
        (["evaluate", "run", "--splt", "test"], "No such option: --splt"),
        (["evaluate", "run", "--split"], "'--split' requires an argument"),
        (["evaluate", "run", "more"], "unexpected extra argument"),
        (["diagnose", "run", "--split-sets", "two"], "'--split-sets': Input should be .* integer"),
        (
            ["export", "run", "out", "--format", "pickle"],
            "format must be one of onnx, torch, got 'pickle'",
        ),
        (["tr\nian"], "No such command"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(call, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)

    code, out, err = call(*arguments)

    assert code == 2
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("multiembed: ")
    assert re.search(message, err), err
    assert not (tmp_path / "run").exists()


def test_help_names_every_command(call):
    code, out, _ = call("--help")

    assert code == 0
    for command in ("prepare", "train", "evaluate", "diagnose", "demo"):
        assert command in out


def test_no_command_at_all_shows_the_help(call):
    code, out, err = call()

    assert (code, out) == (2, "")
    assert err.startswith("Usage: multiembed")
    assert "diagnose" in err


def test_an_interruption_says_so(call, trained, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("multiembed.runs.run.load_run", interrupt)

    code, _, err = call("evaluate", trained / "run")

    assert code == 130
    assert err == "multiembed: interrupted; what was finished is kept\n"


def test_an_unwritable_target_is_said_before_anything_else_is_lost(call, trained):
    code, _, err = call("diagnose", trained / "run", "--html", trained / "none" / "page.html")

    assert code == 2
    assert "page.html must be writable" in err
