"""Planted click data: what was planted is there, and the best AUC is what it says."""

import filecmp

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from multiembed.base.errors import DataError
from multiembed.data.store.dataset import open_dataset
from multiembed.data.store.schema import Schema
from multiembed.testing.planted_clicks import PlantedClicks, best_auc, write_planted


def draw(planted, rows=100_000, seed=0):
    return planted.draw_ids(rows, np.random.default_rng(seed))


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_score_is_the_sum_over_all_groups_of_fields(order):
    planted = PlantedClicks(cardinalities=(7, 5, 4, 3), ranks=2, order=order)
    ids = draw(planted, rows=50)
    vectors = [table[column] for table, column in zip(planted.tables, ids.T, strict=True)]

    expected = np.zeros(50)
    for groups in np.ndindex(*[4] * order):
        if list(groups) == sorted(set(groups)):
            expected += np.prod([vectors[field] for field in groups], axis=0).sum(axis=1)

    np.testing.assert_allclose(planted.raw_scores(ids), expected, atol=1e-12)


def test_tables_have_the_planted_ranks():
    planted = PlantedClicks(cardinalities=(50, 50, 50), ranks=(1, 3, 6))

    assert [np.linalg.matrix_rank(table) for table in planted.tables] == [1, 3, 6]
    assert {table.shape for table in planted.tables} == {(50, 6)}


def test_values_follow_the_zipf_exponents():
    planted = PlantedClicks(cardinalities=(4, 4, 4), exponents=(0.0, 1.0, 2.0))

    ids = draw(planted)

    for exponent, column in enumerate(ids.T):
        weights = np.array([4.0, 1, 2, 3]) ** -exponent  # id 0, other, is the rarest
        expected = weights / weights.sum()
        np.testing.assert_allclose(np.bincount(column) / len(ids), expected, atol=0.006)


@pytest.mark.parametrize("noise", [0.0, 1.5])
def test_clicks_have_the_base_rate_and_logits_the_strength(noise):
    planted = PlantedClicks(base_rate=0.1, strength=1.5, noise=noise, seed=4)
    ids = draw(planted)

    assert planted.probabilities(ids).mean() == pytest.approx(0.1, abs=0.003)
    assert planted.logits(ids).std() == pytest.approx(1.5, rel=0.05)


def test_noise_is_averaged_over():
    planted = PlantedClicks(noise=1.0)
    ids = draw(planted, rows=20)
    drawn = planted.logits(ids) + np.random.default_rng(0).normal(size=(200_000, 1))

    expected = (1 / (1 + np.exp(-drawn))).mean(axis=0)

    np.testing.assert_allclose(planted.probabilities(ids), expected, atol=0.003)


@pytest.mark.parametrize(
    "planted",
    [
        PlantedClicks(rows=100_000),
        PlantedClicks(rows=100_000, order=1, cardinalities=(3, 2), ranks=1, strength=0.5),
        PlantedClicks(rows=100_000, order=3, noise=2.0, base_rate=0.05),
    ],
)
def test_no_model_can_beat_the_best_auc_and_the_true_probabilities_reach_it(planted, tmp_path):
    write_planted(tmp_path / "dataset", planted)
    split = open_dataset(tmp_path / "dataset").split("train")

    reached = roc_auc_score(split.labels, planted.probabilities(split.ids))

    assert best_auc(planted) == pytest.approx(reached, abs=0.01)
    assert best_auc(planted, rows=2000) != 0.5


def test_the_best_auc_of_six_possible_rows_is_the_one_counted_by_hand():
    planted = PlantedClicks(cardinalities=(3, 2), exponents=0.0, ranks=1, order=1)
    rows = np.array([[a, b] for a in range(3) for b in range(2)], np.int32)
    chances = planted.probabilities(rows)  # all six rows are equally frequent

    won = (chances[:, None] > chances) + 0.5 * (chances[:, None] == chances)
    pairs = chances[:, None] * (1 - chances)

    assert best_auc(planted) == pytest.approx((won * pairs).sum() / pairs.sum(), abs=0.003)


def test_equal_settings_give_equal_bytes_and_other_seeds_do_not(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_planted(tmp_path / name, PlantedClicks(rows=2000, seed=seed))

    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*"))
    _, differ, errors = filecmp.cmpfiles(tmp_path / "a", tmp_path / "b", files, shallow=False)
    assert len(files) == 10 and not differ and not errors
    _, differ, _ = filecmp.cmpfiles(tmp_path / "a", tmp_path / "c", files, shallow=False)
    assert "train/00000.arrow" in map(str, differ)


def test_planted_rows_are_an_encoded_dataset_like_any_other(tmp_path):
    planted = PlantedClicks(rows=10_007, cardinalities=(30, 4))

    schema = write_planted(tmp_path / "dataset", planted)

    dataset = open_dataset(tmp_path / "dataset")
    assert schema == Schema.load(tmp_path / "dataset") == dataset.schema
    assert dataset.cardinalities == (30, 4)
    assert [dataset.split(name).rows for name in ("train", "valid", "test")] == [8007, 1000, 1000]
    train = dataset.split("train")
    vocabulary = dataset.vocabulary("f1")
    assert vocabulary["id"].to_list() == [1, 2, 3]
    assert vocabulary["count"].to_list() == np.bincount(train.ids[:, 1])[1:].tolist()
    assert schema.fields[1].other["train"] == np.count_nonzero(train.ids[:, 1] == 0)
    assert schema.splits["train"].positives == train.positives == train.labels.sum()


@pytest.mark.parametrize(
    "wrong",
    [
        {"cardinalities": (1, 5)},
        {"cardinalities": (5,), "order": 2},
        {"ranks": (1, 2)},
        {"exponents": (1.0,)},
        {"base_rate": 1.0},
        {"order": 4},
        {"rows": 9},
    ],
)
def test_impossible_plans_are_refused(wrong):
    with pytest.raises(ValidationError):
        PlantedClicks(**wrong)


def test_a_dataset_is_not_overwritten_by_accident(tmp_path):
    write_planted(tmp_path / "dataset", PlantedClicks(rows=100))

    with pytest.raises(DataError, match="must not exist unless overwrite"):
        write_planted(tmp_path / "dataset", PlantedClicks(rows=200))

    schema = write_planted(tmp_path / "dataset", PlantedClicks(rows=200), overwrite=True)
    assert Schema.load(tmp_path / "dataset") == schema
