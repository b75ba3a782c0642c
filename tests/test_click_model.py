"""Groups of sets with different interactions, and what joins them."""

import io

import pytest
import torch
from torch import nn

from multiembed.base.errors import ConfigError
from multiembed.models.click_model import ClickModel
from multiembed.models.naming import (
    base_dim,
    counted_mix,
    named_architecture,
    named_mix,
    shape_of_size,
)

CARDINALITIES = [3, 4, 5]
FIELDS, DIM = 3, 2
OPTIONS = {"hidden": [5, 4], "dropout": 0.0}
MIXES = ["dcnv2:2,dnn:1", "dnn,finalmlp:2", "xdeepfm,nfwfm,ipnn", "autoint:1,dcnv2:1"]

every_mix = pytest.mark.parametrize("mix", MIXES)
every_gate = pytest.mark.parametrize("gate", ["mean", "learned"])


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def mixed(mix: str, **arguments) -> ClickModel:
    return ClickModel(named_mix(mix, OPTIONS), CARDINALITIES, dim=DIM, **arguments)


def some_ids(rows: int) -> torch.Tensor:
    return torch.stack([torch.randint(size, (rows,)) for size in CARDINALITIES], dim=1)


def with_gate_scores(model: ClickModel) -> ClickModel:
    """Move a gate away from where it begins, the mean."""
    if model.gate is not None:
        for parameter in model.gate.parameters():
            nn.init.normal_(parameter)
    return model


@every_gate
@every_mix
def test_a_mix_gives_one_representation_per_set_and_one_logit_per_row(mix, gate):
    model = mixed(mix, gate=gate)
    ids = some_ids(7)

    assert model.represent(model.embedding(ids)).shape[:2] == (7, model.embedding.sets)
    assert model(ids).shape == (7,)


@every_gate
@every_mix
def test_rows_of_a_mix_do_not_see_each_other_in_evaluation(mix, gate):
    model = with_gate_scores(mixed(mix, gate=gate)).eval()
    ids = some_ids(6)

    alone = torch.cat([model(row) for row in ids.split(1)])

    torch.testing.assert_close(model(ids), alone, atol=1e-6, rtol=1e-5)


@every_mix
def test_sets_of_a_mix_do_not_see_each_other(mix):
    model = mixed(mix).eval()
    embeddings = torch.randn(4, model.embedding.sets, FIELDS, DIM)
    before = model.represent(embeddings)
    for m in range(model.embedding.sets):
        moved = embeddings.clone()
        moved[:, m] += 1

        changed = (model.represent(moved) != before).any(dim=2).any(dim=0)

        assert changed.tolist() == [other == m for other in range(model.embedding.sets)]


@every_gate
@every_mix
def test_every_parameter_of_a_mix_has_a_gradient(mix, gate):
    model = mixed(mix, gate=gate)

    model(some_ids(64)).square().sum().backward()

    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@every_gate
def test_a_mix_saves_and_loads(gate):
    model = with_gate_scores(mixed("dcnv2:2,finalmlp:1", gate=gate)).eval()
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = mixed("dcnv2:2,finalmlp:1", gate=gate).eval()

    other.load_state_dict(torch.load(file))

    ids = some_ids(5)
    assert torch.equal(other(ids), model(ids))


def test_the_state_of_one_architecture_has_the_names_a_diagnosis_reads():
    names = mixed("dcnv2:2").state_dict().keys()

    assert {"embedding.weight", "groups.0.interaction.cross.1.weight"} <= set(names)
    assert {name.split(".")[0] for name in names} == {"embedding", "groups", "head"}
    assert not any("adapter" in name for name in names)


def test_a_mix_is_the_mean_over_all_sets_of_all_groups():
    """Groups are models of their own that meet in the head, each set weighing the same."""
    model = mixed("dcnv2:2,dnn:1").eval()
    embeddings = torch.randn(6, 3, FIELDS, DIM)
    crossed = model.groups[0].interaction(embeddings[:, :2])
    plain = model.groups[1].interaction(embeddings[:, 2:])

    mean = (crossed[:, 0] + crossed[:, 1] + plain[:, 0]) / 3

    torch.testing.assert_close(model.score(embeddings), model.head(mean))


def test_groups_of_one_architecture_are_that_architecture_with_all_their_sets():
    dnn = named_architecture("dnn", {"hidden": [5, 4], "dropout": 0.0})
    parts = ClickModel([(dnn, 1), (dnn, 2)], CARDINALITIES, dim=DIM).eval()
    whole = ClickModel(dnn, CARDINALITIES, dim=DIM, sets=3).eval()
    with torch.no_grad():
        for name, parameter in whole.groups[0].named_parameters():
            of = [group.get_parameter(name) for group in parts.groups]
            parameter.copy_(torch.cat(of))
        whole.head.load_state_dict(parts.head.state_dict())
        whole.embedding.load_state_dict(parts.embedding.state_dict())
    ids = some_ids(6)

    torch.testing.assert_close(whole(ids), parts(ids))


def test_only_groups_of_another_kind_have_an_adapter():
    model = mixed("dcnv2,finalmlp,dnn")

    assert [group.adapter is not None for group in model.groups] == [False, True, False]
    assert {group.width for group in model.groups} == {5}


@every_mix
def test_a_gate_begins_as_the_mean(mix):
    gated, plain = mixed(mix, gate="learned").eval(), mixed(mix).eval()
    plain.load_state_dict(
        {name: t for name, t in gated.state_dict().items() if not name.startswith("gate")}
    )
    ids = some_ids(6)

    torch.testing.assert_close(gated(ids), plain(ids))


def test_a_gate_weighs_sets_by_the_softmax_of_their_scores():
    model = with_gate_scores(mixed("dnn:3", gate="learned")).double().eval()
    views = torch.randn(4, 3, 5, dtype=torch.float64)
    weight, bias = model.gate.score.weight[:, 0], model.gate.score.bias[:, 0]
    expected = []
    for row in views:
        scores = torch.stack([weight[m] @ row[m] + bias[m] for m in range(3)])
        shares = scores.exp() / scores.exp().sum()
        expected.append(sum(shares[m] * row[m] for m in range(3)))

    torch.testing.assert_close(model.gate(views), torch.stack(expected))


def test_a_gate_can_choose_one_set():
    model = mixed("dnn:3", gate="learned").eval()
    nn.init.constant_(model.gate.score.bias[1], 100.0)
    views = torch.randn(4, 3, 5)

    torch.testing.assert_close(model.judge(views), model.head(views[:, 1]))


def test_options_of_a_mix_go_where_they_belong():
    shared = {"hidden": [9, 8], "cross_layers": 3, "dnn": {"hidden": [7]}}
    (dcnv2, two), (dnn, one) = named_mix("dcnv2:2,dnn", shared)

    assert (two, one) == (2, 1)
    assert (dcnv2.hidden, dcnv2.cross_layers, dnn.hidden) == ((9, 8), 3, (7,))


@pytest.mark.parametrize(
    ("text", "sets", "counts"),
    [
        ("dnn", None, [1]),
        ("dnn", 4, [4]),
        ("dnn:3", None, [3]),
        ("dcnv2, dnn", None, [1, 1]),
        ("dcnv2:2,dnn:1", 6, [4, 2]),
    ],
)
def test_sets_divide_in_proportion(text, sets, counts):
    assert [count for _, count in counted_mix(named_mix(text), sets)] == counts


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        (("dcnv2", 4, "single"), (40, 1)),
        (("dcnv2", 4, "multi"), (10, 4)),
        (("nfwfm", 10, "single"), (500, 1)),
        (("nfwfm", 10, "multi"), (50, 10)),
        (("dcnv2,dnn", 4, "multi"), (10, 4)),
    ],
)
def test_a_size_is_a_multiple_of_the_paper_s_base(arguments, shape):
    assert shape_of_size(*arguments) == shape


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda: named_mix("dcnv3"), "architecture must be one of .*dcnv2.*, got 'dcnv3'; did you"),
        (
            lambda: named_mix("dcnv2:0"),
            "sets of dcnv2 must be a whole number from 1 to 1000",
        ),
        (
            lambda: named_mix("dcnv2:x,dnn"),
            "sets of dcnv2 must be a whole number from 1 to 1000",
        ),
        (lambda: named_mix("dcnv2:2,"), "architecture must be one of .*, got ''"),
        (lambda: named_mix("dnn:1,dnn:2"), "architecture must name dnn once, got 'dnn:1,dnn:2'"),
        (lambda: named_mix("dnn", {"hiden": [4]}), "dnn option 'hiden' is unknown; .*'hidden'"),
        (
            lambda: named_mix("dnn,dcnv2", {"cross_layer": 1}),
            "option of dnn,dcnv2 must be one of .*, got 'cross_layer'; did you mean 'cross_layers'",
        ),
        (
            lambda: named_mix("dnn,dcnv2", {"dnn": {"cross_layers": 1}}),
            "dnn option 'cross_layers' is unknown",
        ),
        (lambda: named_mix("dnn,dcnv2", {"dnn": 3}), "options of dnn must be a table, got 3"),
        (lambda: named_mix("dnn", {"hidden": [4, -1]}), r"hidden\[1\] must be at least 1, got -1"),
        (
            lambda: counted_mix(named_mix("dcnv2:2,dnn"), 4),
            "sets must be a multiple of 3, .* got 4",
        ),
        (lambda: base_dim(named_mix("nfwfm,dnn")), "dim must be given .* 10 and 50, got none"),
        (lambda: shape_of_size("dnn", 0, "multi"), "size must be from 1 to 1000, got 0"),
        (lambda: shape_of_size("dnn,dcnv2", 4, "single"), "scaling must be multi .* got single"),
        (lambda: shape_of_size("dnn,dcnv2", 3, "multi"), "sets must be a multiple of 2, .* got 3"),
        (lambda: mixed("dnn", sets=0), "sets must be from 1 to 1000, got 0"),
        (lambda: ClickModel([], CARDINALITIES), "architecture must name at least one, got none"),
        (
            lambda: ClickModel("ffm,dnn", CARDINALITIES, dim=2),
            "must read the same embeddings, got Ffm and Dnn",
        ),
        (
            lambda: ClickModel(named_mix("autoint", {"hidden": []}) * 2, CARDINALITIES),
            "must have hidden layers in one, got none",
        ),
    ],
)
def test_what_cannot_be_is_one_clear_line(act, said):
    with pytest.raises(ConfigError, match=said) as caught:
        act()

    assert "\n" not in str(caught.value)
