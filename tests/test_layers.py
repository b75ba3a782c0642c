"""Layers with a sets axis against torch's own, one per set."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from multiembed.models.layers import SetBatchNorm, SetBlock, SetLinear, set_linear, set_mlp

SETS = 3


@pytest.fixture
def inputs() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(8, SETS, 4)


def test_a_linear_layer_maps_every_set_by_its_own_weights(inputs):
    layer = SetLinear(SETS, 4, 5)

    mapped = layer(inputs)

    for m in range(SETS):
        torch.testing.assert_close(mapped[:, m], inputs[:, m] @ layer.weight[m].T + layer.bias[m])


@pytest.mark.parametrize("bias", [False, True])
def test_a_shared_linear_layer_serves_any_number_of_sets(inputs, bias):
    layer = SetLinear(1, 4, 5, bias=bias)

    mapped = layer(inputs)

    expected = inputs @ layer.weight[0].T + (layer.bias[0] if bias else 0)
    torch.testing.assert_close(mapped, expected)


def test_a_linear_map_may_go_without_a_bias(inputs):
    weight = torch.randn(SETS, 5, 4)

    torch.testing.assert_close(
        set_linear(inputs, weight), torch.einsum("bsi,soi->bso", inputs, weight)
    )


@pytest.mark.parametrize("bias", [False, True])
def test_the_batched_product_of_other_devices_has_the_same_shape(bias):
    layer = SetLinear(SETS, 4, 5, bias=bias).to("meta")

    assert layer(torch.empty(8, SETS, 4, device="meta")).shape == (8, SETS, 5)


def test_a_linear_layer_begins_as_torch_s_does():
    torch.manual_seed(0)

    layer = SetLinear(2, 100, 400)

    for values in (layer.weight, layer.bias):
        assert values.abs().max() <= 0.1
        assert values.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.05)


@pytest.mark.parametrize("shared", [False, True])
def test_batch_norm_is_torch_s_for_every_set(inputs, shared):
    """A shared one sees set after set, as one torch layer called once per set does."""
    ours = SetBatchNorm(1 if shared else SETS, 4)
    theirs = [nn.BatchNorm1d(4, momentum=1.0) for _ in range(1 if shared else SETS)] * SETS

    for rows, training in ((inputs, True), (3 * inputs + 1, True), (inputs, False)):
        ours.train(training)
        expected = []
        for m in range(SETS):
            expected.append(theirs[m].train(training)(rows[:, m]))
            theirs[m].momentum = 0.1  # the first batch alone replaces what was there

        torch.testing.assert_close(ours(rows), torch.stack(expected, dim=1))


def test_after_one_batch_a_new_batch_norm_evaluates_as_it_trained():
    torch.manual_seed(0)
    rows = 1e-3 * torch.randn(5000, SETS, 4) + 0.1  # small, as mapped embeddings are at first
    ours = SetBatchNorm(SETS, 4)

    trained = ours(rows)

    torch.testing.assert_close(ours.eval()(rows), trained, rtol=1e-3, atol=1e-3)


def test_a_loaded_batch_norm_averages_from_its_first_batch_on(inputs):
    ours, theirs = SetBatchNorm(1, 4), nn.BatchNorm1d(4)
    ours.load_state_dict({name: value.clone() for name, value in ours.state_dict().items()})

    ours(inputs[:, :1]), theirs(inputs[:, 0])

    torch.testing.assert_close(ours.running_mean[0], theirs.running_mean)
    torch.testing.assert_close(ours.running_var[0], theirs.running_var)


def test_a_block_is_linear_norm_relu_dropout(inputs):
    block = SetBlock(SETS, 4, 5, dropout=0.0, batch_norm=True)

    expected = [
        F.relu(nn.BatchNorm1d(5)(inputs[:, m] @ block.linear.weight[m].T + block.linear.bias[m]))
        for m in range(SETS)
    ]

    torch.testing.assert_close(block(inputs), torch.stack(expected, dim=1))


def test_dropout_keeps_the_mean_and_is_off_in_evaluation():
    torch.manual_seed(0)
    block = SetBlock(1, 1, 1, dropout=0.25, batch_norm=False)
    with torch.no_grad():
        block.linear.weight.zero_()
        block.linear.bias.fill_(3.0)
    rows = torch.zeros(20_000, 1, 1)

    trained = block(rows)

    assert trained.unique().tolist() == [0.0, 4.0]
    assert (trained == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert block.eval()(rows).unique().tolist() == [3.0]


def test_no_hidden_sizes_make_the_identity(inputs):
    assert set_mlp(SETS, 4, [], dropout=0.5, batch_norm=True)(inputs) is inputs
