"""Cross layers for GPUs; without a GPU, Triton's interpreter runs their kernels."""

import pytest
import torch

from multiembed.models.crossing import _plain

pytest.importorskip("triton", reason="triton is not installed: 300 MB that only GPUs need")
from test_gpu_layers import (
    DEVICE,
    SETS,
    as_exact_as_autocast,
    bits_are_rounded,  # noqa: F401
    both_derivatives,
    crossed,
    error,
    in_double,
    network,
    padded_with,
)


@pytest.mark.parametrize("own", [1, SETS], ids=["shared", "own"])
@pytest.mark.parametrize(
    ("batch", "layers", "width"), [(70, 3, 35), (300, 1, 35), (100, 2, 64), (530, 2, 70)]
)
def test_cross_layers_and_gradients_are_as_exact_as_autocast_makes_torch_s(
    own, batch, layers, width
):
    inputs = network(own=own, batch=batch, layers=layers, width=width)
    direction = torch.randn(batch, SETS, width, device=DEVICE)
    doubles = in_double(inputs)
    exact = _plain(*doubles)

    output = crossed(*inputs)
    with torch.autocast(DEVICE, torch.bfloat16):
        expected = _plain(*inputs)

    assert output.dtype == torch.bfloat16
    found = torch.autograd.grad(output, inputs, direction.bfloat16())
    torch_s = torch.autograd.grad(expected, inputs, direction)
    best = torch.autograd.grad(exact, doubles, direction.double())
    assert all(gradient.dtype == torch.float32 for gradient in found)
    assert all(gradient.is_contiguous() for gradient in found[1:])
    as_exact_as_autocast([output, *found], [expected, *torch_s], [exact, *best])
    assert max(error(*pair) for pair in zip(found, best, strict=True)) < 2e-2


def test_cross_layers_read_embeddings_of_any_precision_and_strides():
    x0, *parameters = network()
    apart = x0.detach().bfloat16().contiguous().requires_grad_()  # the batch first in memory

    output, expected = crossed(apart, *parameters), crossed(apart.float(), *parameters)

    assert torch.equal(output, expected)
    (found,) = torch.autograd.grad(output.sum(), apart)
    assert found.dtype == torch.bfloat16
    (whole,) = torch.autograd.grad(expected.sum(), apart)
    assert torch.equal(found, whole)


@pytest.mark.parametrize("garbage", [float("nan"), 7.0])
def test_what_lies_in_the_padding_of_a_gradient_does_no_harm(garbage):
    inputs = network()
    output = crossed(*inputs)
    direction = torch.randn(output.shape, device=DEVICE).bfloat16()
    cut = padded_with(garbage, direction)

    expected = torch.autograd.grad(output, inputs, direction, retain_graph=True)
    found = torch.autograd.grad(output, inputs, cut)

    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("kind", ["expanded", "float32", "cut at the end", "cut from wider rows"])
def test_gradients_of_a_cross_network_may_have_any_strides(kind):
    inputs = network()
    output = crossed(*inputs)
    batch, sets, width = output.shape
    wide = torch.randn(sets, batch, 64, device=DEVICE).bfloat16()
    gradient = {
        "expanded": wide[:1, :1, :1].expand(output.shape),
        "float32": wide[..., :width].float().transpose(0, 1),
        # The last row's padding would lie behind the end.
        "cut at the end": wide.flatten()[29:].as_strided(output.shape, (64, 64 * batch, 1), 29),
        "cut from wider rows": torch.randn(sets, batch, 96, device=DEVICE)
        .bfloat16()[..., 5 : 5 + width]
        .transpose(0, 1),
    }[kind]

    found = torch.autograd.grad(output, inputs, gradient, retain_graph=True)
    expected = torch.autograd.grad(output, inputs, gradient.clone().contiguous())

    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("own", [1, SETS], ids=["shared", "own"])
def test_cross_layers_can_be_derived_twice(own):
    inputs = network(own=own)
    doubles = in_double(inputs)

    found = both_derivatives(crossed(*inputs), inputs)

    for ours, best in zip(found, both_derivatives(_plain(*doubles), doubles), strict=True):
        assert error(ours, best) < 2e-2
