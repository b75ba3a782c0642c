"""Appendix E of the paper: without a non-linearity, several sets are one wide set."""

import pytest
import torch
from torch import nn

from multiembed.models.click_model import ClickModel
from multiembed.models.embedding import EmbeddingSets
from multiembed.models.naming import named_architecture

CARDINALITIES = [3, 4, 5, 2]
FIELDS, DIM, SETS = 4, 3, 3
WIDTH = FIELDS * DIM


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.stack([torch.randint(size, (10,)) for size in CARDINALITIES], dim=1)


def pair(name: str) -> tuple[ClickModel, ClickModel]:
    """Return a model of several sets and one of a single wide set, with the same tables."""
    architecture = named_architecture(name, {"hidden": [6, 5], "dropout": 0.0, "batch_norm": False})
    several = ClickModel(architecture, CARDINALITIES, dim=DIM, sets=SETS).double()
    wide = ClickModel(architecture, CARDINALITIES, dim=SETS * DIM, sets=1).double()
    for model in (several, wide):
        model.embedding.weight.data.normal_()
    wide.embedding.weight = several.embedding.weight
    wide.head.load_state_dict(several.head.state_dict())
    return several, wide


def widened(weight: torch.Tensor) -> torch.Tensor:
    """Put (sets, outputs, fields * dim) side by side as one wide set orders its inputs."""
    by_field = weight.view(SETS, -1, FIELDS, DIM)
    return by_field.permute(1, 2, 0, 3).reshape(weight.shape[1], SETS * WIDTH)


def give_projection(several: nn.Module, wide: nn.Module) -> None:
    """Set the wide projection to the mean of the sets' projections: the factor 1 / M."""
    with torch.no_grad():
        wide.weight[0] = widened(several.weight) / SETS
        wide.bias[0] = several.bias.mean(dim=0)


def test_dnn_sets_side_by_side_are_a_permutation_of_one_wide_set(ids):
    several = EmbeddingSets(CARDINALITIES, dim=DIM, sets=SETS)
    wide = EmbeddingSets(CARDINALITIES, dim=SETS * DIM)
    wide.weight = several.weight
    permutation = [
        (i * SETS + m) * DIM + k for m in range(SETS) for i in range(FIELDS) for k in range(DIM)
    ]

    concatenated = several(ids).flatten(start_dim=1)  # set, field, number

    assert torch.equal(concatenated, wide(ids).flatten(start_dim=1)[:, permutation])


def test_projected_dnn_sets_are_one_wide_set_but_for_a_factor_of_their_number(ids):
    several, wide = pair("dnn")
    for model in (several, wide):
        projection = model.groups[0].interaction.projection
        model.groups[0].interaction.projection = projection.linear
    give_projection(*(m.groups[0].interaction.projection for m in (several, wide)))

    torch.testing.assert_close(wide(ids), several(ids), rtol=1e-12, atol=1e-12)


def test_dcnv2_sets_are_one_wide_set_with_block_diagonal_weights(ids):
    several, wide = pair("dcnv2")
    crossings = [model.groups[0].interaction.cross for model in (several, wide)]
    with torch.no_grad():
        for layer, wide_layer in zip(*crossings, strict=True):
            layer.bias.normal_()
            blocks = torch.zeros(FIELDS, SETS, DIM, FIELDS, SETS, DIM, dtype=torch.float64)
            for m in range(SETS):
                blocks[:, m, :, :, m] = layer.weight[m].view(FIELDS, DIM, FIELDS, DIM)
            wide_layer.weight[0] = blocks.view(SETS * WIDTH, SETS * WIDTH)
            wide_layer.bias[0] = layer.bias.view(SETS, FIELDS, DIM).transpose(0, 1).reshape(-1)
    projections = []
    for model in (several, wide):
        interaction = model.groups[0].interaction
        projections.append(interaction.projection.linear)
        interaction.projection = nn.Identity()
    crossed, wide_crossed = (model.represent(model.embedding(ids)) for model in (several, wide))

    as_wide = crossed.view(-1, SETS, FIELDS, DIM).transpose(1, 2).flatten(start_dim=1)
    torch.testing.assert_close(wide_crossed[:, 0], as_wide, rtol=1e-12, atol=1e-12)

    give_projection(*projections)
    for model, projection in zip((several, wide), projections, strict=True):
        model.groups[0].interaction.projection = projection
    torch.testing.assert_close(wide(ids), several(ids), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["dnn", "dcnv2"])
def test_the_non_linearity_of_the_model_sets_it_apart(name, ids):
    """The same weights with their ReLU in place are another function."""
    several, wide = pair(name)
    projections = [model.groups[0].interaction.projection.linear for model in (several, wide)]
    if name == "dcnv2":  # no crossing: both see the embeddings themselves
        for model in (several, wide):
            model.groups[0].interaction.cross = nn.ModuleList()
    give_projection(*projections)

    assert (wide(ids) - several(ids)).abs().max() > 1e-3
