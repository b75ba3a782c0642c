"""Shares and folds of a dataset: the rows they hold, and the ids they give."""

import numpy as np
import pytest

from multiembed.base.errors import ConfigError, DataError
from multiembed.data.store.dataset import open_dataset
from multiembed.experiments.grid.dataset_views import folds, subset
from multiembed.experiments.grid.grid import Grid, expand
from multiembed.experiments.grid.running import run_cases
from multiembed.testing.planted_clicks import PlantedClicks, write_planted

SPLITS = ("train", "valid", "test")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("views") / "data"
    write_planted(folder, PlantedClicks(cardinalities=(300, 40, 5), ranks=2, rows=2000))
    return open_dataset(folder)


def rows(dataset, *splits):
    found = [
        np.column_stack([dataset.split(name).ids, dataset.split(name).labels]) for name in splits
    ]
    return sorted(map(tuple, np.concatenate(found).tolist()))


def test_a_share_holds_some_training_rows_and_all_others(dataset, tmp_path):
    tenth = subset(dataset, tmp_path, 0.1)
    third = subset(dataset, tmp_path, 0.3)

    assert tenth.split("train").rows == 160
    assert third.split("train").rows == 480
    assert rows(tenth, "valid", "test") == rows(dataset, "valid", "test")
    whole, larger, smaller = (rows(d, "train") for d in (dataset, third, tenth))
    assert set(smaller) <= set(larger) <= set(whole)
    assert tenth.cardinalities == dataset.cardinalities
    assert tenth.split("train").positives == sum(row[-1] for row in smaller)


def test_a_share_depends_on_its_seed_alone(dataset, tmp_path):
    first = rows(subset(dataset, tmp_path / "a", 0.1), "train")

    assert rows(subset(dataset, tmp_path / "b", 0.1), "train") == first
    assert rows(subset(dataset, tmp_path / "a", 0.1, seed=1), "train") != first
    assert subset(dataset, tmp_path / "a", 1.0) is dataset


def test_the_vocabulary_of_a_share_counts_its_rows(dataset, tmp_path):
    part = subset(dataset, tmp_path, 0.05)

    for at, name in enumerate(dataset.field_names):
        ids, vocabulary = part.split("train").ids[:, at], part.vocabulary(name)
        assert vocabulary.select("value", "id").equals(dataset.vocabulary(name)["value", "id"])
        counts = np.bincount(ids, minlength=part.cardinalities[at])
        assert counts[vocabulary["id"]].tolist() == vocabulary["count"].to_list()
        assert part.schema.fields[at].other["train"] == counts[0]


def test_folds_test_every_row_once(dataset, tmp_path):
    parts = folds(dataset, tmp_path, 4)

    every = rows(dataset, *SPLITS)
    for split in ("test", "valid"):
        assert sorted(row for part in parts for row in rows(part, split)) == every
    for part in parts:
        assert rows(part, *SPLITS) == every
        assert part.split("test").rows == 500
    assert len({part.schema.model_dump_json() for part in parts}) == 4


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_an_impossible_share_is_refused(dataset, tmp_path, share):
    with pytest.raises(ConfigError, match="share must be above 0 and at most 1"):
        subset(dataset, tmp_path, share)


def test_two_parts_are_no_folds(dataset, tmp_path):
    with pytest.raises(ConfigError, match="folds must be at least 3"):
        folds(dataset, tmp_path, 2)


def test_a_directory_that_is_no_view_is_not_replaced_by_one(dataset, tmp_path):
    other = tmp_path / "b" / subset(dataset, tmp_path / "a", 0.1).path.name
    (other / "train").mkdir(parents=True)
    (other / "train" / "notes.txt").write_text("mine")

    with pytest.raises(DataError, match="must be a new directory, got one that is there"):
        subset(dataset, tmp_path / "b", 0.1)

    assert (other / "train" / "notes.txt").read_text() == "mine"


def test_a_grid_runs_every_share_and_fold(dataset, tmp_path):
    grid = Grid(
        sizes=(1,),
        seeds=1,
        shares=(0.5, 1.0),
        folds=3,
        model={"options": {"hidden": [8, 4]}},
        training={"max_epochs": 1, "threads": 1},
    )

    cases = expand(grid, dataset, tmp_path / "views")

    assert len({case.name for case in cases}) == 6
    assert {(c.labels.share, c.labels.fold) for c in cases} == {
        (share, fold) for share in (0.5, 1.0) for fold in range(3)
    }
    state = run_cases(cases[:2], tmp_path / "runs")
    assert len(state.done) == 2
