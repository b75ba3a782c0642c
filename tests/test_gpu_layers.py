"""Hidden layers for GPUs, and what leads there.

Without a GPU, Triton's interpreter runs their kernels.
"""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_by_hand import torch_s

from multiembed.kernels.route import fast_form
from multiembed.models.layers import SetBlock

pytest.importorskip("triton", reason="triton is not installed: 300 MB that only GPUs need")
from multiembed.kernels.gpu.gpu_cross import cross_on_gpu
from multiembed.kernels.gpu.gpu_hidden import hidden_layer_on_gpu

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SETS, WIDTH, OUTPUTS = 3, 35, 21
needs_gpu = pytest.mark.skipif(DEVICE == "cpu", reason="there is no GPU")


@pytest.fixture(autouse=DEVICE == "cpu")
def bits_are_rounded(monkeypatch):
    """Let the interpreter round to bfloat16 as GPUs do, where it cuts bits off."""
    import triton.language as tl
    from triton.runtime import interpreter

    cut = interpreter._convert_float

    def convert(numbers, source, target, rounding):
        if (source, target) != (tl.float32, tl.bfloat16):
            return cut(numbers, source, target, rounding)
        narrow = torch.tensor(numbers).bfloat16()
        return narrow.view(torch.int16).numpy().view(np.uint16)

    monkeypatch.setattr(interpreter, "_convert_float", convert)


def error(found, exact):
    return ((found.double() - exact).norm() / exact.norm()).item()


def as_exact_as_autocast(found, torch_s, exact):
    for ours, theirs, best in zip(found, torch_s, exact, strict=True):
        assert ours.shape == best.shape
        assert error(ours, best) < 2.5 * error(theirs, best) + 2e-3


def in_double(tensors):
    return [tensor.detach().double().requires_grad_() for tensor in tensors]


def network(*, own=SETS, batch=70, layers=3, width=WIDTH):
    torch.manual_seed(0)
    x0 = torch.randn(SETS, batch, width, device=DEVICE).transpose(0, 1).requires_grad_()
    shapes = [(own, width, width)] * layers + [(own, width)] * layers
    parameters = [torch.randn(shape, device=DEVICE) / shape[-1] ** 0.5 for shape in shapes]
    return [x0, *(parameter.requires_grad_() for parameter in parameters)]


def crossed(x0, *parameters):
    layers = len(parameters) // 2
    return cross_on_gpu(x0, parameters[:layers], parameters[layers:])


def padded_with(garbage, gradient):
    """The same gradient, cut from rows of 64."""
    batch, sets, width = gradient.shape
    rows = gradient.new_full((sets, batch, -(-width // 32) * 32), garbage)
    cut = rows[..., :width].transpose(0, 1)
    return cut.copy_(gradient)


def block(*, own=SETS, batch_norm=True, dropout=0.0, outputs=OUTPUTS):
    torch.manual_seed(1)
    layer = SetBlock(own, WIDTH, outputs, dropout=dropout, batch_norm=batch_norm).to(DEVICE)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter))
    return layer


def applied(layer, inputs):
    of_norm = layer.norm.parameters() if layer.norm else []
    parameters = [*layer.linear.parameters(), *of_norm]
    return hidden_layer_on_gpu(layer.layer(inputs.shape[1]), inputs, parameters)


def rows(batch, dtype=torch.float32):
    x = 2 * torch.randn(SETS, batch, WIDTH, device=DEVICE) + 1
    return x.to(dtype).transpose(0, 1).requires_grad_()


def sources(layer, x):
    """What gets a gradient. The bias before a batch norm changes nothing."""
    named = dict(layer.named_parameters())
    if layer.norm is not None:
        del named["linear.bias"]
    return [x, *named.values()]


@pytest.mark.parametrize("own", [1, SETS], ids=["shared", "own"])
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(
    ("batch", "outputs"), [(70, OUTPUTS), pytest.param(200, 72, marks=needs_gpu)]
)
def test_a_hidden_layer_and_gradients_are_as_exact_as_autocast_makes_torch_s(
    own, batch_norm, batch, outputs
):
    layer, x = block(own=own, batch_norm=batch_norm, outputs=outputs), rows(batch)
    theirs, exact = copy.deepcopy(layer), copy.deepcopy(layer).double()
    (wide,) = in_double([x])
    direction = torch.randn(batch, SETS, outputs, device=DEVICE)

    output, (best, _) = applied(layer, x), torch_s(exact, wide)
    with torch.autocast(DEVICE, torch.bfloat16):
        mapped = theirs.linear(x)
        expected = F.relu(theirs.norm(mapped) if batch_norm else mapped)

    assert output.dtype == torch.bfloat16
    found = torch.autograd.grad(output, sources(layer, x), direction.bfloat16())
    torch_gradients = torch.autograd.grad(expected, sources(theirs, x), direction)
    gradients = torch.autograd.grad(best, sources(exact, wide), direction.double())
    as_exact_as_autocast([output, *found], [expected, *torch_gradients], [best, *gradients])
    assert all(gradient.dtype == torch.float32 for gradient in found)


def test_the_bias_before_a_batch_norm_has_a_gradient_of_zero():
    layer = block()

    applied(layer, rows(70)).square().sum().backward()

    assert layer.linear.bias.grad.shape == layer.linear.bias.shape
    assert not layer.linear.bias.grad.any()


@pytest.mark.parametrize("own", [1, SETS], ids=["shared", "own"])
def test_running_statistics_are_those_of_torch(own):
    layer = block(own=own)
    norms = [torch.nn.BatchNorm1d(OUTPUTS, momentum=1.0, device=DEVICE) for _ in range(own)] * SETS

    for batch in (70, 130):
        x = rows(batch)
        applied(layer, x)
        for m, norm in enumerate(norms[:SETS]):
            weight, bias = layer.linear.weight[m % own], layer.linear.bias[m % own]
            mapped = x[:, m].bfloat16() @ weight.bfloat16().T
            norm(mapped.float() + bias)
            norm.momentum = 0.1

    for m in range(own):
        mean, var = layer.norm.running_mean[m], layer.norm.running_var[m]
        torch.testing.assert_close(mean, norms[m].running_mean, rtol=2e-4, atol=2e-4)
        torch.testing.assert_close(var, norms[m].running_var, rtol=2e-4, atol=2e-4)


def test_statistics_are_exact_where_the_mean_is_far_from_zero():
    layer = block()
    with torch.no_grad():
        layer.linear.weight.copy_(torch.eye(OUTPUTS, WIDTH))
    x = (torch.randint(-4, 4, (1100, SETS, WIDTH), device=DEVICE) + 200).bfloat16()

    output = applied(layer, x)

    kept = x[..., :OUTPUTS].double()
    var, mean = torch.var_mean(kept, dim=0)
    biased = kept.var(dim=0, correction=0)
    torch.testing.assert_close(layer.norm.running_var.double(), var, rtol=1e-5, atol=0)
    expected_mean = (mean + layer.linear.bias).float()
    torch.testing.assert_close(layer.norm.running_mean, expected_mean, rtol=1e-6, atol=0)
    rate = (biased + layer.norm.eps).rsqrt()
    best = ((kept - mean) * rate * layer.norm.weight + layer.norm.bias).relu()
    assert error(output, best) < 3e-3


@pytest.mark.parametrize(
    "share", [0.2, *(pytest.param(share, marks=needs_gpu) for share in (0.001, 0.5, 0.9))]
)
def test_a_share_of_the_units_is_dropped_apart_from_their_neighbours(share):
    layer = SetBlock(2, 1, 401, dropout=share, batch_norm=False).to(DEVICE)
    torch.nn.init.zeros_(layer.linear.weight)
    torch.nn.init.ones_(layer.linear.bias)

    found = applied(layer, torch.ones(1200, 2, 1, device=DEVICE)).detach()

    dropped = (found == 0).double()
    deviation = (share * (1 - share) / dropped.numel()) ** 0.5
    assert dropped.mean().item() == pytest.approx(share, abs=4 * deviation + 2**-17)
    kept = found[found > 0].unique()
    assert len(kept) == 1
    assert kept.item() * (1 - share) == pytest.approx(1, rel=2**-8)
    steps = [(dropped[by:], dropped[:-by]) for by in (1, 16, 32, 128)]
    columns = [(dropped[..., by:], dropped[..., :-by]) for by in (1, 64)]
    for one, other in [*steps, *columns, (dropped[:, 0], dropped[:, 1])]:
        together = ((one - share) * (other - share)).mean().item()
        assert abs(together) < 5 * share * (1 - share) / one.numel() ** 0.5


def test_gradients_pass_where_units_were_kept_and_the_seed_decides_which():
    layer, x = block(batch_norm=False, dropout=0.25), rows(200)
    whole = applied(block(batch_norm=False), x)
    found = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        output = applied(layer, x)
        output.backward(torch.ones_like(output))
        found.append((output.detach(), layer.linear.bias.grad))
        layer.zero_grad()

    (output, of_bias), again, other = found
    assert torch.equal(output, again[0])
    assert torch.equal(of_bias, again[1])
    assert not torch.equal(output == 0, other[0] == 0)
    kept = output != 0
    assert 0.2 < 1 - kept.sum() / (whole > 0).sum() < 0.3
    assert not (kept & (whole <= 0)).any()
    torch.testing.assert_close(output.float(), (whole / 0.75 * kept).float(), rtol=2**-7, atol=0)
    torch.testing.assert_close(of_bias, kept.sum(dim=0) / 0.75)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_an_expanded_gradient_and_garbage_in_padding_do_no_harm(batch_norm):
    layer, x = block(batch_norm=batch_norm, dropout=0.1), rows(70)
    output = applied(layer, x)
    expanded = torch.randn(70, 1, OUTPUTS, device=DEVICE).expand(-1, SETS, -1)
    direction = torch.randn(output.shape, device=DEVICE).bfloat16()

    for gradient, same in (
        (expanded, expanded.contiguous()),
        (padded_with(float("nan"), direction), direction),
    ):
        found, expected = (
            torch.autograd.grad(output, [x, *layer.parameters()], either, retain_graph=True)
            for either in (gradient, same)
        )
        for ours, theirs in zip(found, expected, strict=True):
            assert torch.equal(ours, theirs)


def test_rows_cut_from_padded_ones_are_read_as_they_lie():
    layer, x = block(), rows(70, torch.bfloat16).detach()
    cut = padded_with(1e3, x).requires_grad_()
    apart = x.contiguous().requires_grad_()

    output, expected = applied(layer, cut), applied(layer, apart)

    assert error(output, expected.double()) < 1e-5
    gradients = [
        torch.autograd.grad(either.float().square().sum(), either_rows)[0]
        for either, either_rows in ((output, cut), (expected, apart))
    ]
    assert gradients[0].dtype == torch.bfloat16
    assert error(gradients[0], gradients[1].double()) < 1e-5


def test_a_cross_network_and_its_projection_hand_padded_rows_to_each_other():
    inputs, layer = network(), block()
    output = applied(layer, crossed(*inputs))
    taken = []
    crossed_rows = crossed(*inputs)
    crossed_rows.register_hook(taken.append)

    applied(layer, crossed_rows).sum().backward()

    assert output.shape == (70, SETS, OUTPUTS)
    (gradient,) = taken
    assert gradient.stride() == crossed_rows.stride() == (64, 70 * 64, 1)


def test_a_cpu_never_needs_triton():
    with torch.autocast("cpu", torch.bfloat16):
        form = fast_form("cross", torch.ones(2, 2, 2), torch.ones(2, 2, 2), training=True)

    assert form.__name__ == "cross_on_cpu"


@needs_gpu
def test_on_a_gpu_autocast_in_training_leads_here():
    x0, *parameters = network()
    layer = block()
    with torch.autocast("cuda", torch.bfloat16):
        assert fast_form("cross", x0, parameters[0], training=True) is cross_on_gpu
        assert fast_form("cross", x0, parameters[0], training=False) is None
        assert "GpuHidden" in layer(x0).grad_fn.name()
        assert "GpuHidden" not in layer.eval()(x0).grad_fn.name()
    assert fast_form("cross", x0, parameters[0], training=True) is None


@needs_gpu
def test_a_cuda_graph_holds_a_step_and_draws_anew():
    inputs, layer = network(), block(dropout=0.5)

    def step():
        output = applied(layer, crossed(*inputs))
        return output, torch.autograd.grad(output.float().sum(), inputs)

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output, gradients = step()
    graph.replay()
    first = output.clone()
    graph.replay()

    assert not torch.equal(first == 0, output == 0)
    assert all(gradient.isfinite().all() for gradient in gradients)
