"""Grids on a local Ray cluster of two workers: the same runs as one after another."""

import sys
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

import multiembed as me
from multiembed.__main__ import main
from multiembed.base.errors import ConfigError
from multiembed.data.store.dataset import open_dataset
from multiembed.experiments.grid.grid import Grid, case_of, expand
from multiembed.experiments.grid.running import run_cases
from multiembed.testing.planted_clicks import PlantedClicks, write_planted

ray = pytest.importorskip("ray", reason="needs the extra [cluster]")

from multiembed.cluster.ray_grid import run_cases_on_ray, run_on_ray  # noqa: E402

FOLDERS = ("ray", "serial")
VOLATILE = {"seconds", "peak_memory_bytes"}
TINY = {
    "model": {"options": {"hidden": [8, 4]}},
    "training": {"max_epochs": 2, "batch_size": 64, "threads": 1},
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster") / "data"
    write_planted(folder, PlantedClicks(cardinalities=(40, 20, 10), ranks=2, rows=2000))
    return open_dataset(folder)


@pytest.fixture(scope="module")
def address():
    """Start a cluster of two cores, as `ray start --head` does."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    yield cluster.address
    cluster.shutdown()


class Watching:
    """Keeps what it hears."""

    def __init__(self):
        self.began, self.ended_as = set(), {}

    def moved(self, state):
        self.began |= set(state.running)

    def ended(self, state, case, result):
        self.ended_as[case.name] = result

    def found(self, state):
        pytest.fail("nothing was there")


def test_a_grid_on_a_cluster_is_the_serial_one(dataset, address, tmp_path):
    cases = expand(
        Grid(sizes=(1, 2), scaling=("multi",), seeds=1, **TINY), dataset, tmp_path / "views"
    )
    wrong = case_of(
        cases[0].config.model_copy(
            update={"training": cases[0].config.training.model_copy(update={"learning_rate": 1e30})}
        ),
        dataset,
        cases[0].labels,
    )
    serial = run_cases(cases, tmp_path / "serial")
    watching = Watching()

    state = run_cases_on_ray([*cases, wrong], tmp_path / "ray", address=address, observer=watching)

    assert [failure.case.name for failure in state.failed] == [wrong.name]
    assert "training loss must stay finite" in state.failed[0].reason
    expected = {case.name: o.model_dump(exclude=VOLATILE) for case, o in serial.done}
    assert {case.name: o.model_dump(exclude=VOLATILE) for case, o in state.done} == expected
    assert watching.began == set(watching.ended_as) == {*expected, wrong.name}
    for name in expected:
        ours, theirs = (load_file(tmp_path / at / name / "best.safetensors") for at in FOLDERS)
        assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())

    again = run_cases_on_ray(cases, tmp_path / "ray", address="nowhere:1")

    assert {case.name for case, _ in again.done} == set(expected), "nothing is left to ask Ray for"


def test_scale_runs_on_a_cluster(dataset, address, tmp_path, monkeypatch, capsys):
    asked = [
        *("scale", dataset.path, tmp_path / "out", "--sizes", "1", "--seeds", "1"),
        *("--ray", address, "--set", "training.max_epochs=1", "--set", "model.options.hidden=[4]"),
    ]
    monkeypatch.setattr(sys, "argv", ["multiembed", *map(str, asked)])

    assert main() == 0

    assert "dcnv2 single 1x" in capsys.readouterr().out
    assert len(list((tmp_path / "out" / "runs").glob("[!.]*"))) == 1


def test_tune_runs_on_a_cluster(dataset, address, tmp_path):
    pytest.importorskip("optuna", reason="needs the extra [tune]")
    settings = ("training.max_epochs=1", "model.options.hidden=[4]", "model.architecture=dnn")
    options = me.TuneOptions(settings=settings, only="training.learning_rate")

    found = me.tune(
        dataset, tmp_path / "out", options, trials=2, elsewhere=partial(run_on_ray, address=address)
    )

    assert [record.state for record in found.records] == ["complete"] * 2
    here = me.tune(dataset, tmp_path / "here", options, trials=1)
    assert found.recipe.value == pytest.approx(here.recipe.value, rel=1e-6)
    assert found.best.value == min(record.value for record in found.records)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "here:port"])
def test_a_cluster_that_is_not_there_is_one_line(dataset, tmp_path, address):
    cases = expand(Grid(sizes=(1,), seeds=1, **TINY), dataset, tmp_path / "views")

    with pytest.raises(ConfigError, match="ray must be the address of a running cluster, got "):
        run_cases_on_ray(cases, tmp_path / "runs", address=address)
