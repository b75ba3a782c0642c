"""A user's own module with several sets, against a plain loop over modules of its own."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from multiembed.base.errors import ConfigError
from multiembed.models.click_model import ClickModel
from multiembed.models.multi_embed import OwnArchitecture, multi_embed
from multiembed.models.naming import named_architecture

CARDINALITIES = [3, 4, 5]
FIELDS, DIM, SETS = 3, 4, 3


class Own(nn.Module):
    """With a view, a batch norm, dropout, a shared parameter and products of fields."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.first = nn.Linear(FIELDS * DIM, FIELDS * DIM)
        self.norm = nn.BatchNorm1d(FIELDS * DIM)
        self.drop = nn.Dropout(0.1)
        self.again = self.first
        self.last = nn.Linear(FIELDS * DIM, width)

    def forward(self, embeddings):
        flat = embeddings.view(len(embeddings), -1)
        crossed = flat * self.again(self.first(flat))
        return F.relu(self.last(self.drop(self.norm(crossed))))


class Recurrent(nn.Module):
    """Its cell keeps a list of its own parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRU(DIM, 6, batch_first=True)

    def forward(self, embeddings):
        return self.cell(embeddings)[1][0]


class Attentive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.TransformerEncoderLayer(DIM, 2, 8, batch_first=True)
        self.last = nn.LazyLinear(6)

    def forward(self, embeddings):
        return self.last(self.attend(embeddings).flatten(1)).relu()


def some_ids(rows: int) -> torch.Tensor:
    return torch.stack([torch.randint(size, (rows,)) for size in CARDINALITIES], dim=1)


def flat_linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(FIELDS * DIM, 5))


def built_beside(kind: type[nn.Module], **arguments) -> tuple[ClickModel, list[nn.Module]]:
    """Build a model, and keep a copy of every module it was built from."""
    torch.manual_seed(0)
    model = multi_embed(kind, CARDINALITIES, SETS, dim=DIM, **arguments)
    torch.manual_seed(0)
    model.embedding.initialise("table")  # the table is drawn before the modules
    alone = [kind() for _ in range(1 if arguments else SETS)]
    rows = torch.zeros(2, FIELDS, DIM)
    return model, [_materialised(module, rows) for module in alone]


def _materialised(module: nn.Module, rows: torch.Tensor) -> nn.Module:
    module.eval()
    with torch.no_grad():
        module(rows)
    return module.train()


@pytest.mark.parametrize("kind", [Own, Recurrent])
@pytest.mark.parametrize("training", [False, True])
def test_it_is_a_plain_loop_over_modules_of_their_own(kind, training):
    model, alone = built_beside(kind)
    for module in alone:
        module.train(training)
    model.groups.train(training)
    model.head.eval()
    for part in (*alone, model):
        for module in part.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    ids = some_ids(16)
    embeddings = model.embedding(ids)

    got = model(ids)
    views = [module(embeddings[:, m].contiguous()) for m, module in enumerate(alone)]
    expected = model.head(sum(views) / SETS)
    torch.testing.assert_close(got, expected)

    got.square().sum().backward()
    expected.square().sum().backward(inputs=[p for m in alone for p in m.parameters()])
    stacked = model.groups[0].interaction.module
    for name, parameter in stacked.named_parameters():
        grads = torch.stack([module.get_parameter(name).grad for module in alone])
        torch.testing.assert_close(parameter.grad, grads)
    for name, buffer in stacked.named_buffers():
        buffers = torch.stack([module.get_buffer(name) for module in alone])
        torch.testing.assert_close(buffer, buffers)


def test_every_set_has_its_parameters_in_one_tensor_per_name():
    model = multi_embed(Own, CARDINALITIES, SETS, dim=DIM)

    weight = model.groups[0].interaction.module.last.weight
    assert weight.shape == (SETS, 6, FIELDS * DIM)
    assert not torch.equal(weight[0], weight[1])
    names = [name for name, _ in model.named_parameters()]
    assert len(names) == len(set(names))
    assert sum("first" in name or "again" in name for name in names) == 2


def test_shared_one_module_serves_all_sets():
    model, (alone,) = built_beside(Own, shared_interaction=True)
    model.eval()
    alone.eval()
    ids = some_ids(5)
    embeddings = model.embedding(ids)

    mean = sum(alone(embeddings[:, m].contiguous()) for m in range(SETS)) / SETS

    torch.testing.assert_close(model(ids), model.head(mean))


@pytest.mark.parametrize("kind", [Own, Recurrent, Attentive])
def test_it_trains_saves_loads_and_copies(kind):
    torch.manual_seed(0)
    model = multi_embed(kind, CARDINALITIES, SETS, dim=DIM, embedding_init=0.5)
    ids = some_ids(60)
    labels = (ids[:, 0] == ids[:, 1]).float()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        loss = F.binary_cross_entropy_with_logits(model(ids), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    other = multi_embed(kind, CARDINALITIES, SETS, dim=DIM)
    other.load_state_dict(model.state_dict())

    assert losses[-1] < 0.8 * losses[0]
    expected = model.eval()(ids)
    assert torch.equal(other.eval()(ids), expected)
    assert torch.equal(copy.deepcopy(model)(ids), expected)


def test_a_head_of_one_s_own_may_return_a_column():
    def head(width: int) -> nn.Module:
        return nn.Sequential(nn.Linear(width, 3), nn.Tanh(), nn.Linear(3, 1))

    model = multi_embed(Own, CARDINALITIES, SETS, dim=DIM, head=head)

    assert model(some_ids(5)).shape == (5,)
    assert model.summary().parameters.head == 6 * 3 + 3 + 3 + 1


def test_it_stands_among_other_architectures():
    model = ClickModel(
        [(named_architecture("dcnv2"), 2), (OwnArchitecture(build=Own), 1)],
        CARDINALITIES,
        dim=DIM,
    )

    assert model(some_ids(5)).shape == (5,)
    assert model.groups[1].adapter is not None


@pytest.mark.parametrize(
    "build",
    [flat_linear, lambda: nn.Sequential(flat_linear(), nn.BatchNorm1d(5), nn.Dropout(0.2))],
)
def test_a_linear_interaction_draws_a_warning(build):
    with pytest.warns(UserWarning, match="linear in the embeddings"):
        multi_embed(build, CARDINALITIES, SETS, dim=DIM)


@pytest.mark.parametrize(
    "last", [nn.ReLU(), nn.GELU(), nn.Sigmoid(), nn.Hardtanh(-9, 9), nn.Softplus()]
)
def test_a_non_linear_interaction_draws_none(last):
    multi_embed(
        lambda: nn.Sequential(flat_linear(), copy.deepcopy(last)), CARDINALITIES, SETS, dim=DIM
    )


class Unit(nn.Module):
    """Divides by its length: at zero, that is no number."""

    def forward(self, embeddings):
        flat = embeddings.flatten(1)
        return flat / flat.norm(dim=1, keepdim=True)


def test_an_interaction_undefined_at_zero_draws_none():
    multi_embed(Unit, CARDINALITIES, SETS, dim=DIM)


def test_one_linear_set_is_nothing_to_warn_of():
    multi_embed(flat_linear, CARDINALITIES, 1, dim=DIM)


def test_building_draws_no_random_numbers_but_the_user_s():
    torch.manual_seed(0)
    multi_embed(
        lambda: nn.Sequential(flat_linear(), nn.Dropout(0.5), nn.ReLU()),
        CARDINALITIES,
        1,
        dim=DIM,
        head=lambda width: nn.Linear(width, 1),
    )
    after = torch.rand(())
    torch.manual_seed(0)
    ClickModel("dnn", CARDINALITIES, dim=DIM).embedding.initialise("table")
    torch.manual_seed(0)
    torch.empty(12, DIM).uniform_()
    flat_linear()
    nn.Linear(5, 1)

    assert torch.equal(after, torch.rand(()))


class Shapeless(nn.Module):
    """Returns what it was made with, whatever comes in."""

    def __init__(self, output) -> None:
        super().__init__()
        self.output = output

    def forward(self, inputs):
        return self.output


class Growing(nn.Module):
    """Every one is larger than the one before."""

    count = 0

    def __init__(self) -> None:
        super().__init__()
        Growing.count += 1
        self.last = nn.Linear(FIELDS * DIM, Growing.count)

    def forward(self, embeddings):
        return self.last(embeddings.flatten(1)).relu()


class Hidden(nn.Module):
    """Keeps a parameter where no name finds it."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(FIELDS * DIM, 5)
        self.kept = [self.last.weight]

    def forward(self, embeddings):
        return F.linear(embeddings.flatten(1), self.kept[0]).relu()


ONE = Own()


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: Shapeless(torch.zeros(8)), r"from \(8, 3, 4\) to \(8, width\), got \(8,\)"),
        (lambda: Shapeless(torch.zeros(7, 2)), r"to \(8, width\), got \(7, 2\)"),
        (lambda: Shapeless(torch.zeros(8, 2).long()), r"got \(8, 2\) of torch.int64"),
        (lambda: Shapeless((1, 2)), "build must return a module that returns a tensor, got tuple"),
        (
            lambda: nn.Linear(7, 2),
            r"build must return a module that takes \(8, 3, 4\), got RuntimeError: mat1 and mat2",
        ),
        (lambda: ONE, "build must return a new module at every call, got the same twice"),
        (Growing, "build must return modules of the same shape at every call"),
        (Hidden, "look parameters and buffers up by name"),
    ],
)
def test_a_module_that_does_not_fit_is_one_clear_line(build, said):
    with pytest.raises(ConfigError, match=said) as caught:
        multi_embed(build, CARDINALITIES, 2, dim=DIM)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (lambda width: nn.Linear(width, 2), r"one logit per row, \(8,\), got \(8, 2\)"),
        (lambda width: nn.Linear(9, 1), r"head must return a module that takes \(8, 6\), got"),
        (lambda width: None, "head must return a torch module, got NoneType"),
    ],
)
def test_a_head_that_does_not_fit_is_one_clear_line(head, said):
    with pytest.raises(ConfigError, match=said):
        multi_embed(Own, CARDINALITIES, 2, dim=DIM, head=head)
