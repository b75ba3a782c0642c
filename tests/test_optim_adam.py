"""Adam of dense parameters, against `torch.optim.Adam`."""

import torch

from multiembed.tables.adam import Adam


def parameters():
    torch.manual_seed(0)
    shapes = {"weight": (5, 3), "bias": (5,), "idle": (2,)}
    return {name: torch.randn(shape, requires_grad=True) for name, shape in shapes.items()}


def slope(own, step):
    loss = (own["weight"].sin() * step).sum() + (own["bias"] - step).square().sum()
    loss.backward()


def test_steps_are_torch_adams_bit_for_bit_while_the_learning_rate_moves():
    own, other = parameters(), parameters()
    ours = Adam(own, learning_rate=0.1, weight_decay=0.01)
    theirs = torch.optim.Adam(other.values(), lr=0.1, weight_decay=0.01, fused=True)

    for step in range(1, 9):
        ours.learning_rate = theirs.param_groups[0]["lr"] = 0.1 / step
        slope(own, step)
        ours.step()
        slope(other, step)
        theirs.step()
        theirs.zero_grad()

    for name, parameter in own.items():
        assert torch.equal(parameter, other[name]), name
    assert torch.equal(own["idle"], parameters()["idle"])
    assert ours.gradients() == []


def test_it_goes_on_from_its_state_bit_for_bit():
    straight, first = parameters(), parameters()
    whole = Adam(straight, learning_rate=0.1, weight_decay=0.01)
    half = Adam(first, learning_rate=0.1, weight_decay=0.01)
    for step in range(1, 7):
        slope(straight, step)
        whole.step()
    for step in range(1, 4):
        slope(first, step)
        half.step()

    second = {name: p.detach().clone().requires_grad_() for name, p in first.items()}
    rest = Adam(second, learning_rate=0.1, weight_decay=0.01)
    rest.load_state({name: tensor.clone() for name, tensor in half.state().items()})
    for step in range(4, 7):
        slope(second, step)
        rest.step()

    for name, parameter in straight.items():
        assert torch.equal(second[name], parameter), name
