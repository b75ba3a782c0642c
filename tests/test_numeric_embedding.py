"""Embeddings of numbers: their equations by hand, and the numbers of other libraries."""

import io
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from multiembed.base.errors import DataError
from multiembed.kernels.rows import Row
from multiembed.models.click_model import ClickModel
from multiembed.models.embedding import EmbeddingSets
from multiembed.models.naming import Numeric, NumericOptions
from multiembed.models.numeric_embedding import (
    NUMERIC_KINDS,
    LinearNumbers,
    NumericEmbedding,
    PeriodicLinear,
    SoftBuckets,
)
from multiembed.models.signals import Signals

GOLDEN = Path(__file__).parent / "golden" / "numeric_embeddings.npz"
NAN = math.nan


def one_field(kind: type[NumericEmbedding], rows: list[list[float]], **options: float):
    """Return an embedding of one field in one set, with these rows."""
    made = kind(1, dim=len(rows[0]), sets=1, row=Row(), options=NumericOptions(**options))
    made.rows.data.copy_(torch.tensor(rows))
    return made


def test_linear_is_a_line_by_hand():
    embed = one_field(LinearNumbers, [[9, 9], [1, -1], [2, 0.5]])

    found = embed(torch.tensor([[3.0], [-2.0], [NAN]]))

    # b + w v: 1 + 2 * 3, -1 + 0.5 * 3; and the row of a missing number.
    assert found[:, 0, 0].tolist() == [[7, 0.5], [-3, -2], [9, 9]]


def test_periodic_linear_by_hand():
    embed = one_field(PeriodicLinear, [[9, 9], [0.5, 0.5], [2, 1], [4, -3]], frequencies=1)
    embed.frequencies.data.fill_(0.25)

    found = embed(torch.tensor([[1.0], [2.0], [NAN]]))

    # An angle of 2 pi 0.25 v is a quarter turn at 1, cos 0 and sin 1, and a half at 2, cos -1.
    expected = torch.tensor([[4.5, 0], [0, 0], [9, 9]])  # 0.5 - 3 and 0.5 - 2, 0.5 - 1 below 0
    torch.testing.assert_close(found[:, 0, 0], expected, atol=1e-6, rtol=0)


def test_soft_buckets_by_hand():
    embed = one_field(
        SoftBuckets, [[9, 9], [8, 0], [0, 8]], buckets=2, temperature=0.5, keep_prob=2
    )
    embed.slopes.data.copy_(torch.tensor([[1.0, -1.0]]))
    embed.mixing.data.copy_(torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]))

    found = embed(torch.tensor([[1.0], [0.0], [NAN]]))

    # h = leaky_relu([1, -1]) = [1, -0.01]; scores [-0.01, 1] + 2 h = [1.99, 0.98], over 0.5.
    share = 1 / (1 + math.exp((0.98 - 1.99) / 0.5))
    expected = torch.tensor([[8 * share, 8 * (1 - share)], [4, 4], [9, 9]])
    torch.testing.assert_close(found[:, 0, 0], expected)


def golden_embedding(kind: str, of: dict[str, np.ndarray]) -> tuple[NumericEmbedding, dict]:
    """Return our embedding with another library's parameters, and where these stand in it."""
    sizes = {"frequencies": 5, "buckets": 6, "temperature": 0.7, "keep_prob": 0.8}
    made = NUMERIC_KINDS[kind](3, dim=4, sets=1, row=Row(), options=NumericOptions(**sizes))
    rows = {
        "linear": {"bias": slice(1, 2), "weight": slice(2, 3)},
        "plr": {"linear.bias": slice(1, 2), "linear.weight": slice(2, 12)},
        "soft": {"meta_emb": slice(1, 7)},
    }[kind]
    others = {"periodic.weight": "frequencies", "proj_w": "slopes", "proj_m": "mixing"}
    places = {}
    for name in of:
        if name in rows:
            places[name] = lambda t, at=rows[name]: t["rows"].view(3, made.count, 4)[:, at]
        elif name in others:
            places[name] = lambda t, at=others[name]: t[at]
    for name, place in places.items():
        there = place({n: p.data for n, p in made.named_parameters()})
        there.copy_(torch.from_numpy(of[name]).view_as(there))
    return made, places


@pytest.mark.parametrize("kind", NUMERIC_KINDS)
def test_outputs_and_gradients_are_another_librarys(kind):
    numbers = dict(np.load(GOLDEN))
    of = {k.removeprefix(f"{kind}/"): v for k, v in numbers.items() if k.startswith(f"{kind}/")}
    made, places = golden_embedding(kind, of)

    found = made(torch.from_numpy(numbers["numbers"]))
    (found[:, 0] * torch.from_numpy(numbers["upstream"])).sum().backward()

    assert len(places) == len(of) // 2 > 1  # beside each its gradient, and the output
    torch.testing.assert_close(found[:, 0], torch.from_numpy(of["output"]), rtol=1e-5, atol=1e-5)
    gradients = {name: parameter.grad for name, parameter in made.named_parameters()}
    for name, place in places.items():
        theirs = torch.from_numpy(of[f"grad/{name}"])
        ours = place(gradients).reshape(theirs.shape)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", NUMERIC_KINDS)
def test_gradients_are_slopes_and_a_missing_number_moves_its_row_alone(kind):
    torch.manual_seed(0)
    made = NUMERIC_KINDS[kind](2, dim=3, sets=2, row=Row(), options=NumericOptions()).double()
    torch.nn.init.normal_(made.rows)
    numbers = torch.tensor([[0.3, NAN], [-1.2, 0.7]], dtype=torch.float64)

    def embed(*values: torch.Tensor) -> torch.Tensor:
        names = [name for name, _ in made.named_parameters()]
        pairs = dict(zip(names, values, strict=True))
        return torch.func.functional_call(made, pairs, numbers)

    assert torch.autograd.gradcheck(embed, tuple(made.parameters()), fast_mode=True)
    made(torch.full((4, 2), NAN, dtype=torch.float64)).sum().backward()
    assert made.rows.grad.view(2, -1, 6)[:, 0].eq(4).all()
    assert not made.rows.grad.view(2, -1, 6)[:, 1:].any()


def model_of(kinds: list[str | None], architecture: str = "dcnv2", **more: object) -> ClickModel:
    torch.manual_seed(0)
    tables = partial(EmbeddingSets, signals=Signals(numeric=Numeric(kinds)), init=1.0)
    return ClickModel(architecture, [5, 6, 7, 8], dim=3, tables=tables, **more).eval()


def test_fields_stand_where_they_stood_and_the_others_rows_are_theirs():
    model = model_of(["soft", None, "plr", "soft"], sets=2)
    tables = model.embedding
    ids = torch.tensor([[4, 5, 6, 7], [0, 0, 0, 0]])
    numbers = torch.tensor([[0.5, NAN, -1.0], [1.0, 2.0, NAN]])

    found = tables(ids, numbers)

    soft, plr = tables.numeric["soft"], tables.numeric["plr"]
    table = tables.weight[ids[:, 1]].view(2, 2, 3)
    torch.testing.assert_close(found[:, :, 1], table)
    torch.testing.assert_close(found[:, :, 2], plr(numbers[:, [1]])[:, :, 0])
    torch.testing.assert_close(found[:, :, [0, 3]], soft(numbers[:, [0, 2]]))
    assert [len(block) for block in tables.by_field()] == [17, 6, 34, 17]
    assert tables.by_field()[3].data_ptr() == soft.rows[17:].data_ptr()
    # Ids of fields of numbers are not looked at, and those rows are nowhere.
    torch.testing.assert_close(tables(ids * torch.tensor([0, 1, 0, 0]), numbers), found)
    assert tables.weight.shape == (6, 6)


@pytest.mark.parametrize("architecture", ["xdeepfm", "ffm", "dnn"])
def test_rows_of_every_architecture_hold_numbers(architecture):
    model = model_of(["plr", "linear", None, "soft"], architecture)
    ids, numbers = torch.zeros(6, 4, dtype=torch.int64), torch.randn(6, 3)

    model(ids, numbers).square().sum().backward()

    assert all(p.grad is not None and p.grad.any() for _, p in model.embedding.named_parameters())
    if model.embedding.row.first_order:  # which no activation cuts off at 0
        plr = model.embedding.numeric["plr"]
        plr.rows.data.fill_(-1)
        plr.frequencies.data.zero_()
        rest, first = model.embedding.row.split(plr(numbers[:, :1]))
        assert not rest.any()
        assert first.eq(-17).all()  # the bias and 16 cosines of 0


def test_a_model_of_numbers_alone_has_an_empty_table_and_loads_to_the_same_outputs():
    model, file = model_of(["plr", "linear", "plr", "soft"]), io.BytesIO()
    ids, numbers = torch.zeros(6, 4, dtype=torch.int64), torch.randn(6, 4)
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = model_of(["plr", "linear", "plr", "soft"])
    for parameter in other.parameters():
        torch.nn.init.zeros_(parameter)

    other.load_state_dict(torch.load(file))

    assert model.embedding.weight.shape == (0, 3)
    assert torch.equal(other(ids, numbers), model(ids, numbers))


def test_numbers_that_are_not_given_or_too_many_are_refused():
    model, ids = model_of(["plr", None, None, "soft"]), torch.zeros(2, 4, dtype=torch.int64)

    with pytest.raises(DataError, match="numbers must have 2 columns, got 0"):
        model(ids)
    with pytest.raises(DataError, match="numbers must have 2 columns, got 3"):
        model(ids, torch.zeros(2, 3))
    with pytest.raises(DataError, match="ids must have 4 columns, got 2"):
        model(ids[:, :2], torch.zeros(2, 2))


def test_rows_begin_as_those_of_tables_do_and_a_missing_number_as_nothing():
    torch.manual_seed(0)
    tables = EmbeddingSets(
        [1000, 3], dim=4, sets=20, signals=Signals(numeric=Numeric([None, "plr"]))
    )

    table, block = tables.by_field()

    assert len(block) == 34
    assert not block[0].any()
    bound = math.sqrt(6 / (1034 + 4))
    assert 0.9 * bound < block.abs().max() <= bound
    assert 0.9 * bound < table.abs().max() <= bound
