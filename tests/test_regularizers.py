"""Penalties, against the reference code's numbers and plain loops over sets, fields and blocks."""

import itertools

import numpy as np
import pytest
import torch

from multiembed.base.errors import ConfigError
from multiembed.models.click_model import ClickModel
from multiembed.models.interactions.dcnv2 import DcnV2
from multiembed.models.naming import REGULARIZERS, check_regularizers, named_mix
from multiembed.models.reference import from_reference
from multiembed.models.regularizers import penalty

CARDINALITIES = [7, 5, 4]
FIELDS, DIM = 3, 4


def small_model(*, sets: int, **options) -> ClickModel:
    torch.manual_seed(1)
    architecture = DcnV2(cross_layers=2, hidden=(6, 5), **options)
    return ClickModel(architecture, CARDINALITIES, dim=DIM, sets=sets).double()


def blocks(model: ClickModel, name: str = "weight"):
    """Yield every (dim, dim) block as an array: layer, set, destination, source."""
    for layer in model.groups[0].interaction.cross:
        weight = getattr(layer, name).detach().numpy()
        for m, j, i in itertools.product(range(len(weight)), range(FIELDS), range(FIELDS)):
            yield weight[m, j * DIM : (j + 1) * DIM, i * DIM : (i + 1) * DIM]


def value(name: str, model: ClickModel, embeddings: torch.Tensor | None = None) -> float:
    if embeddings is None:
        embeddings = torch.zeros(2, model.embedding.sets, FIELDS, DIM, dtype=torch.float64)
    return penalty(model, embeddings, {name: 1.0}).item()


@pytest.mark.parametrize(
    ("file", "weights"),
    [
        ("dcnv2_me_aligned_norms", {"aligned_norms": 1.0}),
        ("dcnv2_se_unitary_regularised", {"unitary": 1e-5}),
        ("dcnv2_me_unitary_regularised", {"unitary": 1e-5}),
    ],
)
def test_penalties_are_those_of_the_reference_code(golden, file, weights):
    numbers = np.load(golden / f"{file}.npz")
    start = {k.removeprefix("start/"): numbers[k] for k in numbers if k.startswith("start/")}
    model = from_reference(file, start, [7, 5, 11, 4])

    got = penalty(model, model.embedding(torch.from_numpy(numbers["ids"][0]).long()), weights)

    assert got.item() == pytest.approx(float(numbers["train_regularisation"]), rel=1e-6)


def test_aligned_norms_are_the_variance_of_squared_norms_over_sets():
    model = small_model(sets=3)
    squared = np.array([(block**2).sum() for block in blocks(model)]).reshape(2, 3, -1)

    assert value("aligned_norms", model) == pytest.approx(squared.var(axis=1).mean())


@pytest.mark.parametrize("name", ["aligned_norms", "set_similarity"])
def test_one_set_has_nothing_to_be_compared_with(name):
    embeddings = torch.randn(5, 1, FIELDS, DIM, dtype=torch.float64)

    assert value(name, small_model(sets=1), embeddings) == 0


@pytest.mark.parametrize("sets", [1, 2])
def test_unitary_without_a_learnt_scale_holds_blocks_to_the_identity(sets):
    model = small_model(sets=sets)
    expected = sum(np.sum((b.T @ b - np.eye(DIM)) ** 2) for b in blocks(model))

    assert value("unitary", model) == pytest.approx(expected)


def test_factors_outside_the_blocks_leave_the_penalty_alone():
    model = small_model(sets=2, block_weights=True)
    before = value("unitary", model)
    for layer in model.groups[0].interaction.cross:
        torch.nn.init.constant_(layer.block_weight, 3.0)

    assert value("unitary", model) == before


@pytest.mark.parametrize("sets", [1, 2])
def test_unitary_with_a_learnt_scale_is_the_formula_of_the_paper(sets):
    model = small_model(sets=sets, unitary_scale=True)
    scales = []
    for layer in model.groups[0].interaction.cross:
        torch.nn.init.uniform_(layer.unitary_scale, 0.1, 2.0)
        scales += layer.unitary_scale.detach().flatten().tolist()
    expected = sum(
        np.linalg.norm(b.T @ b - scale * np.eye(DIM)) ** 2
        for b, scale in zip(blocks(model), scales, strict=True)
    )

    assert value("unitary", model) == pytest.approx(expected)


def test_multiples_of_unitary_blocks_with_their_scale_cost_nothing():
    model = small_model(sets=1, unitary_scale=True)
    rotation = torch.linalg.qr(torch.randn(DIM, DIM, dtype=torch.float64)).Q
    for layer in model.groups[0].interaction.cross:
        layer.weight.data[0] = (3 * rotation).repeat(FIELDS, FIELDS)
        torch.nn.init.constant_(layer.unitary_scale, 9.0)

    assert value("unitary", model) == pytest.approx(0, abs=1e-20)


def test_set_similarity_is_the_mean_square_of_the_mean_singular_values_of_products():
    model = small_model(sets=3)
    embeddings = torch.randn(10, 3, FIELDS, DIM, dtype=torch.float64)
    e = embeddings.numpy()
    means = [
        np.mean(
            [np.linalg.svd(e[:, a, f].T @ e[:, b, f])[1] for f in range(FIELDS)],
            axis=0,
        )
        for a, b in [(0, 1), (0, 2), (1, 2)]
    ]

    assert value("set_similarity", model, embeddings) == pytest.approx(np.square(means).mean())


def test_sets_in_orthogonal_directions_are_not_similar():
    embeddings = torch.zeros(8, 2, FIELDS, DIM, dtype=torch.float64)
    embeddings[:4, 0] = torch.randn(4, FIELDS, DIM, dtype=torch.float64)
    embeddings[4:, 1] = torch.randn(4, FIELDS, DIM, dtype=torch.float64)

    assert value("set_similarity", small_model(sets=2), embeddings) == pytest.approx(0, abs=1e-20)


def test_singular_spread_is_the_variance_over_the_mean_of_singular_values():
    model = small_model(sets=2)
    embeddings = torch.randn(10, 2, FIELDS, DIM, dtype=torch.float64)
    values = np.linalg.svd(embeddings.permute(1, 2, 0, 3).numpy(), compute_uv=False)
    relative = values / values.mean(axis=-1, keepdims=True)

    assert value("singular_spread", model, embeddings) == pytest.approx(
        relative.var(axis=-1, ddof=1).mean()
    )


@pytest.mark.parametrize("name", REGULARIZERS)
def test_every_penalty_has_a_right_gradient(name):
    model = small_model(sets=2, unitary_scale=True)
    embeddings = torch.randn(6, 2, FIELDS, DIM, dtype=torch.float64, requires_grad=True)
    layer = model.groups[0].interaction.cross[0]

    def of(embeddings, weight, scale):
        layer._parameters["weight"], layer._parameters["unitary_scale"] = weight, scale
        return penalty(model, embeddings, {name: 0.5})

    assert torch.autograd.gradcheck(of, (embeddings, layer.weight, layer.unitary_scale))


def test_penalties_add_up_by_their_weights():
    model = small_model(sets=2)
    embeddings = torch.randn(6, 2, FIELDS, DIM, dtype=torch.float64)
    weights = {"aligned_norms": 2.0, "set_similarity": 0.5}
    expected = sum(w * value(name, model, embeddings) for name, w in weights.items())

    assert penalty(model, embeddings, weights).item() == pytest.approx(expected)
    assert penalty(model, embeddings, {}).item() == 0


def test_penalties_that_cannot_act_are_refused():
    dnn = ClickModel("dnn", CARDINALITIES, dim=DIM)
    with pytest.raises(ConfigError, match="aligned_norms must have a model with cross layers"):
        penalty(dnn, torch.zeros(2, 1, FIELDS, DIM), {"aligned_norms": 1.0})
    with pytest.raises(ConfigError, match="unitary must have a model with cross layers"):
        check_regularizers({"unitary": 1.0}, named_mix("dnn,finalmlp"))
    with pytest.raises(ConfigError, match="got 'unitery'; did you mean 'unitary'"):
        check_regularizers({"unitery": 1.0}, named_mix("dcnv2"))
    check_regularizers({"unitary": 1.0, "singular_spread": 1e-3}, named_mix("dnn,dcnv2"))
