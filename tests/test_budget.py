"""Counts, against torch's own and against arithmetic by hand."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from multiembed.base.errors import ConfigError
from multiembed.kernels import route
from multiembed.models.budget import sized_models
from multiembed.models.click_model import ClickModel
from multiembed.models.interactions.architectures import ARCHITECTURES
from multiembed.models.naming import named_architecture

CARDINALITIES = [7, 5, 4]
CRITEO = [190_000, *[23_421] * 38]
"""As many fields and, to 2 in a million, ids as the paper's Criteo: 39, and 1.08 million."""


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("sets", [1, 3])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_counts_are_torch_s_own(monkeypatch, name, sets, shared):
    model = ClickModel(
        named_architecture(name), CARDINALITIES, dim=4, sets=sets, shared_interaction=shared
    )
    ids = torch.zeros(6, 3, dtype=torch.long)
    # Without gradients and oneDNN every product is one that torch's counter knows.
    with monkeypatch.context() as patch, torch.no_grad(), FlopCounterMode(display=False) as counter:
        patch.setattr(route, "onednn_is_faster", lambda: False)
        model(ids)

    budget = model.summary()

    assert budget.parameters.total == sum(p.numel() for p in model.parameters())
    assert budget.parameters.embedding == model.embedding.weight.numel()
    assert budget.flops.total == counter.get_total_flops() / 6


def test_dcnv2_costs_what_its_equations_say():
    sets, dim, hidden = 3, 4, (9, 6)
    width = 3 * dim
    architecture = named_architecture("dcnv2", {"hidden": hidden, "cross_layers": 2})
    budget = ClickModel(architecture, CARDINALITIES, dim=dim, sets=sets).summary()

    cross = 2 * (width * width + width)
    project = width * 9 + 9 + 2 * 9  # linear, batch norm
    assert budget.parameters.embedding == 16 * dim * sets
    assert budget.parameters.interaction == sets * (cross + project)
    assert budget.parameters.head == 9 * 6 + 6 + 2 * 6 + 6 + 1
    assert budget.flops.embedding == 0
    assert budget.flops.interaction == sets * 2 * (2 * width * width + width * 9)
    assert budget.flops.head == 2 * (9 * 6 + 6)


def test_a_gate_counts_as_part_of_the_head():
    plain, gated = (
        ClickModel("dnn", CARDINALITIES, dim=4, sets=2, gate=gate).summary()
        for gate in ("mean", "learned")
    )

    assert gated.parameters.interaction == plain.parameters.interaction
    assert gated.parameters.head - plain.parameters.head == 2 * 401
    assert gated.flops.head - plain.flops.head == 2 * 2 * 400


def test_counting_leaves_the_model_as_it_was():
    model = ClickModel("dcnv2", CARDINALITIES, dim=4, sets=2)
    model.head.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]

    model.summary()

    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_summary_prints_as_a_table_of_its_parts():
    lines = str(ClickModel("dnn", CARDINALITIES, dim=4).summary()).splitlines()

    assert lines[0].split() == ["parameters", "FLOPs", "/", "example"]
    assert [line.split()[0] for line in lines[1:]] == ["embedding", "interaction", "head", "total"]
    assert lines[1].split()[1:] == ["64", "0"]


def test_ten_sets_of_dcnv2_are_a_third_smaller_than_one_ten_times_wider_on_criteo():
    """The paper's sizes; the published counts are 11.73M, 170.6M and 115.9M parameters."""
    ids, mlp = sum(CRITEO), 400 * 400 + 400 + 800 + 401

    def counted(dim: int, sets: int) -> int:
        width = 39 * dim
        per_set = 4 * (width * width + width) + width * 400 + 400 + 800
        return ids * dim * sets + sets * per_set + mlp

    rows = sized_models(CRITEO, architectures=["dcnv2"], sizes=[1, 10])
    totals = {(row.dim, row.sets): row.budget.parameters.total for row in rows}

    assert totals == {shape: counted(*shape) for shape in [(10, 1), (100, 1), (10, 10)]}
    assert totals[10, 1] / 1e6 == pytest.approx(11.73, abs=0.005)
    assert totals[100, 1] / 1e6 == pytest.approx(170.6, abs=0.05)
    assert totals[10, 10] / 1e6 == pytest.approx(115.9, abs=0.1)
    assert 1 - totals[10, 10] / totals[100, 1] == pytest.approx(0.32, abs=0.005)
    assert rows[0].budget.parameters.embedding / totals[10, 1] > 0.92  # Appendix A


def test_every_architecture_has_a_row_for_every_size_and_the_base_once():
    rows = sized_models(CARDINALITIES, sizes=[1, 2])

    assert [row.architecture for row in rows] == [name for name in ARCHITECTURES for _ in range(3)]
    assert [(r.size, r.scaling) for r in rows[:3]] == [(1, "single"), (2, "single"), (2, "multi")]
    of_nfwfm = [(row.dim, row.sets) for row in rows if row.architecture == "nfwfm"]
    assert of_nfwfm == [(50, 1), (100, 1), (50, 2)]


def test_a_row_is_the_summary_of_the_model_it_names():
    (row,) = sized_models(
        CARDINALITIES, architectures=["dnn,dcnv2:2"], sizes=[3], scalings=["multi"]
    )
    model = ClickModel("dnn:1,dcnv2:2", CARDINALITIES, dim=10)

    assert row.budget == model.summary()


def test_an_impossible_size_is_one_clear_line():
    with pytest.raises(ConfigError, match="size must be from 1 to 1000, got 0"):
        sized_models(CARDINALITIES, sizes=[0])
