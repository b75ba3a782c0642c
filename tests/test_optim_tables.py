"""The other table optimizers, and what all of them share: finding rows and gathering them."""

import numpy as np
import pytest
import torch
from numba import njit

from multiembed.base import loops as compiling
from multiembed.base.errors import ConfigError
from multiembed.kernels.cpu.cpu_rows import find_rows_on_cpu, gather_rows_on_cpu
from multiembed.kernels.rows import find_rows, gather_rows
from multiembed.models.embedding import EmbeddingSets
from multiembed.tables.row_optimizers import LazyAdam, RowWiseAdagrad
from multiembed.tables.table_optimizers import TABLE_OPTIMIZERS

IDS = torch.tensor([[0, 2], [1, 2], [0, 0], [0, 2]], dtype=torch.int32)


def embedding(sets=2, dim=2, dtype=torch.float32):
    torch.manual_seed(0)
    return EmbeddingSets([2, 3], dim=dim, sets=sets, init=1.0).to(dtype)


@pytest.mark.parametrize("find", [find_rows, find_rows_on_cpu])
def test_touched_rows_are_the_distinct_rows_oldest_first(find):
    last = torch.tensor([7, 3, 9, 0, 5], dtype=torch.int32)

    touched = find(IDS, torch.tensor([0, 2]), last)

    assert touched.rows.tolist() == [1, 4, 0, 2]
    assert touched.last.tolist() == [3, 5, 7, 9]
    assert touched.rows[touched.positions].tolist() == [[0, 4], [1, 4], [0, 2], [0, 4]]
    assert last.tolist() == [7, 3, 9, 0, 5]


@pytest.mark.parametrize("find", [find_rows, find_rows_on_cpu])
def test_an_empty_batch_touches_no_row(find):
    last = torch.zeros(5, dtype=torch.int32)

    touched = find(IDS[:0], torch.tensor([0, 2]), last)

    assert len(touched.rows) == 0


@pytest.mark.parametrize("sets", [1, 3])
@pytest.mark.parametrize("gather", [gather_rows, gather_rows_on_cpu])
def test_gathered_embeddings_and_their_gradient_follow_numpy(sets, gather):
    random = np.random.default_rng(0)
    values = torch.from_numpy(random.normal(size=(5, sets * 4)).astype(np.float32))
    index = torch.tensor([[0, 3], [1, 3], [0, 2], [0, 4]], dtype=torch.int32)
    gradient = torch.from_numpy(random.normal(size=(4, sets, 2, 4)).astype(np.float32))
    values.requires_grad_()

    embeddings = gather(values, index, sets)
    embeddings.backward(gradient)

    expected = values.detach().numpy()[index.numpy()].reshape(4, 2, sets, 4).transpose(0, 2, 1, 3)
    sums = np.zeros((5, sets * 4), dtype=np.float32)
    np.add.at(sums, index.numpy(), gradient.numpy().transpose(0, 2, 1, 3).reshape(4, 2, -1))
    np.testing.assert_array_equal(embeddings.detach().numpy(), expected)
    np.testing.assert_allclose(values.grad.numpy(), sums, rtol=1e-6)


@pytest.mark.parametrize("name", TABLE_OPTIMIZERS)
def test_every_optimizer_looks_up_what_the_table_holds(name):
    tables = embedding()
    optimizer = TABLE_OPTIMIZERS[name](tables, learning_rate=0.1, weight_decay=0.0)

    assert torch.equal(optimizer.lookup(IDS), tables(IDS))


@pytest.mark.parametrize("name", TABLE_OPTIMIZERS)
def test_every_optimizer_goes_on_from_its_state_bit_for_bit(name):
    straight, first = embedding(), embedding()
    whole = TABLE_OPTIMIZERS[name](straight, learning_rate=0.1, weight_decay=0.01)
    half = TABLE_OPTIMIZERS[name](first, learning_rate=0.1, weight_decay=0.01)

    descend(whole, 6)
    descend(half, 3)
    second = embedding()
    second.load_state_dict(first.state_dict())
    rest = TABLE_OPTIMIZERS[name](second, learning_rate=0.1, weight_decay=0.01)
    rest.load_state({key: tensor.clone() for key, tensor in half.state().items()})
    descend(rest, 3)

    whole.flush()
    rest.flush()
    assert torch.equal(second.weight, straight.weight)


def descend(optimizer, steps):
    for _ in range(steps):
        (optimizer.lookup(IDS) ** 2).sum().backward()
        optimizer.step()


def test_lazy_adam_is_torchs_sparse_adam():
    ours, theirs = embedding(sets=1), embedding(sets=1)
    optimizer = LazyAdam(ours, learning_rate=0.1, weight_decay=0.0)
    sparse = torch.optim.SparseAdam([theirs.weight], lr=0.1)

    for step in range(8):
        ids = IDS[step % 2 : 2 + step % 2]
        (optimizer.lookup(ids) ** 2).sum().backward()
        optimizer.step()
        sparse.zero_grad()
        looked_up = torch.nn.functional.embedding(theirs.rows(ids), theirs.weight, sparse=True)
        (looked_up**2).sum().backward()
        sparse.step()

    torch.testing.assert_close(ours.weight, theirs.weight)


def test_lazy_adam_decays_the_rows_it_touches():
    """One step from zero moments moves by the learning rate against the gradient's sign."""
    tables = embedding()
    before = tables.weight.detach().clone()
    optimizer = LazyAdam(tables, learning_rate=0.1, weight_decay=0.5)

    (optimizer.lookup(IDS) * 0).sum().backward()
    optimizer.step()

    untouched = 3  # id 1 of field 1
    moved = before - 0.1 * before.sign()
    moved[untouched] = before[untouched]
    torch.testing.assert_close(tables.weight.detach(), moved)


def test_rowwise_adagrad_divides_a_row_by_one_number():
    """By hand: gradient 2 w on rows seen once; sums grow by the mean square of the row."""
    tables = embedding()
    before = tables.weight.detach().double().numpy().copy()
    optimizer = RowWiseAdagrad(tables, learning_rate=0.1, weight_decay=0.25)
    ids = torch.tensor([[1, 2]])

    expected, sums = before.copy(), np.zeros(5)
    for _ in range(3):
        (optimizer.lookup(ids) ** 2).sum().backward()
        optimizer.step()
        for row in (1, 4):
            gradient = 2 * expected[row] + 0.25 * expected[row]
            sums[row] += np.mean(gradient**2)
            expected[row] -= 0.1 / (np.sqrt(sums[row]) + 1e-8) * gradient

    np.testing.assert_allclose(tables.weight.detach().numpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(optimizer.state()["sum"].numpy(), sums, rtol=1e-5)


def test_an_unknown_optimizer_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"table optimizer must be one of .*, got 'adam'"):
        TABLE_OPTIMIZERS["adam"](embedding(), learning_rate=0.1, weight_decay=0.0)


def test_loops_compile_where_nothing_can_be_cached(monkeypatch):
    def without_cache(**options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    monkeypatch.setattr(compiling, "njit", without_cache)

    assert compiling.compiled(lambda number: number + 1)(1) == 2
