"""Fast forms of operations against plain torch: whole models, and values at the edge."""

import importlib

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from multiembed.config import TrainingConfig
from multiembed.data.store.shards import Batch
from multiembed.kernels.operations import dropout, dropped_levels
from multiembed.kernels.route import ROUTES, fast_form
from multiembed.kernels.setting import chosen_kernels, using_kernels
from multiembed.models.click_model import ClickModel
from multiembed.models.interactions.architectures import ARCHITECTURES
from multiembed.models.layers import SetBlock
from multiembed.models.naming import named_architecture
from multiembed.training.step import TrainingStep

CARDINALITIES, ROWS = (50, 7, 30), 64
NEAR_ONE = 0.999995
every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)
every_number_of_sets = pytest.mark.parametrize("sets", [1, 3])
every_form = pytest.mark.parametrize("kernels", ["auto", "torch"])


def model(name, sets):
    torch.manual_seed(0)
    options = {"dropout": 0.0} if "dropout" in ARCHITECTURES[name].model_fields else {}
    built = ClickModel([(named_architecture(name, options), sets)], CARDINALITIES, dim=4)
    torch.nn.init.normal_(built.embedding.weight, std=0.3)
    return built.train()


def some_ids(rows=ROWS):
    random = np.random.default_rng(rows)
    return torch.from_numpy(np.stack([random.integers(0, c, rows) for c in CARDINALITIES], 1))


@every_architecture
@every_number_of_sets
def test_gradients_are_those_of_plain_torch(name, sets):
    found = []
    for kernels in ("auto", "torch"):
        with using_kernels(kernels):
            ours = model(name, sets)
            loss = F.binary_cross_entropy_with_logits(ours(some_ids()), torch.ones(ROWS))
            named = dict(ours.named_parameters())
            found.append(torch.autograd.grad(loss, list(named.values()), allow_unused=True))

    # A bias before a batch norm changes nothing: its gradient is rounding.
    whole = torch.cat([part.flatten() for part in found[1] if part is not None]).norm()
    for ours, torch_s in zip(*found, strict=True):
        assert (ours is None) == (torch_s is None)
        if torch_s is not None:
            assert (ours - torch_s).norm() <= 1e-5 * max(torch_s.norm(), 1e-2 * whole)


@every_architecture
def test_a_training_in_plain_torch_reaches_the_same_loss(name):
    losses = []
    for kernels in ("auto", "torch"):
        training = TrainingConfig(batch_size=ROWS, kernels=kernels)
        with using_kernels(training.kernels):
            step = TrainingStep(model(name, 2), training, torch.device("cpu"))
            for number in range(5):
                ids = some_ids(ROWS + number).to(torch.int32).numpy()
                step(Batch(ids=ids, labels=(ids[:, 0] % 2).astype(np.uint8)), 1e-3)
        losses.append(float(step.loss_sum))

    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@every_form
@every_architecture
def test_a_model_in_float64_runs_on_either(name, kernels):
    ours = model(name, 2).double()
    with using_kernels(kernels):
        logits = ours(some_ids())
        logits.sum().backward()

    assert logits.dtype == torch.float64
    assert ours.embedding.weight.grad.isfinite().all()


def test_the_setting_ends_with_its_block_even_after_an_error():
    inputs = torch.ones(2, 1, 3)
    with pytest.raises(RuntimeError, match="stop"), using_kernels("torch"):
        assert fast_form("cross", inputs, inputs, training=True) is None
        raise RuntimeError("stop")

    assert chosen_kernels() == "auto"
    assert fast_form("cross", inputs, inputs, training=True) is not None


def test_every_form_of_the_table_is_there():
    for form in (form for forms in ROUTES.values() for form in forms):
        module, _, function = form.function.partition(":")
        if ".gpu." in module:
            pytest.importorskip("triton")
        assert callable(getattr(importlib.import_module(module), function))


# --- values at the edge


@every_form
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("share", [0.0, 2**-18, 0.5, NEAR_ONE])
def test_a_hidden_layer_takes_every_share(kernels, share, batch_norm):
    torch.manual_seed(0)
    block = SetBlock(2, 4, 3, dropout=share, batch_norm=batch_norm).train()
    inputs = torch.randn(6, 2, 4, requires_grad=True)

    with using_kernels(kernels):
        output = block(inputs)
        output.sum().backward()

    assert output.isfinite().all()
    assert inputs.grad.isfinite().all()


@every_form
def test_dropout_near_one_keeps_the_mean(kernels):
    torch.manual_seed(0)
    units = 1 << 21
    kept = 1 - dropped_levels(NEAR_ONE) / 2**16 if kernels == "auto" else 1 - NEAR_ONE

    with using_kernels(kernels):
        found = dropout(torch.ones(units), NEAR_ONE, training=True)

    assert found.max().item() == pytest.approx(1 / kept, rel=1e-6)
    assert abs(found.mean().item() - 1) < 5 / (kept * units) ** 0.5


@every_form
def test_one_unit_and_one_row_are_a_layer(kernels):
    torch.manual_seed(0)
    block, inputs = SetBlock(1, 1, 1, dropout=0.0, batch_norm=False).train(), torch.ones(1, 1, 1)

    with using_kernels(kernels):
        output = block(inputs)

    weight, bias = block.linear.parameters()
    torch.testing.assert_close(output.flatten(), (weight + bias).flatten().relu())


@every_form
def test_one_field_one_number_and_one_row_make_a_model(kernels):
    for name in set(ARCHITECTURES) - {"ipnn", "ffm"}:
        options = {"batch_norm": False} if "batch_norm" in ARCHITECTURES[name].model_fields else {}
        ours = ClickModel(named_architecture(name, options), (2,), dim=1).train()
        with using_kernels(kernels):
            ours(torch.zeros(1, 1, dtype=torch.long)).sum().backward()
        assert ours.embedding.weight.grad.isfinite().all()


@every_form
def test_no_rows_are_scored_as_none(kernels):
    for name in ARCHITECTURES:
        with using_kernels(kernels), torch.no_grad():
            logits = model(name, 2).eval()(torch.zeros(0, 3, dtype=torch.long))
        assert logits.shape == (0,)


def test_a_hidden_layer_on_a_gpu_takes_a_share_near_one():
    """Without a GPU, Triton's interpreter runs the kernels."""
    pytest.importorskip("triton")
    from multiembed.kernels.gpu.gpu_hidden import hidden_layer_on_gpu

    device = "cuda" if torch.cuda.is_available() else "cpu"
    block = SetBlock(1, 4, 3, dropout=NEAR_ONE, batch_norm=False).to(device).train()
    inputs = torch.randn(6, 1, 4, device=device, requires_grad=True)
    output = hidden_layer_on_gpu(block.layer(1), inputs, list(block.linear.parameters()))
    output.float().sum().backward()

    assert output.isfinite().all()
    assert inputs.grad.isfinite().all()
