"""Recipes: what they say, of how many rows, and what is said in their place."""

import math
import tomllib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import multiembed as me
from multiembed.config import read_config
from multiembed.models.interactions.architectures import ARCHITECTURES
from multiembed.models.naming import base_dim, named_mix
from multiembed.runs import recipe as recipes
from multiembed.runs.given_config import configured
from multiembed.runs.recipe import RECIPES, recipe, recipe_table
from multiembed.training.settling import begin_at

FILES = Path(recipes.__file__).parent / "recipes"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> me.Dataset:
    """One positive of ten rows, which counts a third of another row."""
    folder = tmp_path_factory.mktemp("recipes")
    random = np.random.default_rng(0)
    click = random.random(600) < 0.1
    rows = {"click": click * 1, "site": random.integers(0, 9, 600), "w": 3 - 2 * click}
    pl.DataFrame(rows).write_csv(folder / "rows.csv")
    options = me.PrepareOptions(format="table", label="click", weight="w")
    me.prepare(folder / "rows.csv", folder / "dataset", options)
    return me.open_dataset(folder / "dataset")


def of_rows(dataset: me.Dataset, rows: int):
    """The schema as if there were so many rows that train."""
    train = dataset.schema.splits["train"].model_copy(update={"rows": rows})
    return dataset.schema.model_copy(update={"splits": {**dataset.schema.splits, "train": train}})


def test_the_paper_is_what_configurations_are_without_a_recipe(dataset):
    assert recipe("paper", dataset) == me.RunConfig(recipe="paper")


@pytest.mark.parametrize("name", RECIPES)
def test_no_recipe_overrules_what_a_dataset_keeps(dataset, name):
    kept = ["plr", None, "soft"]

    assert recipe(name, dataset).model.numeric_kinds(kept) == tuple(kept)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_what_its_file_says(dataset, name):
    file = tomllib.loads((FILES / f"{name}.toml").read_text())

    many = recipe_table(name, of_rows(dataset, 10**9))

    assert many == {"recipe": name, **{k: v for k, v in file.items() if k != "rows"}}
    for entry in file.get("rows", []):
        few = recipe_table(name, of_rows(dataset, entry["below"] - 1))
        for section in ("model", "training"):
            said = {**many.get(section, {}), **entry.get(section, {})}
            assert few.get(section, {}) == said


def test_fewer_rows_never_take_the_settings_of_more():
    file = tomllib.loads((FILES / "robust.toml").read_text())
    limits = [entry["below"] for entry in file["rows"]]

    assert limits == sorted(set(limits))


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "dcnv2:2,dnn:1"])
@pytest.mark.parametrize("name", RECIPES)
def test_every_architecture_takes_every_recipe(dataset, architecture, name):
    base = recipe_table(name, dataset.schema)

    found = configured(None, [], {"model.architecture": architecture}, base=base).resolved()

    assert found.recipe == name


def test_what_is_given_takes_the_place_of_what_a_recipe_says(dataset, tmp_path):
    file = tmp_path / "own.toml"
    file.write_text("[training]\nbatch_size = 300\npatience = 9\n")
    base = recipe_table("robust", dataset.schema)

    found = configured(file, ["training.patience=7"], {"training.seed": 5}, base=base)

    assert (found.training.batch_size, found.training.patience, found.training.seed) == (300, 7, 5)
    assert found.training.best_by == base["training"]["best_by"]
    assert found.model.options == base["model"]["options"]


def test_settings_in_python_are_those_of_assignments(dataset):
    settings = {"model.size": 4, "model.scaling": "multi", "training.patience": 7}
    words = [f"{key}={value}" for key, value in settings.items()]
    base = recipe_table("robust", dataset.schema)

    found = me.recipe("robust", dataset.path, settings)

    assert found == configured(None, words, {}, base=base)
    assert found.model.options == base["model"]["options"]


def test_an_option_that_is_given_is_not_dropped_silently(dataset):
    base = recipe_table("robust", dataset.schema)

    with pytest.raises(me.ConfigError, match="ffm option 'hidden' is unknown"):
        configured(
            None, ["model.options.hidden=[4]"], {"model.architecture": "ffm"}, base=base
        ).resolved()


def test_a_run_says_its_recipe_and_goes_on_by_it(call, dataset, tmp_path):
    short = ["--set", "training.max_epochs=1", "--set", "training.threads=1"]

    code, _, err = call("train", dataset.path, tmp_path / "run", "--recipe", "robust", *short)
    assert code == 0, err
    config = read_config(tmp_path / "run" / "config.toml")
    card = (tmp_path / "run" / "README.md").read_text()

    assert config.recipe == "robust"
    assert config.training.best_by == "log_loss"
    assert config.model.options["hidden"] == [64, 64]  # of few rows
    assert "Recipe robust, with what was given in its place" in card
    code, _, err = call("train", dataset.path, tmp_path / "run", "--resume", *short)
    assert code == 0, err


def test_nothing_said_to_train_is_the_first_recipe(call, dataset, tmp_path):
    short = ["--set", "training.max_epochs=1", "--set", "training.threads=1"]

    code, _, err = call("train", dataset.path, tmp_path / "run", *short)

    assert code == 0, err
    config, training = (
        read_config(tmp_path / "run" / "config.toml"),
        recipe_table(RECIPES[0], dataset.schema)["training"],
    )
    assert config.recipe == RECIPES[0] == "robust"
    for name, value in (training | {"max_epochs": 1, "threads": 1}).items():
        assert getattr(config.training, name) == value


def test_a_file_decides_all_and_a_recipe_beside_it_what_it_leaves_open(call, dataset, tmp_path):
    file = tmp_path / "own.toml"
    file.write_text("[training]\nmax_epochs = 1\n[model.options]\nhidden = [4]\n")
    alone = call("train", dataset.path, tmp_path / "alone", "--config", file)
    beside = call(
        "train", dataset.path, tmp_path / "beside", "--config", file, "--recipe", "robust"
    )

    assert (alone[0], beside[0]) == (0, 0), (alone, beside)
    assert read_config(tmp_path / "alone" / "config.toml").training.best_by == "auc"
    assert read_config(tmp_path / "beside" / "config.toml").training.best_by == "log_loss"


def test_nothing_said_in_python_is_the_first_recipe(dataset, tmp_path, monkeypatch):
    table = {"recipe": "paper", "training": {"max_epochs": 1, "threads": 1}}
    monkeypatch.setattr(recipes, "recipe_table", lambda name, _: table | {"recipe": name})

    run = me.train(None, dataset=dataset.path, run=tmp_path / "run")

    assert run.config.recipe == RECIPES[0]


def test_an_unknown_recipe_is_one_line(call, dataset, tmp_path):
    code, _, err = call("train", dataset.path, tmp_path / "run", "--recipe", "robsut")

    assert code == 2
    assert err == (
        f"multiembed: recipe must be one of {', '.join(RECIPES)}, got 'robsut'; "
        "did you mean 'robust'?\n"
    )
    assert not (tmp_path / "run").exists()


def test_a_dataset_that_is_not_there_is_one_line(call, tmp_path):
    code, _, err = call("train", tmp_path / "none", tmp_path / "run")

    assert code == 2
    said = f"multiembed: {tmp_path / 'none'} must be an encoded dataset, got no schema.json in it"
    assert err == f"{said}\n"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_training_can_begin_at_the_base_rate(architecture):
    torch.manual_seed(0)
    mix = named_mix(architecture)
    model = me.ClickModel(architecture, cardinalities=[50, 20, 9], dim=min(8, base_dim(mix)))
    ids = torch.stack([torch.randint(0, size, (500,)) for size in (50, 20, 9)], dim=1)
    model.eval()
    with torch.no_grad():
        before = model(ids)
        begin_at(model, 0.003)
        moved = model(ids) - before

    # The logit moves by what the bias was short of ln(p / (1 - p)); drawn ones are below 1.
    assert torch.allclose(moved, moved[0].expand_as(moved), atol=1e-5)
    assert abs(float(moved[0]) - math.log(0.003 / 0.997)) < 1


def test_the_base_rate_is_by_weight_and_of_the_negatives_that_are_kept(dataset):
    split = dataset.split("train")
    weighted = split.labels @ split.weights / split.weights.sum()

    assert split.base_rate() == pytest.approx(weighted)
    positives = split.labels @ split.weights
    negatives = (1 - split.labels) @ split.weights
    assert split.base_rate(0.25) == pytest.approx(positives / (positives + negatives / 4))


def test_rare_positives_are_predicted_as_rare_after_one_step(dataset, tmp_path):
    """From a half it takes hundreds of steps; the share of positives is right at once."""
    ratios = {}
    for from_rate in (False, True):
        model = me.ModelConfig(architecture="dnn", dim=2, options={"hidden": [4], "dropout": 0})
        training = me.TrainingConfig(max_epochs=1, threads=1, from_base_rate=from_rate)
        config = me.RunConfig(model=model, training=training)
        run = me.train(config, dataset=dataset, run=tmp_path / f"run_{from_rate}")
        scores = run.score("train")
        seen = np.average(scores.labels, weights=scores.weights)
        ratios[from_rate] = np.average(scores.probabilities, weights=scores.weights) / seen

    assert ratios[False] > 10
    assert 0.5 < ratios[True] < 2
