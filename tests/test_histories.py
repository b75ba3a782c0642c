"""Histories in a model: pooled by mean or by attention, in two forms, beside other libraries."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from multiembed.base.errors import DataError
from multiembed.kernels.cpu.cpu_histories import RaggedHistories
from multiembed.kernels.history_values import PaddedHistories, RowsRead
from multiembed.kernels.route import ROUTES, FastForm
from multiembed.models.click_model import ClickModel
from multiembed.models.embedding import EmbeddingSets
from multiembed.models.histories import Histories, TargetAttention, pooled
from multiembed.models.interactions.architectures import ARCHITECTURES
from multiembed.models.signals import Signals
from multiembed.tables.table_optimizers import TABLE_OPTIMIZERS

FORMS = {"padded": PaddedHistories, "ragged": RaggedHistories}
POOLINGS = ["mean", "attention", "softmax"]


def histories(random, rows, size, slots):
    """Draw histories of 0 to `slots` ids, the first one empty, in slots with -1 behind."""
    sizes = random.integers(0, slots + 1, rows)
    sizes[0] = 0
    ids = random.integers(0, size, (rows, slots))
    return torch.from_numpy(np.where(np.arange(slots) < sizes[:, None], ids, -1))


def rows_read(form, embeddings, sizes):
    """Give a form its rows: those of every place, or those that are there alone."""
    flat = embeddings.flatten(0, 1)
    if form is RaggedHistories:
        flat = flat[(torch.arange(embeddings.shape[1]) < sizes[:, None]).flatten()]
    return RowsRead(flat)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(("name", "units"), [("plain", [8]), ("deep", [6, 5]), ("softmax", [8])])
def test_attention_gives_the_numbers_of_fuxictr(name, units, form, golden):
    numbers = {k: torch.from_numpy(v) for k, v in np.load(golden / "din_attention.npz").items()}
    target, values = (numbers[key].clone().requires_grad_() for key in ("target", "history"))
    sizes, pull = numbers["sizes"], numbers["pull"]
    # FuxiCTR's softmax weighs padding evenly where a history is empty: not in its numbers.
    rows = sizes > 0 if name == "softmax" else sizes >= 0
    attention = TargetAttention(1, 4, units=units, softmax=name == "softmax", positions=None)
    layers = [f"attention_layer.mlp.{2 * at}" for at in range(len(units) + 1)]
    for layer, of in zip(attention.layers, layers, strict=True):
        layer.weight.data[0] = numbers[f"{name}/start/{of}.weight"]
        layer.bias.data[0] = numbers[f"{name}/start/{of}.bias"]
    ids = torch.where(torch.arange(7) < sizes[:, None], 1, -1)[rows]

    read = rows_read(form, values[rows], sizes[rows])
    found = pooled(form(ids), read, target[rows].unsqueeze(1), attention)[:, 0]
    (found * pull[rows]).sum().backward()

    close = partial(torch.testing.assert_close, rtol=1e-5, atol=2e-6)
    close(found, numbers[f"{name}/output"])
    close(target.grad, numbers[f"{name}/grad/target"])
    close(values.grad, numbers[f"{name}/grad/history"])
    for layer, of in zip(attention.layers, layers, strict=True):
        close(layer.weight.grad[0], numbers[f"{name}/grad/{of}.weight"])
        close(layer.bias.grad[0], numbers[f"{name}/grad/{of}.bias"])


def test_attention_by_hand():
    # t = 2, h = 3 and 1: [t, h, t - h, t * h] = [2, 3, -1, 6] and [2, 1, 1, 2]. One unit of weights
    # 1, -2, 3, 1 and bias 1: 2 - 6 - 3 + 6 + 1 = 0 and 2 - 2 + 3 + 2 + 1 = 6; a last layer of
    # weight 0.5 and bias 0.25: weights 0.25 and 3.25, so 0.25 * 3 + 3.25 * 1 = 4.
    embedding = EmbeddingSets(
        [4], dim=1, slots=[1, 2], signals=Signals(Histories((0,), "attention", units=[1]))
    )
    first, last = embedding.attentions[0].layers
    embedding.weight.data[:, 0] = torch.tensor([0.0, 1.0, 2.0, 3.0])
    first.weight.data[0, 0] = torch.tensor([1.0, -2.0, 3.0, 1.0])
    first.bias.data[0, 0], last.weight.data[0, 0, 0], last.bias.data[0, 0] = 1.0, 0.5, 0.25

    assert embedding(torch.tensor([[2, 3, 1]]))[0, 0, :, 0].tolist() == [2.0, 4.0]
    assert embedding(torch.tensor([[2, -1, -1]]))[0, 0, :, 0].tolist() == [2.0, 0.0]


@pytest.mark.parametrize("name", [None, *TABLE_OPTIMIZERS])
def test_the_mean_and_its_gradient_are_those_of_embedding_bag(name):
    random = np.random.default_rng(0)
    embedding = EmbeddingSets(
        [4, 7], dim=3, sets=2, slots=[1, 1, 5], signals=Signals(Histories((1,)))
    )
    seen = histories(random, 40, 7, 5)
    ids = torch.cat([torch.from_numpy(random.integers(0, [4, 7], (40, 2))), seen], dim=1).int()
    table = embedding.weight.detach().clone().requires_grad_()
    first, second = table.split([4, 7])
    sizes = (seen >= 0).sum(1)
    bags = F.embedding_bag(seen[seen >= 0], second, sizes.cumsum(0) - sizes, mode="mean")
    expected = torch.stack([first[ids[:, 0]], second[ids[:, 1]], bags], dim=1)
    expected = expected.view(40, 3, 2, 3).transpose(1, 2)
    gradient = torch.from_numpy(random.standard_normal(expected.shape)).float()
    expected.backward(gradient)
    tables = name and TABLE_OPTIMIZERS[name](embedding, learning_rate=0.1, weight_decay=0.0)

    found = tables.lookup(ids) if tables else embedding(ids)
    found.backward(gradient)

    gradients = tables.gradients()[0] if tables else embedding.weight.grad
    wanted = table.grad
    if name not in (None, "dense_adam"):  # of the rows touched, in an order of its own
        wanted = wanted[wanted.abs().sum(1) > 0]
        gradients, wanted = (part[part[:, 0].argsort()] for part in (gradients, wanted))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients, wanted)
    assert not found[0, :, 2].any()  # its history is empty


@pytest.mark.parametrize("pooling", POOLINGS)
def test_both_forms_give_the_same_numbers_and_gradients(pooling):
    random, results = np.random.default_rng(1), []
    ids, target = histories(random, 30, 9, 6), torch.randn(30, 2, 3)
    for form in FORMS.values():
        torch.manual_seed(0)
        table = torch.randn(9, 6).requires_grad_()
        about = Histories((0,), pooling, units=[4], positions=pooling != "mean")
        attentions = about.attentions(2, 3, [6]) or [None]
        if attentions[0] is not None:
            attentions[0].positions.data.normal_()
        read = form(ids)
        found = pooled(read, RowsRead(table, read.ids), target, attentions[0])
        found.square().sum().backward()
        parameters = [] if attentions[0] is None else list(attentions[0].parameters())
        results.append([found, table.grad, *(parameter.grad for parameter in parameters)])

    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)
    assert all(torch.isfinite(number).all() for number in results[0] + results[1])
    assert not results[0][0][0].any()


def test_softmax_is_torchs_row_by_row():
    scores, ids = torch.randn(6, 2), torch.tensor([[3, 1, 2, 0], [-1, -1, -1, -1], [5, 4, -1, -1]])
    expected = torch.cat([scores[:4].softmax(0), scores[4:].softmax(0)])
    there = (ids >= 0).flatten()
    padded = torch.zeros(12, 2).masked_scatter(there.unsqueeze(1), scores)

    torch.testing.assert_close(RaggedHistories(ids).normalised(scores), expected)
    torch.testing.assert_close(PaddedHistories(ids).normalised(padded)[there], expected)


def test_places_are_counted_from_the_last_value():
    ids = torch.tensor([[3, 1, 2, 0], [-1, -1, -1, -1], [5, 4, -1, -1]])

    assert RaggedHistories(ids).ages.tolist() == [3, 2, 1, 0, 1, 0]
    assert PaddedHistories(ids).ages[ids.flatten() >= 0].tolist() == [3, 2, 1, 0, 1, 0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_reads_several_histories_and_learns_from_them(architecture):
    random = np.random.default_rng(2)
    torch.manual_seed(0)
    about = Histories((1, 0, 1), "softmax", units=[4], positions=True)
    tables = partial(EmbeddingSets, slots=[1, 1, 2, 4, 2, 3], signals=Signals(about))
    model = ClickModel(ARCHITECTURES[architecture](), [5, 8, 3], dim=4, sets=2, tables=tables)
    own = torch.from_numpy(random.integers(0, [5, 8, 3, 3], (16, 4)))
    seen = [histories(random, 16, size, slots) for size, slots in ((8, 4), (5, 2), (8, 3))]
    ids = torch.cat([own, *seen], dim=1)

    model(ids).square().sum().backward()

    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), name
    for attention in model.embedding.attentions:
        learns = [attention.positions, *(layer.weight for layer in attention.layers)]
        assert all(parameter.grad.any() for parameter in learns)
    # The form that is exported, and that a GPU trains in.
    table = model.embedding
    whole = table.arrange(F.embedding(table.rows(ids), table.weight), ids)
    torch.testing.assert_close(whole, table(ids))
    assert whole.shape == (16, table.sets, 6, table.width)


@pytest.fixture(params=["loops", "triton"])
def adam_rows(request, monkeypatch):
    """Deferred Adam in compiled loops; and in Triton's kernels, which see padded histories."""
    if request.param == "triton":
        pytest.importorskip("triton", reason="triton is not installed: only GPUs need it")
        form = FastForm(lambda *_: True, "multiembed.kernels.gpu.gpu_adam:TritonAdamRows")
        monkeypatch.setitem(ROUTES, "adam_rows", (form,))
    return request.param


def test_deferred_adam_trains_shared_tables_as_dense_adam_does(adam_rows):
    random, tables = np.random.default_rng(3), []
    steps, rows = (30, 16) if adam_rows == "loops" else (3, 4)
    sizes = [9, 30] if adam_rows == "loops" else [2, 4]
    for name in ("dense_adam", "deferred_adam"):
        torch.manual_seed(0)
        about = Histories((1,), "softmax")
        embedding = EmbeddingSets(sizes, dim=3, sets=2, slots=[1, 1, 4], signals=Signals(about))
        tables.append(TABLE_OPTIMIZERS[name](embedding, learning_rate=0.01, weight_decay=1e-3))
    for _ in range(steps):
        own = torch.from_numpy(random.integers(0, sizes, (rows, 2)))
        ids = torch.cat([own, histories(random, rows, sizes[1], 4)], dim=1).int()
        for one in tables:
            one.lookup(ids).square().sum().backward()
            one.step()
    for one in tables:
        one.flush()

    torch.testing.assert_close(tables[0].embedding.weight, tables[1].embedding.weight)


@pytest.mark.parametrize("name", ["lazy_adam", "rowwise_adagrad"])
def test_places_without_a_value_train_no_row(name):
    embedding = EmbeddingSets([6, 3], dim=2, slots=[1, 1, 3], signals=Signals(Histories((0,))))
    before = embedding.weight.detach().clone()
    tables = TABLE_OPTIMIZERS[name](embedding, learning_rate=0.1, weight_decay=0.1)

    ids = torch.tensor([[4, 1, 2, -1, -1], [5, 1, -1, -1, -1]], dtype=torch.int32)
    tables.lookup(ids).sum().backward()
    tables.step()

    changed = (embedding.weight.detach() != before).any(dim=1)
    assert changed.nonzero()[:, 0].tolist() == [2, 4, 5, 7]


def test_ids_outside_the_shared_field_are_refused():
    embedding = EmbeddingSets([6, 3], dim=2, slots=[1, 1, 2], signals=Signals(Histories((1,))))

    assert embedding(torch.tensor([[5, 2, -1, -1]])).shape == (1, 1, 3, 2)
    for wrong in ([[5, 2, 3, 0]], [[5, 2, 0, -2]], [[5, -1, 0, 1]]):
        with pytest.raises(DataError, match="must be below its cardinality 3"):
            embedding(torch.tensor(wrong))
