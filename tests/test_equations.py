"""Every architecture's own equation, worked by hand on a few numbers or independently in NumPy."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from multiembed.base.errors import ConfigError
from multiembed.models.click_model import ClickModel
from multiembed.models.interactions.base import Interaction, MlpHead, TwoBranchHead
from multiembed.models.interactions.finalmlp import BilinearFusion, FeatureGate
from multiembed.models.layers import SetLinear
from multiembed.models.naming import named_architecture


def plain(name: str, *, fields: int, dim: int = 1, **options: object) -> Interaction:
    """Return an interaction for one set, its hidden layer taken away."""
    known = {"hidden": (1,), "batch_norm": False, "dropout": 0.0}
    architecture = named_architecture(name, (known if name != "ffm" else {}) | options)
    interaction = architecture.interaction(fields=fields, dim=dim, sets=1)
    if "projection" in dict(interaction.named_children()):
        interaction.projection = nn.Identity()
    return interaction


def set_values(parameter: torch.Tensor, values: object) -> None:
    with torch.no_grad():
        parameter.copy_(torch.tensor(values).reshape(parameter.shape))


def one_row(*fields: list[float]) -> torch.Tensor:
    """Return the embeddings of one row in one set."""
    return torch.tensor(fields)[None, None]


def test_a_hidden_layer_is_a_rectified_affine_map():
    """W (1, 2) + b = (3.5, -1): the second unit is off."""
    architecture = named_architecture("dnn", {"hidden": (2,), "batch_norm": False})
    interaction = architecture.interaction(fields=2, dim=1, sets=1).eval()
    set_values(interaction.projection.linear.weight, [[1.0, 1.0], [1.0, -1.0]])
    set_values(interaction.projection.linear.bias, [0.5, 0.0])

    torch.testing.assert_close(interaction(one_row([1.0], [2.0])), torch.tensor([[[3.5, 0.0]]]))


def test_the_head_maps_the_mean_of_the_sets():
    """Means (2, 5) of (1, 4) and (3, 6), weights (10, 1), bias 0.5."""
    head = MlpHead(2, (), dropout=0.0, batch_norm=True)
    set_values(head.logit.weight, [10.0, 1.0])
    set_values(head.logit.bias, [0.5])

    mean = torch.tensor([[[1.0, 4.0], [3.0, 6.0]]]).mean(dim=1)

    torch.testing.assert_close(head(mean), torch.tensor([25.5]))


@pytest.mark.parametrize(
    ("include", "expected"), [(True, [1.0, 2.0, 3.0, -1.0, 1.0]), (False, [1.0])]
)
def test_ipnn_multiplies_pairs(include, expected):
    """<(1, 2), (3, -1)> = 1, after the embeddings themselves or alone."""
    interaction = plain("ipnn", fields=2, dim=2, include_embeddings=include)

    products = interaction(one_row([1.0, 2.0], [3.0, -1.0]))

    torch.testing.assert_close(products[0, 0], torch.tensor(expected))


def test_ipnn_orders_pairs_row_by_row():
    interaction = plain("ipnn", fields=3, include_embeddings=False)

    products = interaction(one_row([2.0], [3.0], [5.0]))

    torch.testing.assert_close(products[0, 0], torch.tensor([6.0, 10.0, 15.0]))


@pytest.mark.parametrize(("pairs", "expected"), [("ordered", 9664.0), ("unordered", 60.0)])
def test_nfwfm_weighs_pairs(pairs, expected):
    """e = (2, 3): 1*4 + 10*6 + 100*6 + 1000*9 over all ordered pairs; 10*6 for i < j."""
    interaction = plain("nfwfm", fields=2, pairs=pairs)
    set_values(interaction.pair_weight, [[1.0, 10.0], [100.0, 1000.0]])

    torch.testing.assert_close(interaction(one_row([2.0], [3.0])), torch.tensor([[[expected]]]))


def test_nfwfm_normalises_what_it_pooled():
    """The pooled values 0 and 2 of two rows, dim 1: -1 and 1 over their deviation."""
    architecture = named_architecture("nfwfm", {"dropout": 0.0})
    interaction = architecture.interaction(fields=1, dim=1, sets=1).train()
    interaction.projection = nn.Identity()
    set_values(interaction.pair_weight, [2.0])

    normalised = interaction(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1))

    torch.testing.assert_close(normalised.flatten(), torch.tensor([-1.0, 1.0]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("linear", [False, True])
def test_xdeepfm_compresses_pairs_layer_by_layer(linear):
    """Two numbers per field, each on its own.

    Of (2, 3): 1*4 + 2*6 + 3*6 + 4*9 - 60 = 10, then (2*2 - 1*3) * 10 + 5 = 15.
    Of (1, 1): 1 + 2 + 3 + 4 - 60 < 0 gives 0, then 0 + 5 = 5. Sums: 10 and 20.
    """
    interaction = plain("xdeepfm", fields=2, dim=2, cin=(1, 1), linear=linear)
    set_values(interaction.cin[0].weight, [1.0, 2.0, 3.0, 4.0])
    set_values(interaction.cin[0].bias, [-60.0])
    set_values(interaction.cin[1].weight, [2.0, -1.0])
    set_values(interaction.cin[1].bias, [5.0])
    first_order = [[0.5], [-2.0]] if linear else [[], []]

    row = one_row([2.0, 1.0, *first_order[0]], [3.0, 1.0, *first_order[1]])

    expected = ([-1.5] if linear else []) + [10.0, 20.0, 2.0, 1.0, 3.0, 1.0]
    torch.testing.assert_close(interaction(row)[0, 0], torch.tensor(expected))


def test_a_head_of_two_branches_adds_their_logits():
    """3 * 2 + 1 for the explicit branch, 5 * 4 - 2 for the deep one."""
    head = TwoBranchHead(1, MlpHead(1, (), dropout=0.0, batch_norm=True))
    set_values(head.explicit.weight, [3.0])
    set_values(head.explicit.bias, [1.0])
    set_values(head.deep.logit.weight, [5.0])
    set_values(head.deep.logit.bias, [-2.0])

    torch.testing.assert_close(head(torch.tensor([[2.0, 4.0]])), torch.tensor([25.0]))


@pytest.mark.parametrize(
    ("block_weights", "expected"), [(None, [6.5, 23.0]), ([[1.0, 0.0], [2.0, 1.0]], [2.5, 29.0])]
)
def test_crossing_follows_the_equation(block_weights, expected):
    """x0 = (1, 2): W x + b = (5.5, 10.5); with block weights (1.5, 13.5)."""
    options = {"cross_layers": 1, "block_weights": block_weights is not None}
    interaction = plain("dcnv2", fields=2, **options)
    set_values(interaction.cross[0].weight, [[1.0, 2.0], [3.0, 4.0]])
    set_values(interaction.cross[0].bias, [0.5, -0.5])
    if block_weights:
        set_values(interaction.cross[0].block_weight, block_weights)

    torch.testing.assert_close(interaction(one_row([1.0], [2.0]))[0, 0], torch.tensor(expected))


def test_finalmlp_fuses_two_streams_bilinearly():
    """2 * 1 + 0.5 - 3 + 2 * 2 * 3 = 11.5 for streams 2 and 3."""
    fusion = BilinearFusion(1)
    set_values(fusion.first.weight, [1.0])
    set_values(fusion.first.bias, [0.5])
    set_values(fusion.second.weight, [-1.0])
    set_values(fusion.second.bias, [0.0])
    set_values(fusion.bilinear, [2.0])

    torch.testing.assert_close(fusion(torch.tensor([[2.0, 3.0]])), torch.tensor([11.5]))


def test_a_gate_of_finalmlp_weighs_features():
    """Context 3, hidden unit relu(3 - 2) = 1: gates 2 * sigmoid(log 3) = 1.5 and 2 * sigmoid(0)."""
    gate = FeatureGate(1, 2, hidden=1, context=1)
    set_values(gate.context, [3.0])
    set_values(gate.hidden.weight, [1.0])
    set_values(gate.hidden.bias, [-2.0])
    set_values(gate.gate.weight, [float(np.log(3)), 0.0])
    set_values(gate.gate.bias, [0.0, 0.0])

    torch.testing.assert_close(gate(torch.tensor([[[4.0, 5.0]]])), torch.tensor([[[6.0, 5.0]]]))


def test_autoint_attends_with_weights_worked_by_hand():
    """Fields 1 and 2, every map the identity.

    Field 1 weighs (1, 2) by e : e^2, field 2 by e^2 : e^4; the residual adds the field itself.
    """
    interaction = plain("autoint", fields=2, hidden=(), attention_layers=1, heads=1, head_dim=1)
    for part in interaction.attention[0].children():
        set_values(part.weight, [1.0])

    attended = interaction(one_row([1.0], [2.0]))[0, 0]

    e = np.e
    expected = [(e + 2 * e**2) / (e + e**2) + 1, (e**2 + 2 * e**4) / (e**2 + e**4) + 2]
    np.testing.assert_allclose(attended.detach(), expected, rtol=1e-6)


def numpy_attention(fields: np.ndarray, query, key, value, residual) -> np.ndarray:
    """Equations 5 to 8 of Song et al. for one row and set; weights (heads, size, inputs)."""
    outputs = []
    for m in range(len(fields)):
        heads = []
        for q, k, v in zip(query, key, value, strict=True):
            scores = np.exp([(q @ fields[m]) @ (k @ other) for other in fields])
            shares = scores / scores.sum()
            heads.append(sum(s * (v @ other) for s, other in zip(shares, fields, strict=True)))
        outputs.append(np.maximum(np.concatenate(heads) + residual @ fields[m], 0))
    return np.array(outputs)


def test_autoint_follows_the_equations_of_its_paper():
    torch.manual_seed(0)
    sets, fields, dim, heads, size = 2, 3, 4, 2, 3
    architecture = named_architecture(
        "autoint", {"attention_layers": 2, "heads": heads, "head_dim": size}
    )
    model = ClickModel(architecture, [5] * fields, dim=dim, sets=sets, embedding_init=1.0).double()
    ids = torch.tensor([[0, 1, 2], [4, 3, 0]])

    logits = model(ids)

    state = {name: array.numpy() for name, array in model.state_dict().items()}
    for row, logit in zip(ids.numpy(), logits, strict=True):
        views = []
        for m in range(sets):
            table = state["embedding.weight"][:, m * dim : (m + 1) * dim]
            x = np.array([table[5 * field + at] for field, at in enumerate(row)])
            for layer in range(2):
                prefix = f"groups.0.interaction.attention.{layer}."
                weights = {
                    part: state[f"{prefix}{part}.weight"][m]
                    for part in ("query", "key", "value", "residual")
                }
                split = [weights[p].reshape(heads, size, -1) for p in ("query", "key", "value")]
                x = numpy_attention(x, *split, weights["residual"])
            views.append(x.flatten())
        expected = state["head.logit.weight"][0] @ np.mean(views, axis=0) + state["head.logit.bias"]
        np.testing.assert_allclose(logit.item(), expected[0], rtol=1e-10)


def test_ffm_multiplies_the_embeddings_that_two_fields_have_for_each_other():
    """Field 0 holds (own, for 1, weight), field 1 (for 0, own, weight): 2 * 3 + 0.5 - 1."""
    interaction = plain("ffm", fields=2)

    score = interaction(one_row([7.0, 2.0, 0.5], [3.0, 9.0, -1.0]))

    torch.testing.assert_close(score, torch.tensor([[[5.5]]]))


@pytest.mark.parametrize("linear", [False, True])
def test_ffm_without_own_blocks_loses_nothing(linear):
    """The score by a double loop over fields, with and without the blocks that nothing reads."""
    rng = np.random.default_rng(0)
    fields, dim = 4, 3
    blocks = rng.normal(size=(fields, fields, dim))
    weights = rng.normal(size=fields)
    expected = weights.sum() if linear else 0.0
    for i, j in itertools.combinations(range(fields), 2):
        expected += blocks[i, j] @ blocks[j, i]

    def row(kept: np.ndarray) -> torch.Tensor:
        flat = kept.reshape(fields, -1)
        whole = np.column_stack([flat, weights]) if linear else flat
        return torch.tensor(whole)[None, None]

    others = np.array([[blocks[i, j] for j in range(fields) if j != i] for i in range(fields)])
    with_own = plain("ffm", fields=fields, dim=dim, linear=linear)
    without = plain("ffm", fields=fields, dim=dim, linear=linear, own_block=False)

    assert with_own(row(blocks)).item() == pytest.approx(expected)
    assert without(row(others)).item() == pytest.approx(expected)


@pytest.mark.parametrize("name", ["ipnn", "ffm"])
def test_products_of_pairs_want_two_fields(name):
    with pytest.raises(ConfigError, match="at least 2 fields"):
        ClickModel(name, [5])


def test_base_sizes_are_those_of_the_runs():
    assert named_architecture("nfwfm").base_dim == 50
    assert named_architecture("ffm").base_dim == 8
    assert named_architecture("xdeepfm").base_dim == 10


def wide(embeddings: torch.Tensor) -> torch.Tensor:
    """Give one set the embeddings of all sets side by side, field by field."""
    return embeddings.transpose(1, 2).flatten(start_dim=2).unsqueeze(1)


@pytest.fixture
def three_sets() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(4, 3, 2, 5, dtype=torch.double)  # (batch, sets, fields, dim)


def pieces(single: torch.Tensor) -> torch.Tensor:
    """Undo `wide` on a representation of one set: `(batch, sets, fields * dim)`."""
    return single.view(4, 2, 3, 5).transpose(1, 2).flatten(start_dim=2)


def test_concatenating_sets_is_one_wide_set_in_another_order(three_sets):
    """Appendix E, DNN: without a hidden layer, several sets are a permutation of one."""
    interaction = plain("dnn", fields=2, dim=5)

    assert torch.equal(pieces(interaction(wide(three_sets))), interaction(three_sets))


def test_averaging_projections_of_sets_is_one_projection_of_a_wide_set(three_sets):
    """Appendix E, projected DNN: equal up to 1 / M, with the same weights side by side."""
    multi = SetLinear(3, 2 * 5, 7).double()
    single = SetLinear(1, 2 * 3 * 5, 7).double()
    with torch.no_grad():
        by_field = multi.weight.view(3, 7, 2, 5).permute(1, 2, 0, 3)  # (outputs, fields, sets, dim)
        single.weight.copy_(by_field.flatten(start_dim=1) / 3)
        single.bias.copy_(multi.bias.mean(dim=0))

    averaged = multi(three_sets.flatten(start_dim=2)).mean(dim=1)

    torch.testing.assert_close(single(wide(three_sets).flatten(start_dim=2))[:, 0], averaged)


def test_crossing_sets_is_crossing_one_wide_set_with_zeros_between_them(three_sets):
    """Appendix E, DCNv2: a block from one set into another is zero."""
    architecture = named_architecture("dcnv2", {"cross_layers": 2})
    multi = architecture.interaction(fields=2, dim=5, sets=3).double()
    single = architecture.interaction(fields=2, dim=15, sets=1).double()
    for ours, wider in zip(multi.cross, single.cross, strict=True):
        blocks = torch.zeros(2, 3, 5, 2, 3, 5, dtype=torch.double)
        for m in range(3):
            blocks[:, m, :, :, m] = ours.weight.detach()[m].view(2, 5, 2, 5)
        with torch.no_grad():
            ours.bias.normal_()
            wider.weight.copy_(blocks.view(1, 30, 30))
            wider.bias.copy_(ours.bias.view(3, 2, 5).transpose(0, 1).reshape(1, 30))
    multi.projection = single.projection = nn.Identity()

    torch.testing.assert_close(pieces(single(wide(three_sets))), multi(three_sets))
