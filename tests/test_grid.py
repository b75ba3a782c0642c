"""Grids of runs: what they expand to, what is run again, and what a kill or a failure costs."""

import csv
import fcntl
import json
import multiprocessing
import re
import subprocess
import sys
import time
from collections import deque
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from multiembed.base.errors import ConfigError, InputError
from multiembed.cli import grid_watching
from multiembed.config import RunConfig
from multiembed.data.store.dataset import open_dataset
from multiembed.experiments.grid import grid as grid_module
from multiembed.experiments.grid import running
from multiembed.experiments.grid.grid import (
    Grid,
    RunLabels,
    asked_grid,
    case_of,
    expand,
    read_grid,
)
from multiembed.experiments.grid.outcome import Failure, GridState, points, write_results
from multiembed.experiments.grid.running import run_cases
from multiembed.runs.recipe import RECIPES, recipe_table
from multiembed.runs.run import load_run
from multiembed.testing.planted_clicks import PlantedClicks, write_planted
from multiembed.training.progress import TrainingProgress

PLANTED = PlantedClicks(cardinalities=(40, 20, 10), ranks=2, rows=2000)
NOWHERE = Path("nowhere")
"""Grids without shares and folds write no other datasets."""
TINY = {
    "model": {"options": {"hidden": [8, 4]}},
    "training": {"max_epochs": 1, "batch_size": 256, "threads": 1},
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grid") / "data"
    write_planted(folder, PLANTED)
    return open_dataset(folder)


def names(cases):
    return [case.name for case in cases]


def test_a_grid_is_every_combination_and_the_base_comes_once(dataset):
    cases = expand(Grid(architectures=("dcnv2", "dnn"), sizes=(1, 2), seeds=2), dataset, NOWHERE)

    found = [(c.labels.architecture, c.labels.size, c.labels.scaling, c.labels.seed) for c in cases]
    assert found == [
        (architecture, size, scaling, seed)
        for architecture in ("dcnv2", "dnn")
        for size, scaling in ((1, "single"), (2, "single"), (2, "multi"))
        for seed in (0, 1)
    ]
    shapes = {c.labels.size: {} for c in cases}
    for case in cases:
        shapes[case.labels.size][case.labels.scaling] = case.config.model.shape()
    assert shapes == {1: {"single": (10, 1)}, 2: {"single": (20, 1), "multi": (10, 2)}}
    assert len(set(names(cases))) == len(cases)


def test_a_name_says_the_model_and_changes_with_whatever_changes_the_run(dataset, tmp_path):
    def named(changes=None, data=dataset):
        return expand(Grid(sizes=(1,), seeds=1, training=changes or {}), data, NOWHERE)[0].name

    assert re.fullmatch(r"dcnv2-10x1-seed0-[0-9a-f]{10}", named())
    assert named() == named()
    assert named({"learning_rate": 0.002}) != named()
    assert named({"learning_rate": 1e-3}) == named(), "the default, said aloud, is the same run"
    assert named({"threads": 1, "device": "cpu"}) == named(), "where it is computed is no part"
    write_planted(tmp_path / "other", PLANTED.model_copy(update={"seed": 1}))
    assert named(data=open_dataset(tmp_path / "other")) != named()
    write_planted(tmp_path / "same", PLANTED)
    assert named(data=open_dataset(tmp_path / "same")) == named()


def test_variants_change_common_settings_section_by_section(dataset):
    grid = Grid(
        sizes=(1,),
        seeds=1,
        model={"options": {"hidden": [8, 4], "dropout": 0.1}},
        variants={"plain": {}, "deep": {"model": {"options": {"hidden": [8, 4, 2]}}}},
    )

    plain, deep = expand(grid, dataset, NOWHERE)

    assert (plain.labels.variant, deep.labels.variant) == ("plain", "deep")
    assert plain.config.model.options["hidden"] == [8, 4]
    assert deep.config.model.options["hidden"] == [8, 4, 2]
    assert deep.config.model.options["dropout"] == 0.1


def test_a_recipe_says_what_the_grid_leaves_open(dataset):
    grid = Grid(recipe="robust", sizes=(1,), seeds=2, training={"patience": 7})

    first, second = (case.config for case in expand(grid, dataset, NOWHERE))

    said = recipe_table("robust", dataset.schema)["training"] | {"patience": 7, "seed": 1}
    assert second.recipe == "robust"
    assert {name: getattr(second.training, name) for name in said} == said
    assert first.training == second.training.model_copy(update={"seed": 0})
    assert expand(Grid(sizes=(1,), seeds=1), dataset, NOWHERE)[0].config.recipe is None


def test_without_a_file_scale_goes_by_the_default_recipe(tmp_path):
    (tmp_path / "grid.toml").write_text("sizes = [1]\n")

    assert asked_grid(None, {}, []).recipe == RECIPES[0]
    assert asked_grid(None, {"recipe": "paper"}, []).recipe == "paper"
    assert asked_grid(tmp_path / "grid.toml", {}, []).recipe is None
    assert asked_grid(tmp_path / "grid.toml", {"recipe": "robust"}, []).recipe == "robust"


@pytest.mark.parametrize("name", ["train", "scale"])
def test_an_assignment_is_no_recipe(name, call, dataset, tmp_path):
    code, _, err = call(name, dataset.path, tmp_path / "out", "--set", "recipe=robust")

    assert (code, err) == (
        2,
        "multiembed: --set recipe must be left out, got one: --recipe says it\n",
    )


def test_a_mix_of_architectures_has_a_name_that_is_a_directory(dataset):
    grid = Grid(architectures=("dcnv2:2,dnn",), sizes=(3,), scaling=("multi",), seeds=1)

    assert re.fullmatch(r"dcnv2_2-dnn_1-10x3-seed0-\w{10}", expand(grid, dataset, NOWHERE)[0].name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sizes = [0]", r"grid.toml: sizes\[0\] must be at least 1, got 0"),
        ("sizes = []", "sizes must be a list of at least 1"),
        ("scaling = ['both']", r"scaling\[0\] must be 'single' or 'multi', got 'both'"),
        ("seed = 3", "'seed' is unknown; did you mean 'seeds'?"),
        ("seeds = 0", "seeds must be at least 1, got 0"),
        ("sizes = ", "grid.toml must be TOML"),
    ],
)
def test_a_mistake_in_a_grid_is_one_line(tmp_path, text, said):
    (tmp_path / "grid.toml").write_text(text)

    with pytest.raises(ConfigError, match=said):
        read_grid(tmp_path / "grid.toml")


EXPERIMENTS = sorted((Path(__file__).parents[1] / "experiments").glob("*.toml"))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_the_experiments_behind_the_results_can_be_run(dataset, tmp_path, path):
    head = path.read_text(encoding="utf-8")

    assert all(word in head for word in ("# Command:", "# Cost:", "# Expected:"))
    assert expand(read_grid(path), dataset, tmp_path)


def test_an_impossible_point_is_refused_before_anything_runs(dataset):
    with pytest.raises(ConfigError, match="did you mean 'dcnv2'"):
        expand(Grid(architectures=("dnn", "dcnv3")), dataset, NOWHERE)
    with pytest.raises(ConfigError, match="learning_rate"):
        expand(Grid(training={"lerning_rate": 1}), dataset, NOWHERE)
    variants = {"slow": {}, "fast": {"training": {"learning_rate": -1}}}
    with pytest.raises(ConfigError, match=r"^grid: variant 'fast': training\.learning_rate must"):
        expand(Grid(variants=variants), dataset, NOWHERE)


def test_finished_runs_are_not_run_again(dataset, tmp_path, monkeypatch):
    cases = expand(Grid(sizes=(1,), seeds=2, **TINY), dataset, NOWHERE)
    run_cases(cases[:1], tmp_path)
    trained = []
    really = running.train

    def counted(config, *, run, **rest):
        trained.append(run.name)
        return really(config, run=run, **rest)

    monkeypatch.setattr(running, "train", counted)

    state = run_cases(cases, tmp_path)

    assert trained == [cases[1].name]
    assert names(case for case, _ in state.done) == names(cases)


def test_a_finished_grid_is_opened_again_without_a_model(dataset, tmp_path, monkeypatch):
    cases = expand(Grid(sizes=(1, 2), seeds=2, **TINY), dataset, NOWHERE)
    built, opened = [], []
    build, reopen = running.build_model, running.open_dataset
    monkeypatch.setattr(running, "build_model", lambda *of: built.append(of) or build(*of))
    monkeypatch.setattr(running, "open_dataset", lambda of: opened.append(of) or reopen(of))

    run_cases(cases, tmp_path)

    assert len(built) == 3, "one for each shape, whatever its seeds"
    assert opened == [dataset.path]
    built.clear()
    opened.clear()
    state = run_cases(cases, tmp_path)
    assert len(state.done) == 6
    assert (built, opened) == ([], [dataset.path])
    assert state.seconds_left == 0


def test_a_point_of_a_grid_is_parsed_and_resolved_once(dataset, monkeypatch):
    parsed, resolved = [], []
    parse, resolve = grid_module.laid_over, RunConfig.resolved
    monkeypatch.setattr(
        grid_module, "laid_over", lambda *a, **k: parsed.append(a) or parse(*a, **k)
    )
    monkeypatch.setattr(RunConfig, "resolved", lambda of: resolved.append(of) or resolve(of))

    cases = expand(Grid(sizes=(1, 2), seeds=5), dataset, NOWHERE)

    assert len(cases) == 15
    assert len(parsed) == len(resolved) == 4  # two sizes, two ways


def test_an_outcome_is_what_the_run_itself_measures(dataset, tmp_path):
    cases = expand(Grid(sizes=(2,), scaling=("multi",), seeds=1, **TINY), dataset, NOWHERE)

    [(case, outcome)] = run_cases(cases, tmp_path).done

    run = load_run(tmp_path / case.name)
    measured = run.evaluate("test")
    assert outcome.test_auc == measured["auc"]
    assert outcome.test_log_loss == measured["log_loss"]
    assert outcome.parameters == sum(p.numel() for p in run.model.parameters())
    assert outcome.parameters_embedding == run.model.embedding.weight.numel()
    assert (outcome.dim, outcome.sets, outcome.epochs) == (10, 2, 1)
    assert outcome.first_information_abundance == run.records[0]["mean_information_abundance"]
    # One epoch: the best model is the one of the first evaluation.
    assert outcome.information_abundance == pytest.approx(outcome.first_information_abundance)
    assert outcome.flops == run.model.summary().flops.total


def test_one_failure_is_recorded_and_the_rest_goes_on(dataset, tmp_path, monkeypatch):
    cases = expand(Grid(sizes=(1,), seeds=3, **TINY), dataset, NOWHERE)
    really = running.train

    def sometimes(config, **rest):
        if config.training.seed == 0:
            raise InputError("this one must fail")
        if config.training.seed == 1:
            raise RuntimeError("CUDA\nout of memory")
        return really(config, **rest)

    monkeypatch.setattr(running, "train", sometimes)

    state = run_cases(cases, tmp_path / "runs")
    write_results(tmp_path, state)

    assert state.failed == [
        Failure(cases[0], "this one must fail"),
        Failure(cases[1], "CUDA out of memory"),
    ]
    written = json.loads((tmp_path / "results.json").read_text())
    assert [row["run"] for row in written["runs"]] == [cases[2].name]
    assert [row["failure"] for row in written["failures"]] == [f.reason for f in state.failed]


def test_a_failure_is_tried_again_next_time(dataset, tmp_path, monkeypatch):
    cases = expand(Grid(sizes=(1,), seeds=1, **TINY), dataset, NOWHERE)
    with monkeypatch.context() as broken:
        broken.setattr(running, "train", lambda *_, **__: (_ for _ in ()).throw(InputError("no")))
        assert run_cases(cases, tmp_path).failed

    assert run_cases(cases, tmp_path).done


def test_our_own_bugs_are_not_hidden(dataset, tmp_path, monkeypatch):
    cases = expand(Grid(sizes=(1,), seeds=1, **TINY), dataset, NOWHERE)
    monkeypatch.setattr(running, "train", lambda *_, **__: [][0])

    with pytest.raises(IndexError):
        run_cases(cases, tmp_path)


def test_processes_give_what_one_process_gives(dataset, tmp_path):
    cases = expand(Grid(sizes=(1, 2), scaling=("multi",), seeds=1, **TINY), dataset, NOWHERE)

    here = run_cases(cases, tmp_path / "here")
    there = run_cases(cases, tmp_path / "there", workers=2)

    volatile = {"seconds", "peak_memory_bytes"}
    assert len(here.done) == len(there.done) == 2
    found = {case.name: outcome for case, outcome in there.done}
    for case, outcome in here.done:
        expected = outcome.model_dump(exclude=volatile)
        assert found[case.name].model_dump(exclude=volatile) == pytest.approx(expected)


def test_a_process_that_dies_costs_its_own_run_alone(dataset, tmp_path):
    grid = Grid(sizes=(1,), seeds=2, **TINY)
    cases = expand(grid.model_copy(update={"training": {"max_epochs": 300}}), dataset, NOWHERE)

    class Killer:
        """Kills the first run, and the second once it has failed."""

        def moved(self, state):
            if not state.failed and cases[0].name in state.running:
                for child in multiprocessing.active_children():
                    child.kill()

        def ended(self, state, case, result):
            pass

        def found(self, state):
            pass

    limited = [
        cases[0],
        case_of(expand(grid, dataset, NOWHERE)[1].config, dataset, cases[1].labels),
    ]
    state = run_cases(limited, tmp_path, workers=1, observer=Killer())

    assert [failure.case.name for failure in state.failed] == [cases[0].name]
    assert "exit code -9" in state.failed[0].reason
    assert len(state.done) == 1


def test_a_killed_grid_goes_on_where_it_stopped(dataset, tmp_path):
    training = {"max_epochs": 2, "patience": 2, "batch_size": 64, "threads": 1}
    both = {"training": training, "model": TINY["model"]}
    grid = Grid(recipe="paper", sizes=(1, 2), scaling=("single",), seeds=1, **both)
    settings = ["--set", "model.options.hidden=[8,4]", "--sizes", "1,2", "--scaling", "single"]
    settings += ["--recipe", "paper"]
    for key, value in training.items():
        settings += ["--set", f"training.{key}={value}"]
    command = [sys.executable, "-m", "multiembed", "scale", dataset.path, tmp_path / "out"]
    killed = subprocess.Popen([*command, *settings, "--seeds", "1"], stderr=subprocess.DEVNULL)
    try:
        while not (found := list(tmp_path.glob("out/runs/*/last.safetensors"))):
            assert killed.poll() is None, "it should still be running"
            time.sleep(0.02)
    finally:
        killed.kill()
        killed.wait()
    with (found[0].parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # its process ends with the one that was killed

    cases = expand(grid, dataset, NOWHERE)
    resumed = run_cases(cases, tmp_path / "out" / "runs")

    straight = run_cases(cases, tmp_path / "straight")
    assert found[0].parent.name in names(cases)
    assert not resumed.failed
    assert [o.test_auc for _, o in resumed.done] == [o.test_auc for _, o in straight.done]


def test_points_gather_seeds_and_keep_their_order(dataset, tmp_path):
    cases = expand(Grid(sizes=(1, 2), seeds=2, **TINY), dataset, NOWHERE)

    found = points(run_cases(cases, tmp_path).done)

    assert [(p.labels.size, p.labels.scaling) for p in found] == [
        (1, "single"),
        (2, "single"),
        (2, "multi"),
    ]
    assert all(p.replicas == ((None, 0), (None, 1)) for p in found)
    a, b = found[0].values("test_auc")
    assert found[0].spread("test_auc").mean == pytest.approx((a + b) / 2)
    assert found[0].spread("test_auc").std == pytest.approx(abs(a - b) / 2**0.5)


def test_scale_prints_a_table_and_writes_every_run(call, dataset, tmp_path):
    (tmp_path / "grid.toml").write_text(
        "sizes = [1, 4]\nseeds = 2\n[model.options]\nhidden = [8, 4]\n[training]\nmax_epochs = 1\n"
        "[variants.alone]\n"
    )

    code, out, err = call(
        *("scale", dataset.path, tmp_path / "out", "--grid", tmp_path / "grid.toml"),
        *("--sizes", "1,2", "--scaling", "single", "--set", "training.batch_size=512"),
        *("--workers", "2"),
    )

    assert code == 0
    assert "dcnv2 single 2x" in out
    assert "4x" not in out, "flags take precedence over the file"
    assert "change" not in out, "one variant has nothing to be compared to"
    assert all(len(line) <= 80 for line in out.splitlines() if "results.csv" not in line)
    assert "[4/4]" in err
    with (tmp_path / "out" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    for column in (
        *("architecture", "size", "scaling", "seed", "parameters_head", "flops", "valid_auc"),
        *("test_normalized_entropy", "test_calibration_ratio", "peak_memory_bytes"),
        *("centered_information_abundance", "normalized_information_abundance", "epochs"),
    ):
        assert all(row[column] for row in rows)


def test_scale_says_what_a_variant_changes(call, dataset, tmp_path):
    (tmp_path / "grid.toml").write_text(
        'sizes = [1, 4]\nscaling = ["multi"]\nseeds = 2\n[model.options]\nhidden = [8, 4]\n'
        "[training]\nmax_epochs = 1\nbatch_size = 512\n"
        "[variants.dense_adam]\n[variants.rowwise_adagrad.training]\n"
        "table_optimizer = 'rowwise_adagrad'\n"
    )

    code, out, _ = call("scale", dataset.path, tmp_path / "out", "--grid", tmp_path / "grid.toml")

    assert code == 0
    assert all(len(line) <= 80 for line in out.splitlines() if "results.csv" not in line)
    with (tmp_path / "out" / "results.csv").open() as file:
        auc = {
            (row["size"], row["variant"], row["seed"]): float(row["test_auc"])
            for row in csv.DictReader(file)
        }
    assert "…" not in out, "names wrap before numbers are cut"
    changes = [auc["4", "rowwise_adagrad", seed] - auc["4", "dense_adam", seed] for seed in "01"]
    line = next(
        line for line in out.splitlines() if re.match(r"dcnv2 multi 4x rowwise_adagrad AUC", line)
    )
    assert f"{sum(changes) / 2:+.5f}" in line
    spread = abs(auc["4", "dense_adam", "0"] - auc["4", "dense_adam", "1"]) / 2**0.5
    assert line.rstrip().endswith(f"{spread:.5f}".removeprefix("0"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sizes", "1,x"], r"sizes\[1\] must be a whole number, got 'x'"),
        (["--scaling", "both"], "scaling"),
        (["--architectures", "dcnv3"], "did you mean 'dcnv2'"),
        (["--set", "training.lr=1"], "training.lr"),
        (["--set", "dataset=elsewhere"], "DATASET"),
        (["--grid", "none.toml"], "none.toml must be a readable file"),
        (["--workers", "0"], "--workers"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_run(call, dataset, tmp_path, arguments, said):
    code, out, err = call("scale", dataset.path, tmp_path / "out", *arguments)

    assert code == 2
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert re.search(said, err), err
    assert not (tmp_path / "out").exists()


def test_labels_say_where_a_run_stands(dataset):
    labels = RunLabels(architecture="dnn", size=None, scaling="single", share=0.1, seed=3)
    case = case_of(expand(Grid(sizes=(1,)), dataset, NOWHERE)[0].config, dataset, labels)

    assert case.labels == labels
    assert case.dataset == dataset.path


def test_the_live_table_says_what_is_done_running_failed_and_left(dataset):
    cases = expand(Grid(sizes=(1, 2), seeds=2, **TINY), dataset, NOWHERE)
    state = GridState(deque(cases[4:]), work_left=60.0, seconds_per_work=100.0)
    state.failed.append(Failure(cases[0], "no memory"))
    state.running[cases[1].name] = None
    state.running[cases[2].name] = TrainingProgress(
        epoch=2, step=20, steps=50, loss=0.5, rows_per_second=1e5
    )
    screen = Console(width=100, record=True, file=StringIO())

    screen.print(grid_watching._screen(state))

    shown = screen.export_text()
    assert "no memory" in shown
    assert "epoch 2, step 20 of 50, loss 0.5000" in shown
    assert "0 done, 2 running, 2 left, 1 failed, about 1 h 40 min left" in shown
