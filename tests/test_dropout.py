"""Dropout against what it must do on average, and its random numbers against torch's rules."""

import pytest
import torch

from multiembed.kernels.operations import dropout


@pytest.mark.parametrize("share", [0.0001, 0.2, 0.5, 0.999])
def test_a_share_of_the_units_is_dropped_and_the_mean_stays(share):
    torch.manual_seed(0)
    units = 1_000_003

    found = dropout(torch.ones(units), share, training=True)

    deviation = (share * (1 - share) / units) ** 0.5
    dropped = (found == 0).double().mean().item()
    assert dropped == pytest.approx(share, abs=4 * deviation + 2**-17)
    (kept,) = found[found > 0].unique().tolist()
    assert kept * (1 - share) == pytest.approx(1, rel=2**-17 / (1 - share))


def test_units_are_dropped_apart_from_their_neighbours():
    """Four units share one random number of 64 bits: each must still be on its own."""
    torch.manual_seed(0)
    dropped = dropout(torch.ones(250_000, 4), 0.2, training=True) == 0

    together = dropped.double().T.corrcoef()
    next_row = torch.stack([dropped[:-1].flatten(), dropped[1:].flatten()]).double().corrcoef()

    assert (together - torch.eye(4)).abs().max() < 4 * 250_000**-0.5
    assert next_row[0, 1].abs() < 4 * 1_000_000**-0.5


def test_the_gradient_flows_where_units_were_kept():
    torch.manual_seed(0)
    hidden = torch.randn(50, 3, 7, dtype=torch.double).transpose(0, 1).requires_grad_()

    found = dropout(hidden, 0.25, training=True)
    (gradient,) = torch.autograd.grad(found.sum(), hidden)

    torch.testing.assert_close(gradient * hidden, found)
    assert set(gradient.unique().tolist()) == {0.0, 1 / 0.75}


def test_the_state_of_torch_s_generator_decides_all_of_it():
    hidden = torch.ones(1000)
    state = torch.get_rng_state()
    first, second = (dropout(hidden, 0.5, training=True) for _ in range(2))
    torch.set_rng_state(state)

    assert torch.equal(dropout(hidden, 0.5, training=True), first)
    assert torch.equal(dropout(hidden, 0.5, training=True), second)
    assert not torch.equal(first, second)


def test_evaluation_and_a_share_of_nothing_leave_all_as_it_is():
    hidden = torch.randn(100)

    assert torch.equal(dropout(hidden, 0.9, training=False), hidden)
    assert torch.equal(dropout(hidden, 0.0, training=True), hidden)
    assert dropout(torch.ones(0, 4), 0.5, training=True).shape == (0, 4)
