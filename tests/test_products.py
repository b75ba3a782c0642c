"""Linear maps by oneDNN against the same in float64."""

import pytest
import torch
import torch.nn.functional as F

from multiembed.kernels import route
from multiembed.kernels.cpu import cpu_linear as products
from multiembed.kernels.operations import linear
from multiembed.kernels.route import onednn_is_faster
from multiembed.models.layers import SetLinear

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN"
)


@pytest.fixture(autouse=True)
def _onednn_everywhere(monkeypatch):
    monkeypatch.setattr(route, "onednn_is_faster", lambda: True)


def operands(rows=67, inputs=39, outputs=21, *, bias=True):
    torch.manual_seed(0)
    shapes = [(rows, inputs), (outputs, inputs), *([(outputs,)] if bias else [])]
    return [torch.randn(shape, requires_grad=True) for shape in shapes]


def in_double(tensors):
    return [tensor.detach().double().requires_grad_() for tensor in tensors]


def bent(function, tensors):
    """Return the map's output and gradients."""
    output = function(*tensors)
    return [output, *torch.autograd.grad(output.pow(3).sum(), tensors)]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 67])
def test_values_and_gradients_are_those_of_float64(bias, rows):
    tensors = operands(rows, bias=bias)

    found = bent(linear, tensors)

    assert found[0].grad_fn is not None
    assert "OnednnLinear" in found[0].grad_fn.name()
    for ours, theirs in zip(found, bent(F.linear, in_double(tensors)), strict=True):
        assert (ours - theirs).norm() <= 1e-6 * theirs.norm()


def test_only_what_needs_a_gradient_gets_one():
    inputs, weight, bias = operands()

    linear(inputs.detach(), weight, bias).sum().backward()

    assert inputs.grad is None
    torch.testing.assert_close(bias.grad, torch.full((21,), 67.0))
    torch.testing.assert_close(weight.grad, inputs.detach().sum(dim=0).expand(21, 39))


def test_strided_operands_are_read_as_they_lie():
    inputs, weight = operands(39, 67, 21, bias=False)
    turned, gaps = weight.detach()[:, :39].T.requires_grad_(), inputs.detach()[:, ::3]

    mapped = linear(gaps[:, :21], turned)

    torch.testing.assert_close(mapped, gaps[:, :21] @ weight.detach()[:, :39])


@pytest.mark.parametrize(
    ("context", "dtype"),
    [
        (torch.autocast("cpu", torch.bfloat16), torch.float32),
        (torch.enable_grad(), torch.float64),
    ],
)
def test_what_is_not_computed_in_float32_is_torch_s_choice(monkeypatch, context, dtype):
    monkeypatch.setattr(products, "_onednn", lambda *_: pytest.fail("oneDNN was asked"))
    inputs, weight, bias = (tensor.detach().to(dtype).requires_grad_() for tensor in operands())

    with context:
        assert torch.equal(linear(inputs, weight, bias), F.linear(inputs, weight, bias))


@pytest.mark.parametrize("rows", [64, 128, 512, 8192])
def test_a_row_is_scored_alike_in_company_of_any_size(rows):
    torch.manual_seed(1)
    inputs, weight, bias = torch.randn(8192, 390), torch.randn(400, 390), torch.randn(400)

    with torch.inference_mode():
        assert torch.equal(linear(inputs[:rows], weight, bias), linear(inputs, weight, bias)[:rows])


def test_an_export_holds_torch_s_own_operator():
    program = torch.export.export(SetLinear(1, 39, 21), (torch.randn(67, 1, 39),))

    assert "aten.linear" in program.graph_module.code


@pytest.mark.parametrize(("vendor", "faster"), [("AuthenticAMD", True), ("GenuineIntel", False)])
def test_the_vendor_decides(monkeypatch, vendor, faster):
    monkeypatch.setattr(route, "_cpu", lambda: f"vendor_id\t: {vendor}")
    onednn_is_faster.cache_clear()

    assert onednn_is_faster() is faster

    onednn_is_faster.cache_clear()
