"""Cross layers for GPUs; without a GPU, Triton's interpreter runs their kernels."""

import pytest
import torch
import torch.nn.functional as F

from multiembed.kernels.operations import cross

pytest.importorskip("triton", reason="triton is not installed: 300 MB that only GPUs need")
from test_gpu_layers import (
    DEVICE,
    SETS,
    WIDTH,
    applied,
    as_exact_as_autocast,
    bits_are_rounded,  # noqa: F401
    block,
    crossed,
    error,
    in_double,
    needs_gpu,
    network,
    padded_with,
)

from multiembed.kernels.gpu import gpu_cross_kernels, gpu_hidden_kernels
from multiembed.kernels.gpu.gpu_cross_kernels import chunk, chunks, pad_rows


def plain(x0, *parameters):
    layers = len(parameters) // 2
    return cross(x0, parameters[:layers], parameters[layers:], training=False)


@pytest.mark.parametrize("own", [1, SETS], ids=["shared", "own"])
@pytest.mark.parametrize(
    ("batch", "layers", "width"),
    [
        (70, 3, 35),
        (66, 1, 64),
        pytest.param(300, 1, 35, marks=needs_gpu),
        pytest.param(200, 2, 70, marks=needs_gpu),
    ],
)
def test_cross_layers_and_gradients_are_as_exact_as_autocast_makes_torch_s(
    own, batch, layers, width
):
    inputs = network(own=own, batch=batch, layers=layers, width=width)
    direction = torch.randn(batch, SETS, width, device=DEVICE)
    doubles = in_double(inputs)
    exact = plain(*doubles)

    output = crossed(*inputs)
    with torch.autocast(DEVICE, torch.bfloat16):
        expected = plain(*inputs)

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


@pytest.mark.parametrize("own", [1, SETS], ids=["shared", "own"])
@pytest.mark.parametrize("layers", [1, 3])
def test_embeddings_cut_from_padded_rows_are_read_as_they_lie(own, layers):
    x0, *parameters = network(own=own, layers=layers)
    cut = padded_with(0.0, x0.detach().bfloat16()).requires_grad_()
    apart = cut.detach().float().requires_grad_()
    taken = []
    cut.register_hook(taken.append)

    output, expected = crossed(cut, *parameters), crossed(apart, *parameters)
    direction = torch.randn(output.shape, device=DEVICE).bfloat16()
    kept = output.grad_fn.saved_tensors
    found = torch.autograd.grad(output, [cut, *parameters], direction)
    others = torch.autograd.grad(expected, [apart, *parameters], direction)

    assert torch.equal(output, expected)
    places = {tensor.data_ptr() for tensor in kept if tensor.shape == (own, 210 // own, 64)}
    assert places == {cut.data_ptr()}
    assert torch.equal(found[0], others[0].bfloat16())
    for ours, theirs in zip(found[1:], others[1:], strict=True):
        assert torch.equal(ours, theirs)
    (gradient,) = taken
    assert gradient.stride() == (64, 70 * 64, 1)
    assert not gradient.as_strided((SETS, 70, 29), (70 * 64, 64, 1), WIDTH).any()


@pytest.mark.parametrize("own", [1, SETS], ids=["shared", "own"])
def test_sums_of_short_parts_are_those_of_long_ones(own, monkeypatch):
    inputs, layer = network(own=own, batch=140, layers=2), block(own=own)
    tensors = [*inputs, *layer.parameters()]
    found = []
    for length in (64, 256):
        for module in (gpu_cross_kernels, gpu_hidden_kernels):
            monkeypatch.setattr(module, "chunk", lambda rows, sets, length=length: length)
        output = applied(layer, crossed(*inputs))
        found.append([output, *torch.autograd.grad(output.float().square().sum(), tensors)])

    for other in found[1:]:
        for ours, theirs in zip(other, found[0], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=theirs.abs().max().item() / 99)


@pytest.mark.parametrize(
    ("rows", "sets", "expected"),
    [(1, 1, 64), (2048, 10, 64), (8192, 10, 256), (65_536, 10, 512), (655_360, 1, 512)],
)
def test_few_rows_are_summed_in_short_parts_and_many_in_long_ones(rows, sets, expected):
    assert chunk(rows, sets) == expected
    assert chunks(rows, sets) == -(-rows // expected)


def test_matrices_of_any_strides_are_padded_on_every_side():
    wide = torch.randn(SETS, 40, 71, device=DEVICE)
    matrices = [wide[:, :33, :35], wide[:, 1:34, ::2][..., :35], wide[:, 5:38, 35:70].clone()]
    out = torch.full((3, SETS, 64, 64), float("nan"), dtype=torch.bfloat16, device=DEVICE)

    pad_rows([matrix.transpose(0, 1) for matrix in matrices], out)

    for padded, matrix in zip(out, matrices, strict=True):
        assert torch.equal(padded, F.pad(matrix, (0, 29, 0, 31)).bfloat16())


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
