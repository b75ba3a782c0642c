"""One entry is enough, of what models and trainings are made of.

Measures, verdicts and checkpoint layouts are in test_one_entry.py, raw and output formats in
test_data_formats.py, trackers in test_trackers.py, export formats in test_export.py, items of the
paper in test_reproduce.py.
"""

import pytest
import torch

from multiembed.config import ModelConfig, RunConfig, TrainingConfig, parse_config
from multiembed.models.budget import sized_models
from multiembed.models.interactions.architectures import ARCHITECTURES
from multiembed.models.interactions.dnn import Dnn
from multiembed.models.naming import REGULARIZERS
from multiembed.runs.run import load_run
from multiembed.tables.table_optimizers import TABLE_OPTIMIZERS
from multiembed.testing.contracts import InteractionContract
from multiembed.testing.planted_clicks import PlantedClicks, write_planted
from multiembed.training.start import train


@pytest.fixture(scope="module")
def clicks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clicks") / "data"
    write_planted(folder, PlantedClicks(cardinalities=(20, 8), ranks=2, rows=1000))
    return folder


def brief(architecture="dnn", options=None, **training):
    model = ModelConfig(architecture=architecture, dim=2, options=options or {"hidden": [4]})
    protocol = TrainingConfig(max_epochs=1, batch_size=100, threads=1, **training)
    return RunConfig(model=model, training=protocol)


class Squared(Dnn):
    """Somebody's own architecture: ReLU layers on powers of the embeddings."""

    power: int = 2

    def interaction(self, *, fields, dim, sets):
        plain = super().interaction(fields=fields, dim=dim, sets=sets)
        plain.register_forward_pre_hook(lambda _, given: (given[0] ** self.power,))
        return plain


class TestSquared(InteractionContract):
    architecture = Squared(hidden=(5, 4), dropout=0)


def test_an_architecture_arrives_in_configurations_runs_and_the_models_table(clicks, tmp_path):
    with ARCHITECTURES.also("squared", Squared):
        options = {"hidden": [4], "power": 3}
        run = train(brief("squared", options), dataset=clicks, run=tmp_path / "run")
        opened = load_run(run.path)
        rows = sized_models([20, 8], architectures=["squared"], sizes=[2], scalings=["multi"])

    assert opened.config.model.options["power"] == 3
    assert isinstance(opened.model.mix[0][0], Squared)
    assert 0 < opened.evaluate("test")["auc"] < 1
    assert [(row.architecture, row.dim, row.sets) for row in rows] == [("squared", 10, 2)]


def test_a_regularizer_arrives_in_the_loss_and_in_the_run(clicks, tmp_path):
    def size(model, embeddings):
        seen.append(embeddings.shape)
        return embeddings.square().mean()

    seen = []
    with REGULARIZERS.also("size", size):
        plain = train(brief(), dataset=clicks, run=tmp_path / "plain")
        held = train(brief(regularizers={"size": 1e4}), dataset=clicks, run=tmp_path / "held")

    assert seen == 8 * [torch.Size([100, 1, 2, 2])]
    assert held.model.embedding.weight.norm() < plain.model.embedding.weight.norm()
    assert "size = 10000.0" in held.directory.config.read_text()


def test_a_table_optimizer_arrives_in_configurations_and_training(clicks, tmp_path):
    class Still(TABLE_OPTIMIZERS["lazy_adam"]):
        """Learns nothing: tables stay as they began."""

        def _update(self, rows, values, gradients):
            updates.append(len(rows))

    updates = []
    with TABLE_OPTIMIZERS.also("still", Still):
        run = train(brief(table_optimizer="still"), dataset=clicks, run=tmp_path / "run")
        read = parse_config({"training": {"table_optimizer": "still"}})

    assert read.training.table_optimizer == "still"
    assert len(updates) == 8
    weight = run.model.embedding.weight
    assert weight.abs().max() <= (6 / sum(weight.shape)) ** 0.5
