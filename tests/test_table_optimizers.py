"""Trainings that differ in their table optimizer alone."""

import pytest
import torch
import torch.nn.functional as F

from multiembed.config import ModelConfig, RunConfig, TrainingConfig
from multiembed.tables.interface import TableOptimizer
from multiembed.tables.table_optimizers import TABLE_OPTIMIZERS
from multiembed.testing.planted_clicks import PlantedClicks, write_planted
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


class Reference(TableOptimizer):
    """Updates the whole table by its dense gradient, or as one of torch's own optimizers does."""

    sparse = False

    def lookup(self, ids):
        weight = self.embedding.weight
        gathered = F.embedding(self.embedding.rows(ids), weight, sparse=self.sparse)
        return self.embedding.arrange(gathered, ids)

    def gradients(self):
        return [self.embedding.weight.grad]

    def flush(self):
        pass

    def state(self):
        return {}

    def load_state(self, state):
        raise NotImplementedError


class TorchSparseAdam(Reference):
    sparse = True

    def __init__(self, embedding, *, learning_rate, weight_decay):
        super().__init__(embedding, learning_rate=learning_rate, weight_decay=weight_decay)
        self.torch_s = torch.optim.SparseAdam([embedding.weight], lr=learning_rate)

    def step(self):
        self.torch_s.step()
        self.torch_s.zero_grad()


class DenseRowWiseAdagrad(Reference):
    """`w -= lr g / (sqrt(sum of mean(g^2)) + 1e-8)`: rows without a gradient stay as they are."""

    sums = 0.0

    def step(self):
        weight = self.embedding.weight
        with torch.no_grad():
            self.sums = self.sums + weight.grad.square().mean(dim=1, keepdim=True)
            weight -= self.learning_rate * weight.grad / (self.sums.sqrt() + 1e-8)
        weight.grad = None


@pytest.mark.parametrize(
    ("name", "reference"),
    [("lazy_adam", TorchSparseAdam), ("rowwise_adagrad", DenseRowWiseAdagrad)],
)
def test_optimizers_of_touched_rows_train_as_their_definitions_do(
    float64, tmp_path, monkeypatch, name, reference
):
    write_planted(tmp_path / "data", PlantedClicks(cardinalities=(300, 40, 5), ranks=2, rows=4000))
    ours = records(tmp_path, name, embedding_weight_decay=0.0)
    dense = records(tmp_path, "dense_adam", embedding_weight_decay=0.0)[-1]
    monkeypatch.setitem(TABLE_OPTIMIZERS._entries, "deferred_adam", reference)

    theirs = records(tmp_path, "deferred_adam", embedding_weight_decay=0.0)

    assert len(ours) == len(theirs) == 4
    for own, true in zip(ours, theirs, strict=True):
        for measure in ("auc", "log_loss", "train_loss", "mean_information_abundance"):
            assert own[measure] == pytest.approx(true[measure], rel=1e-6), measure
    assert ours[-1]["train_loss"] != pytest.approx(dense["train_loss"], rel=1e-3)
