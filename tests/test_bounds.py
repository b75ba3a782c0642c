"""Numbers and brackets without end: refused in one sentence before anything is built or written."""

import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from multiembed.base.errors import ConfigError, DataError
from multiembed.base.json_files import read_json_file
from multiembed.base.memory import available_memory, peak_memory
from multiembed.config import ModelConfig, RunConfig, TrainingConfig, read_config
from multiembed.data.store.dataset import open_dataset
from multiembed.data.store.schema import FieldSizes
from multiembed.experiments.grid.grid import Grid, expand, fold_views, read_grid
from multiembed.models.click_model import ClickModel
from multiembed.models.naming import shape_of_size
from multiembed.runs.building import INPUTS, build_model, check_trainable
from multiembed.runs.given_config import configured
from multiembed.testing.planted_clicks import PlantedClicks, write_planted

DIGITS = "9" * 5000
NOWHERE = Path("nowhere")


def sizes_of(*cardinalities):
    """Fields of one value each."""
    return FieldSizes(cardinalities, (1,) * len(cardinalities), (), ())


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="devices that never end are of Unix")
def test_settings_that_never_end_are_refused(tmp_path):
    (tmp_path / "sizes.json").symlink_to("/dev/zero")
    for read in (read_config, read_grid):
        with pytest.raises(
            ConfigError, match=r"/dev/zero must be .*, got: more than 67,108,864 bytes"
        ):
            read(Path("/dev/zero"))
    with pytest.raises(DataError, match=r"sizes\.json must be .*, got: more than"):
        read_json_file(tmp_path / "sizes.json")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bounds") / "dataset"
    planted = PlantedClicks(cardinalities=(5, 4), ranks=2, rows=200)
    write_planted(folder, planted)
    return open_dataset(folder)


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("model.dim=1000000000000", "model.dim must be at most 16777216, got 1000000000000"),
        ("model.dim=99999999999999999999", "got 99999999999999999999"),
        (f"model.dim=0x{DIGITS}", "model.dim must be at most 16777216, got one that is too long"),
        (f"model.dim={DIGITS}", r"model.dim must be a whole number, got '9{199}\.\.\.$"),
        ("model.sets=1001", "model.sets must be at most 1000"),
        ("model.size=1001", "model.size must be at most 1000"),
        ("model.options.hidden=[1e400]", "hidden.0. must be a whole number|finite"),
        ("model.options.hidden=[16777217]", "hidden.0. must be at most 16777216"),
        ("model.options.cross_layers=99999999999999999999", "cross_layers must be at most 1000"),
        (f"model.options.hidden={'[' * 3000}", "hidden must be a list, got"),
        (f"model.options.hidden={'[' * 90}{']' * 90}", "hidden.0. must be a whole number, got"),
        ("training.seed=9223372036854775808", "seed must be at most 9223372036854775807"),
        ("training.batch_size=9223372036854775808", "batch_size must be at most 92233"),
        ("training.threads=100000", "threads must be at most 1024"),
        ("training.learning_rate=nan", "learning_rate must be a finite number, got nan"),
        ("training.time_limit=inf", "time_limit must be a finite number, got inf"),
        (f'model.architecture="dcnv2:{DIGITS}"', "a whole number from 1 to 1000"),
        ('model.architecture="dcnv2:999,dnn:2"', "sets must be from 1 to 1000, got 1001"),
    ],
)
def test_a_setting_out_of_all_proportion_is_refused(assignment, said):
    with pytest.raises(ConfigError, match=said) as refused:
        configured(None, [assignment], {}).resolved()

    assert len(str(refused.value)) < 6000


@pytest.mark.parametrize(
    "text", ["a=" + "[" * 5000, "a=" + "{a=" * 5000, f"a={DIGITS}", "a=1979-99-99", "a=\udcff"]
)
def test_a_file_of_brackets_or_digits_is_no_toml(text, tmp_path):
    file = tmp_path / "grid.toml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))

    with pytest.raises(ConfigError, match=r"grid\.toml must be TOML, got"):
        read_grid(file)


@pytest.mark.parametrize(
    ("options", "dim", "sets"),
    [
        ({}, 60_000, 1),
        ({}, 10_000_000, 1000),
        ({"hidden": [16_777_216, 16_777_216]}, 10, 4),
        ({"cross_layers": 1000}, 1 << 24, 1000),
    ],
)
def test_a_model_that_no_memory_holds_is_refused_before_it_is_built(options, dim, sets):
    model = ModelConfig(dim=dim, sets=sets, options=options)
    before = peak_memory()

    with pytest.raises(ConfigError, match=r"model must (fit into the memory|be smaller)"):
        check_trainable(RunConfig(model=model), sizes_of(30, 30, 100), NOWHERE)

    assert peak_memory() - before < 1 << 28


def test_asking_how_large_a_model_is_leaves_the_numbers_that_it_begins_with():
    config = RunConfig(model=ModelConfig(dim=3, sets=2, options={"hidden": [4]})).resolved()
    torch.manual_seed(7)
    asked = build_model(config, (5, 6))
    torch.manual_seed(7)
    plain = ClickModel(config.model.built(), (5, 6), dim=3, sets=2)

    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(asked.state_dict()[name], tensor, rtol=0, atol=0)


def test_what_is_refused_is_the_weights_with_the_moments_of_adam(monkeypatch):
    config = RunConfig(
        model=ModelConfig(architecture="dnn", dim=2, options={"hidden": [4], "batch_norm": False}),
        training=TrainingConfig(device="cpu"),
    )
    weights = (5 + 6) * 2 + 4 * 4 + 4 + 4 + 1  # tables; a layer of 4 on 2 x 2 inputs; the logit
    monkeypatch.setattr("multiembed.models.budget.available_memory", lambda: 3 * 4 * weights)
    check_trainable(config, sizes_of(5, 6), NOWHERE)
    monkeypatch.setattr("multiembed.models.budget.available_memory", lambda: 3 * 4 * weights - 1)
    with pytest.raises(ConfigError, match=rf"got {weights} parameters"):
        check_trainable(config, sizes_of(5, 6), NOWHERE)


def test_a_disk_must_hold_two_of_every_checkpoint_before_a_training_begins(monkeypatch, tmp_path):
    config = RunConfig(
        model=ModelConfig(architecture="dnn", dim=2, options={"hidden": [4], "batch_norm": False}),
        training=TrainingConfig(device="cpu"),
    )
    weights = (5 + 6) * 2 + 4 * 4 + 4 + 4 + 1
    need = 2 * (4 * weights + 3 * 4 * weights) + INPUTS  # the best model; the last with moments
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(need))
    check_trainable(config, sizes_of(5, 6), tmp_path / "a" / "run")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(need - 1))
    with pytest.raises(DataError, match=r"got: .* MB of free disk, where checkpoints take"):
        check_trainable(config, sizes_of(5, 6), tmp_path / "a" / "run")
    (tmp_path / "last.safetensors").touch()  # there already, and replaced
    check_trainable(config, sizes_of(5, 6), tmp_path)


def test_free_memory_is_some_and_less_than_an_address_can_name():
    assert 1 << 26 < available_memory() < sys.maxsize


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        (Grid(seeds=100_000), "grid must be of at most 100,000 runs, got 800,000"),
        (Grid(folds=90_000, seeds=1, sizes=(1,)), "at most 100,000 runs, got 180,000"),
        (Grid(sizes=(1,) * 1000, shares=(0.5,) * 200, seeds=1), "got 400,000"),
    ],
)
def test_a_grid_of_more_runs_than_anyone_reads_is_refused(dataset, grid, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        expand(grid, dataset, tmp_path)


def test_there_are_no_more_folds_than_rows_and_no_sizes_out_of_proportion(dataset, tmp_path):
    with pytest.raises(ConfigError, match="folds must be at most the 200 rows there are, got 201"):
        fold_views(201, dataset, tmp_path)
    with pytest.raises(ConfigError, match="size must be from 1 to 1000, got 1001"):
        shape_of_size("dnn", 1001, "multi")
