"""What every architecture must do, earned by its entry in the registry."""

import io

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

from multiembed.base.errors import ConfigError
from multiembed.models.click_model import ClickModel
from multiembed.models.interactions.architectures import ARCHITECTURES
from multiembed.models.interactions.base import Architecture, Interaction
from multiembed.models.naming import named_architecture

CARDINALITIES = [3, 4, 5]
FIELDS = len(CARDINALITIES)
DIM = 2
SMALL = {"hidden": (5, 4), "dropout": 0.0, "cin": (3, 2), "attention_layers": 2, "head_dim": 3}
VARIANTS = [
    ("dnn", {"batch_norm": False}),
    ("ipnn", {"include_embeddings": False}),
    ("nfwfm", {"pairs": "unordered"}),
    ("xdeepfm", {"linear": True}),
    ("dcnv2", {"block_weights": True}),
    ("finalmlp", {"feature_selection": 8}),
    ("autoint", {"hidden": ()}),
    ("ffm", {"own_block": False}),
    ("ffm", {"linear": False}),
]
CASES = [*((name, {}) for name in ARCHITECTURES), *VARIANTS]


def case_name(value: object) -> str:
    return "-".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


every_architecture = pytest.mark.parametrize(("name", "options"), CASES, ids=case_name)
every_number_of_sets = pytest.mark.parametrize(
    ("sets", "shared"), [(1, False), (3, False), (3, True)], ids=["one", "three", "shared"]
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def small(name: str, options: dict[str, object]) -> Architecture:
    known = ARCHITECTURES[name].model_fields
    return named_architecture(name, {k: v for k, v in SMALL.items() if k in known} | options)


def small_model(architecture: Architecture, *, sets: int, shared: bool) -> ClickModel:
    # Embeddings of size one, so that no hidden unit is lost for want of signal.
    return ClickModel(
        architecture,
        CARDINALITIES,
        dim=DIM,
        sets=sets,
        shared_interaction=shared,
        embedding_init=1.0,
    )


def interaction_and_input(
    architecture: Architecture, *, sets: int, shared: bool, batch: int = 3
) -> tuple[Interaction, torch.Tensor]:
    """Return the interaction alone in evaluation, and embeddings for it, in double precision."""
    interaction = architecture.interaction(fields=FIELDS, dim=DIM, sets=1 if shared else sets)
    width = architecture.row(FIELDS).width(DIM)
    embeddings = torch.randn(batch, sets, FIELDS, width, dtype=torch.double, requires_grad=True)
    return interaction.double().eval(), embeddings


def some_ids(rows: int) -> torch.Tensor:
    return torch.stack([torch.randint(size, (rows,)) for size in CARDINALITIES], dim=1)


@every_architecture
@every_number_of_sets
def test_it_gives_one_representation_per_set_and_one_logit_per_row(name, options, sets, shared):
    architecture = small(name, options)
    interaction, embeddings = interaction_and_input(architecture, sets=sets, shared=shared)
    model = small_model(architecture, sets=sets, shared=shared)

    assert interaction(embeddings).shape == (3, sets, interaction.width)
    assert model(some_ids(6)).shape == (6,)


@every_architecture
@every_number_of_sets
def test_rows_do_not_see_each_other_in_evaluation(name, options, sets, shared):
    model = small_model(small(name, options), sets=sets, shared=shared).eval()
    ids = some_ids(6)

    together = model(ids)

    alone = torch.cat([model(row.unsqueeze(0)) for row in ids])
    torch.testing.assert_close(together, alone)


@every_architecture
@every_number_of_sets
def test_sets_do_not_see_each_other(name, options, sets, shared):
    interaction, embeddings = interaction_and_input(small(name, options), sets=sets, shared=shared)

    represented = interaction(embeddings)

    for m in range(sets):
        (seen,) = torch.autograd.grad(
            represented[:, m].square().sum(), embeddings, retain_graph=True
        )
        assert seen[:, m].any()
        assert not seen[:, [other for other in range(sets) if other != m]].any()


@every_architecture
@every_number_of_sets
def test_every_parameter_of_every_set_has_a_gradient(name, options, sets, shared):
    # In evaluation: a batch norm in training takes away the bias before it.
    model = small_model(small(name, options), sets=sets, shared=shared).eval()

    model(some_ids(64)).square().sum().backward()

    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        slices = parameter.grad if parameter_name.startswith("groups") else parameter.grad[None]
        assert all(part.any() for part in slices), parameter_name


@every_architecture
@pytest.mark.parametrize("shared", [False, True])
def test_copies_of_one_set_equal_one_set(name, options, shared):
    architecture = small(name, options)
    one = small_model(architecture, sets=1, shared=False).eval()
    many = small_model(architecture, sets=3, shared=shared).eval()
    ids = some_ids(6)

    start = one.state_dict()
    for key, copy in many.state_dict().items():
        times = [there // here for there, here in zip(copy.shape, start[key].shape, strict=True)]
        copy.copy_(start[key].repeat(times))

    torch.testing.assert_close(many(ids), one(ids))


@every_architecture
@every_number_of_sets
def test_a_saved_model_loads_to_the_same_outputs(name, options, sets, shared):
    architecture = small(name, options)
    saved = small_model(architecture, sets=sets, shared=shared)
    loaded = small_model(architecture, sets=sets, shared=shared)
    ids = some_ids(16)
    saved.train()(ids)  # gives batch norms something to remember
    file = io.BytesIO()

    torch.save(saved.state_dict(), file)
    file.seek(0)
    loaded.load_state_dict(torch.load(file))

    assert torch.equal(loaded.eval()(ids), saved.eval()(ids))


@every_architecture
@every_number_of_sets
def test_gradients_are_the_slopes_of_the_output(name, options, sets, shared):
    interaction, embeddings = interaction_and_input(small(name, options), sets=sets, shared=shared)
    named = dict(interaction.named_parameters())

    def represent(embeddings: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return functional_call(interaction, dict(zip(named, values, strict=True)), embeddings)

    assert gradcheck(represent, (embeddings, *named.values()), fast_mode=True)


@every_architecture
@every_number_of_sets
def test_the_input_can_be_differentiated_twice(name, options, sets, shared):
    interaction, embeddings = interaction_and_input(
        small(name, options), sets=sets, shared=shared, batch=2
    )

    assert gradgradcheck(interaction, (embeddings,), fast_mode=True)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_unknown_option_is_refused_with_the_near_word(name):
    option = next(iter(ARCHITECTURES[name].model_fields))

    with pytest.raises(ConfigError, match=f"{option[:-1]}.*did you mean '{option}'"):
        named_architecture(name, {option[:-1]: 1})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@every_architecture
@every_number_of_sets
def test_a_gpu_gives_the_same_logits(name, options, sets, shared):
    model = small_model(small(name, options), sets=sets, shared=shared).double().eval()
    ids = some_ids(6)

    expected = model(ids)

    torch.testing.assert_close(model.cuda()(ids.cuda()).cpu(), expected)
