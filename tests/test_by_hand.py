"""Layers whose gradients are written by hand, against torch's own operators in float64."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from multiembed.base.devices import has_bfloat16_products
from multiembed.kernels.cpu import cpu_cin as cin
from multiembed.kernels.cpu import cpu_cross as crossing
from multiembed.kernels.cpu import cpu_hidden as hidden
from multiembed.kernels.cpu.cpu_cross import _recross_rows
from multiembed.kernels.cpu.cpu_field_pairs import field_aware_products_on_cpu
from multiembed.kernels.cpu.cpu_linear import bits, narrow, widen
from multiembed.kernels.operations import compressed_interaction, cross, field_aware_products
from multiembed.kernels.rows import Row
from multiembed.models.layers import SetBlock

SETS, BATCH, WIDTH = 3, 67, 39
CPU = torch.device("cpu")
needs_bfloat16 = pytest.mark.skipif(
    not has_bfloat16_products(CPU), reason="this CPU has no bfloat16 products"
)


def in_double(tensors):
    return [tensor.detach().double().requires_grad_() for tensor in tensors]


def close(found, expected, tolerance):
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() <= tolerance * theirs.norm()


def gradients(output, tensors):
    return torch.autograd.grad(output.pow(3).mean(), tensors)


def network(*, shared=False, batch=BATCH):
    """x0 and the parameters of three cross layers."""
    torch.manual_seed(0)
    own = 1 if shared else SETS
    x0 = torch.randn(SETS, batch, WIDTH).transpose(0, 1).requires_grad_()
    matrices = [(torch.randn(own, WIDTH, WIDTH) / 6).requires_grad_() for _ in range(3)]
    return x0, matrices, [torch.randn(own, WIDTH).requires_grad_() for _ in range(3)]


def equations(x0, *parameters):
    """Wang et al., equation 1, number by number."""
    x = x0
    for weight, bias in zip(parameters[:3], parameters[3:], strict=True):
        x = x0 * (torch.einsum("bsi,soi->bso", x, weight.expand(SETS, -1, -1)) + bias) + x
    return x


@pytest.mark.parametrize("shared", [False, True])
def test_cross_layers_and_gradients_are_those_of_float64(shared):
    x0, matrices, biases = network(shared=shared)
    inputs = [x0, *matrices, *biases]

    output = cross(x0, matrices, biases, training=True)
    doubles = in_double(inputs)
    expected = equations(*doubles)

    assert "Cross" in output.grad_fn.name()
    close([output], [expected], 1e-6)
    close(gradients(output, inputs), gradients(expected, doubles), 2e-6)


@needs_bfloat16
def test_cross_layers_in_bfloat16_are_as_exact_as_autocast_makes_torch_s():
    x0, matrices, biases = network(batch=500)
    inputs, direction = [x0, *matrices, *biases], torch.randn(500, SETS, WIDTH)
    doubles = in_double(inputs)
    exact = torch.autograd.grad(equations(*doubles), doubles, direction.double())

    errors = []
    for training in (True, False):
        with torch.autocast("cpu", torch.bfloat16):
            output = cross(x0, matrices, biases, training=training)
        found = torch.autograd.grad(output, inputs, direction.to(output.dtype))
        assert output.dtype == (torch.bfloat16 if training else torch.float32)
        pairs = zip(found, exact, strict=True)
        errors.append([((ours - best).norm() / best.norm()).item() for ours, best in pairs])

    for ours, torch_s in zip(*errors, strict=True):
        assert ours < 1.2 * torch_s + 1e-3


FIELDS, DIM, MAPS = 5, 3, (4, 6, 2)


def maps(*, shared=False, batch=BATCH):
    """Embeddings, and the parameters of three layers of a compressed interaction."""
    torch.manual_seed(2)
    own = 1 if shared else SETS
    x0 = torch.randn(SETS, batch, FIELDS, DIM).transpose(0, 1).requires_grad_()
    pairs = [FIELDS * inputs for inputs in (FIELDS, *MAPS[:-1])]
    shapes = zip(MAPS, pairs, strict=True)
    weights = [(torch.randn(own, h, p) / p**0.5).requires_grad_() for h, p in shapes]
    return x0, weights, [torch.randn(own, h).requires_grad_() for h in MAPS]


def sums_of_maps(x0, *parameters):
    """Lian et al., equation 6, all products of a field and a map written out."""
    x, sums = x0, []
    for weight, bias in zip(parameters[:3], parameters[3:], strict=True):
        weight, bias = (tensor.expand(SETS, *tensor.shape[1:]) for tensor in (weight, bias))
        products = torch.einsum("bsid,bsjd->bsijd", x0, x).flatten(2, 3)
        x = F.relu(torch.einsum("bspd,shp->bshd", products, weight) + bias.unsqueeze(2))
        sums.append(x.sum(dim=3))
    return torch.cat(sums, dim=2)


@pytest.mark.parametrize("cached", [1, 1000, 1 << 30], ids=["row", "ragged", "batch"])
@pytest.mark.parametrize("shared", [False, True])
def test_a_compressed_interaction_and_gradients_are_those_of_float64(monkeypatch, shared, cached):
    monkeypatch.setattr(cin, "CACHED", cached)
    x0, weights, biases = maps(shared=shared)
    inputs = [x0, *weights, *biases]
    doubles = in_double(inputs)

    output = compressed_interaction(x0, weights, biases, training=True)
    expected = sums_of_maps(*doubles)

    assert "Cin" in output.grad_fn.name()
    close([output], [expected], 1e-6)
    close(gradients(output, inputs), gradients(expected, doubles), 2e-6)


@needs_bfloat16
def test_a_compressed_interaction_in_bfloat16_is_as_exact_as_autocast_makes_torch_s():
    x0, weights, biases = maps(batch=500)
    inputs, direction = [x0, *weights, *biases], torch.randn(500, SETS, sum(MAPS))
    doubles = in_double(inputs)
    exact = torch.autograd.grad(sums_of_maps(*doubles), doubles, direction.double())

    errors = []
    for training in (True, False):
        with torch.autocast("cpu", torch.bfloat16):
            output = compressed_interaction(x0, weights, biases, training=training)
        found = torch.autograd.grad(output, inputs, direction.to(output.dtype))
        pairs = zip(found, exact, strict=True)
        errors.append([((ours - best).norm() / best.norm()).item() for ours, best in pairs])

    for ours, torch_s in zip(*errors, strict=True):
        assert ours < 1.2 * torch_s + 1e-3


def layer(*, shared=False, batch_norm=True, dropout=0.0):
    torch.manual_seed(1)
    block = SetBlock(1 if shared else SETS, WIDTH, 21, dropout=dropout, batch_norm=batch_norm)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(torch.randn_like(parameter))
    return block


def torch_s(block, inputs):
    """The same by torch's modules, one after the other for every set; and what batch norms keep."""
    outputs = []
    norms = {}
    for m in range(SETS):
        own = min(m, len(block.linear.weight) - 1)
        mapped = F.linear(inputs[:, m], block.linear.weight[own], block.linear.bias[own])
        if block.norm is not None:
            first = nn.BatchNorm1d(mapped.shape[1], affine=False, momentum=1.0).to(mapped)
            norm = norms.setdefault(own, first)
            mapped = norm(mapped)
            norm.momentum = 0.1
            mapped = mapped * block.norm.weight[own] + block.norm.bias[own]
        outputs.append(mapped.relu())
    kept = [(norm.running_mean, norm.running_var) for norm in norms.values()]
    return torch.stack(outputs, dim=1), kept


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_a_hidden_layer_and_gradients_are_those_of_float64(shared, batch_norm, dropout):
    block = layer(shared=shared, batch_norm=batch_norm, dropout=dropout)
    x = (2 * torch.randn(SETS, BATCH, WIDTH) + 1).transpose(0, 1).requires_grad_()
    exact = copy.deepcopy(block).double()
    (wide,) = in_double([x])

    output = block(x)
    expected, kept = torch_s(exact, wide)
    dropped = (output == 0) & (expected > 0)
    expected = expected * ~dropped / (1 - dropout)

    assert "Hidden" in output.grad_fn.name()
    assert bool(dropped.any()) == bool(dropout)
    close([output], [expected], 1e-5)

    # The bias before a batch norm changes nothing: its gradient is rounding.
    def sources(module, rows):
        named = dict(module.named_parameters())
        if batch_norm:
            del named["linear.bias"]
        return [rows, *named.values()]

    found, best = gradients(output, sources(block, x)), gradients(expected, sources(exact, wide))
    close(found, best, 1e-5)
    for m, (mean, var) in enumerate(kept):
        torch.testing.assert_close(block.norm.running_mean[m], mean.float())
        torch.testing.assert_close(block.norm.running_var[m], var.float())


@needs_bfloat16
def test_a_hidden_layer_in_bfloat16_is_as_exact_as_autocast_makes_torch_s():
    block = layer()
    x = torch.randn(SETS, 500, WIDTH).transpose(0, 1).requires_grad_()
    direction = torch.randn(500, SETS, 21)
    tensors = [x, block.linear.weight, *block.norm.parameters()]
    exact = copy.deepcopy(block).double()
    (wide,) = in_double([x])
    best = torch.autograd.grad(
        torch_s(exact, wide)[0],
        [wide, exact.linear.weight, *exact.norm.parameters()],
        direction.double(),
    )

    def errors(apply):
        with torch.autocast("cpu", torch.bfloat16):
            output = apply(x)
        assert output.dtype == torch.bfloat16
        found = torch.autograd.grad(output, tensors, direction.bfloat16())
        return [((a - b).norm() / b.norm()).item() for a, b in zip(found, best, strict=True)]

    torch_errors = errors(lambda rows: F.relu(block.norm(block.linear(rows))))
    for ours, theirs in zip(errors(block), torch_errors, strict=True):
        assert ours < 1.2 * theirs + 1e-3


@pytest.mark.parametrize("share", [0.0001, 0.2, 0.5, 0.999])
def test_a_share_of_the_hidden_units_is_dropped_apart_from_their_neighbours(share):
    block = SetBlock(2, 1, 401, dropout=share, batch_norm=False)
    nn.init.zeros_(block.linear.weight)
    nn.init.ones_(block.linear.bias)

    found = block(torch.ones(1200, 2, 1)).detach()

    dropped = (found == 0).double()
    units = dropped.numel()
    deviation = (share * (1 - share) / units) ** 0.5
    assert dropped.mean().item() == pytest.approx(share, abs=4 * deviation + 2**-17)
    kept = found[found > 0].unique()
    assert len(kept) == 1
    assert kept.item() * (1 - share) == pytest.approx(1, rel=2**-17 / (1 - share))
    by_set = dropped.transpose(0, 1)
    neighbours = [(by_set[..., 1:], by_set[..., :-1]), (by_set[:, 1:], by_set[:, :-1])]
    for one, other in [*neighbours, (by_set[:1], by_set[1:])]:
        together = ((one - share) * (other - share)).mean().item()
        assert abs(together) < 5 * share * (1 - share) / math.sqrt(one.numel())


def test_torch_s_generator_decides_what_is_dropped_whatever_the_number_of_threads():
    block, x = SetBlock(2, 40, 400, dropout=0.5, batch_norm=True), torch.randn(300, 2, 40)
    found, threads = [], torch.get_num_threads()
    for count in (1, 2):
        torch.set_num_threads(count)
        torch.manual_seed(3)
        inputs = x.clone().requires_grad_()
        output = block(inputs)
        found.append([output, *torch.autograd.grad(output.square().sum(), inputs)])
    torch.set_num_threads(threads)

    close(found[0], found[1], 1e-6)
    assert torch.equal(found[0][0] == 0, found[1][0] == 0)
    assert not torch.equal(block(x) == 0, block(x) == 0)


@pytest.mark.parametrize(
    ("apply", "build"), [(cross, network), (compressed_interaction, maps)], ids=["cross", "cin"]
)
def test_two_threads_do_as_one_does(apply, build):
    x0, weights, biases = build(batch=2000)
    found, threads = [], torch.get_num_threads()
    for count in (1, 2):
        torch.set_num_threads(count)
        output = apply(x0, weights, biases, training=True)
        found.append([output, *torch.autograd.grad(output.sum(), [x0, *weights, *biases])])
    torch.set_num_threads(threads)

    close(found[0], found[1], 1e-6)


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("own_block", [False, True])
def test_pairs_of_fields_are_summed_where_they_lie(own_block, linear):
    torch.manual_seed(0)
    row = Row(blocks=5 if own_block else 4, first_order=linear)
    embeddings = torch.randn(SETS, 4, 5, row.width(2), dtype=torch.double).transpose(0, 1)

    def by_hand(tensor):
        return field_aware_products_on_cpu(tensor, row)

    plain = field_aware_products(embeddings, row, training=False)
    torch.testing.assert_close(by_hand(embeddings), plain)
    assert torch.autograd.gradcheck(by_hand, embeddings.requires_grad_())


@pytest.mark.parametrize("setting", ["evaluation", "no gradients", "double", "float16", "export"])
def test_everything_else_is_torch_s_own(monkeypatch, setting):
    for module in (crossing, hidden, cin):
        monkeypatch.setattr(module, "_apply", lambda *_: pytest.fail("written by hand"))
    dtype = torch.double if setting == "double" else torch.float32
    block = layer().to(dtype).train(setting != "evaluation")
    x0, matrices, biases = network()
    x = x0.detach().to(dtype)
    crossed = [[tensor.to(dtype) for tensor in tensors] for tensors in (matrices, biases)]
    embeddings, *mixing = maps()
    mixed = [[tensor.to(dtype) for tensor in tensors] for tensors in mixing]

    if setting == "export":
        torch.export.export(block, (x,))
        return
    half = torch.autocast("cpu", torch.float16, enabled=setting == "float16")
    with torch.set_grad_enabled(setting != "no gradients"), half:
        block(x)
        cross(x, *crossed, training=setting != "evaluation")
        embeddings = embeddings.detach().to(dtype)
        compressed_interaction(embeddings, *mixed, training=setting != "evaluation")


def test_one_row_has_no_statistics():
    with pytest.raises(ValueError, match="more than 1 value"):
        layer()(torch.ones(1, SETS, WIDTH))


def test_bits_are_rounded_as_torch_rounds():
    numbers = torch.randn(100_000) * torch.logspace(-38, 38, 100_000)
    ties = torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 1 + 2**-8 + 2**-20])
    edges = torch.tensor([0.0, -0.0, math.inf, -math.inf, 3.4e38, 1e-45])
    numbers = torch.cat([numbers, ties, edges])
    expected = numbers.bfloat16()

    found = np.empty(len(numbers), dtype=np.uint16)
    narrow(bits(numbers), found)
    again = np.empty(len(numbers), dtype=np.uint32)
    widen(found, again)

    np.testing.assert_array_equal(found, bits(expected))
    np.testing.assert_array_equal(again, bits(expected.float()))
    nothing = bits(torch.tensor([math.nan, 0.0]) / torch.tensor([1.0, 0.0]))
    narrow(nothing, found[:2])
    assert torch.from_numpy(found[:2].copy()).view(torch.bfloat16).isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_cross_layers_read_is_written_again_as_torch_rounds_it(dtype):
    torch.manual_seed(0)
    x0, biases = torch.randn(BATCH, WIDTH), torch.randn(4, WIDTH)
    mapped = [torch.randn(BATCH, WIDTH).to(dtype) for _ in range(4)]
    operands = torch.empty(4, BATCH, WIDTH, dtype=dtype)

    for share in range(2):
        all_bits = tuple(bits(part) for part in mapped)
        _recross_rows(share, 2, x0.numpy(), all_bits, biases.numpy(), bits(operands))

    x = x0
    for read, part, bias in zip(operands, mapped, biases, strict=True):
        assert torch.equal(read, x.to(dtype))
        x = x0 * (part.float() + bias) + x
