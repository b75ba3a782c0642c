"""Training on a GPU: recorded steps do what unrecorded ones do, and both what a CPU does."""

import pytest
import torch
from test_training import config, dataset, planted  # noqa: F401 - fixtures

from multiembed.models.click_model import ClickModel
from multiembed.models.interactions.architectures import ARCHITECTURES
from multiembed.training import step as stepping
from multiembed.training.step import TrainingStep

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

CUDA = torch.device("cuda")
STEPS = 12


def trained(dataset, architecture="dcnv2", *, device=CUDA, options=None, **training):  # noqa: F811
    training = config(batch_size=256, device=device.type, **training).training
    torch.manual_seed(0)
    kind = ARCHITECTURES[architecture](**(options or {}))
    model = ClickModel(kind, dataset.cardinalities, dim=5, sets=3).to(device).train()
    step = TrainingStep(model, training, device)
    for batch, _ in zip(dataset.split("train").batches(256, seed=1), range(STEPS), strict=False):
        step(batch, training.learning_rate)
    step.tables.flush()
    return step


def without_dropout(architecture):
    return {"dropout": 0.0} if "dropout" in ARCHITECTURES[architecture].model_fields else {}


@pytest.mark.parametrize("tables", ["deferred_adam", "dense_adam"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_recorded(dataset, monkeypatch, architecture, precision, tables):  # noqa: F811
    options = without_dropout(architecture)
    training = {"precision": precision, "table_optimizer": tables, "gradient_clip": 1.0}
    recorded = trained(dataset, architecture, options=options, **training)
    monkeypatch.setattr(stepping, "EAGER_STEPS", 10**9)
    eager = trained(dataset, architecture, options=options, **training)

    assert recorded._recorded is not None
    assert eager._recorded is None
    torch.testing.assert_close(recorded.loss_sum, eager.loss_sum, rtol=1e-4, atol=0)
    ours, theirs = recorded.model.embedding.weight, eager.model.embedding.weight
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize(
    ("regularizers", "recorded"),
    [({"aligned_norms": 1.0, "unitary": 1e-5}, True), ({"singular_spread": 1e-3}, False)],
)
def test_steps_that_wait_for_the_device_are_not_recorded(dataset, regularizers, recorded):  # noqa: F811
    step = trained(dataset, regularizers=regularizers)

    assert (step._recorded is not None) == recorded
    assert torch.isfinite(step.loss_sum)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_gpu_trains_as_a_cpu_does(dataset, architecture):  # noqa: F811
    options = without_dropout(architecture)
    gpu = trained(dataset, architecture, options=options)
    cpu = trained(dataset, architecture, options=options, device=torch.device("cpu"))

    torch.testing.assert_close(gpu.loss_sum.cpu(), cpu.loss_sum, rtol=1e-4, atol=0)
    ours, theirs = (step.model.embedding.weight.detach().cpu() for step in (gpu, cpu))
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-3


def test_random_numbers_of_a_recorded_step_are_new_at_every_replay(dataset):  # noqa: F811
    step = trained(dataset, precision="bfloat16")
    batch = next(dataset.split("train").batches(256))
    losses = []
    for _ in range(3):
        step.loss_sum.zero_()
        step(batch, 1e-30)
        losses.append(float(step.loss_sum))

    assert len(set(losses)) == 3


def test_another_learning_rate_reaches_a_recorded_step(dataset):  # noqa: F811
    step = trained(dataset)
    weight = next(p for p in step.adam._parameters.values())
    batch = next(dataset.split("train").batches(256))
    moved = []
    for rate in (1e-3, 1e-30):
        before, table = weight.detach().clone(), step.model.embedding.weight.detach().clone()
        step(batch, rate)
        step.tables.flush()
        moved.append((weight != before).any() | (step.model.embedding.weight != table).any())

    assert [bool(one) for one in moved] == [True, False]
