"""Trainings that differ in their table optimizer alone."""

import pytest
import torch

from multiembed.config import ModelConfig, RunConfig, TrainingConfig
from multiembed.data.synthetic import PlantedClicks, write_planted
from multiembed.training.start import train


@pytest.fixture
def float64():
    """Train in float64: rounding grows to visible differences within a few dozen steps."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def records(folder, name, **training):
    model = ModelConfig(dim=6, sets=2, options={"hidden": [16, 8]})
    settings = TrainingConfig(
        table_optimizer=name, batch_size=128, max_epochs=4, patience=4, threads=1, **training
    )
    config = RunConfig(model=model, training=settings)
    return train(config, dataset=folder / "data", run=folder / name).records


@pytest.mark.parametrize("training", [{}, {"weight_decay": 1e-4, "learning_rate_decay": 0.5}])
def test_deferred_adam_is_dense_adam_at_every_epoch(float64, tmp_path, training):
    write_planted(tmp_path / "data", PlantedClicks(cardinalities=(300, 40, 5), ranks=2, rows=4000))

    dense = records(tmp_path, "dense_adam", **training)
    deferred = records(tmp_path, "deferred_adam", **training)

    assert len(dense) == len(deferred) == 4
    for ours, theirs in zip(deferred, dense, strict=True):
        for measure in ("auc", "log_loss", "train_loss", "mean_information_abundance"):
            assert ours[measure] == pytest.approx(theirs[measure], rel=1e-6), measure


def test_lazy_adam_and_adagrad_are_something_else(float64, tmp_path):
    write_planted(tmp_path / "data", PlantedClicks(cardinalities=(300, 40, 5), ranks=2, rows=4000))
    dense = records(tmp_path, "dense_adam")[-1]

    for name in ("lazy_adam", "rowwise_adagrad"):
        assert abs(records(tmp_path, name)[-1]["train_loss"] / dense["train_loss"] - 1) > 1e-6
