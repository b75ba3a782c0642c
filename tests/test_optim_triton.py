"""The kernels for GPUs are dense Adam too. Without a GPU, Triton's interpreter runs them."""

import numpy as np
import pytest
import torch
from test_optim_deferred_adam import (
    DenseLoop,
    gradients,
    make,
    plain,
    relative_error,
    train,
    zipf_batches,
)
from torch._subclasses.fake_tensor import FakeTensorMode

from multiembed.base.devices import has_triton
from multiembed.kernels.route import ROUTES, FastForm, fast_form

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES = [2, 1, 3]
"""Few rows: the interpreter takes milliseconds for each of their steps."""

pytestmark = pytest.mark.usefixtures("triton_everywhere")


@pytest.fixture
def triton_everywhere(monkeypatch):
    """Have Triton's kernels serve float32 tables on a CPU too."""
    pytest.importorskip("triton", reason="triton is not installed: 300 MB that only GPUs need")
    form = FastForm(lambda *_: True, "multiembed.kernels.gpu.gpu_adam:TritonAdamRows")
    monkeypatch.setitem(ROUTES, "adam_rows", (form,))


def by_kernels(**options):
    return make(device=DEVICE, **({"cardinalities": SIZES} | options))


def few_rows(steps, batch):
    return zipf_batches(steps, batch, cardinalities=SIZES)


def skip(optimizer, steps, learning_rate=1e-3):
    """Take steps that touch other rows alone."""
    for _ in range(steps):
        optimizer.graph_update.begin_step(learning_rate)
        optimizer.graph_update.end_step()


def train_now_and_then(optimizer, work, rates, flush_every=None):
    """Take every ninth step with what `work` has for it, the others without a gradient."""
    for step, (one, rate) in enumerate(zip(work, rates, strict=True)):
        if step % 9:
            skip(optimizer, 1, rate)
        else:
            train(optimizer, [one], [rate])
        if flush_every and step % flush_every == 0:
            optimizer.flush()
    optimizer.flush()
    return optimizer


@pytest.mark.parametrize(("sets", "dim"), [(1, 1), (2, 3), (2, 33)])
@pytest.mark.parametrize("weight_decay", [0.0, 1e-6, 1e-4])
def test_kernels_end_where_dense_adam_in_float64_ends(sets, dim, weight_decay):
    rates = (1e-3 * np.cos(np.linspace(0, 1.5, 36))).tolist()
    optimizer = by_kernels(sets=sets, dim=dim, weight_decay=weight_decay)
    loop = DenseLoop(optimizer.embedding, weight_decay)
    work = list(gradients(few_rows(36, 2), sets, dim))

    train_now_and_then(optimizer, work, rates)
    for step, ((ids, gradient), rate) in enumerate(zip(work, rates, strict=True)):
        loop.step(ids, gradient * (step % 9 == 0), rate)

    assert relative_error(optimizer.embedding, loop) <= 5e-6


def test_kernels_and_plain_torch_give_the_same_numbers_at_every_lookup():
    ours, theirs = by_kernels(), plain(cardinalities=SIZES)

    for ids, gradient in gradients(few_rows(7, 3)):
        seen, expected = ours.lookup(ids.to(DEVICE)), theirs.lookup(ids)
        torch.testing.assert_close(seen.cpu(), expected, rtol=2e-5, atol=1e-8)
        for optimizer, embeddings in ((ours, seen), (theirs, expected)):
            embeddings.backward(gradient.to(embeddings.device))
            optimizer.step()
    for optimizer in (ours, theirs):
        optimizer.flush()

    states = [optimizer.state() for optimizer in (ours, theirs)]
    torch.testing.assert_close(*(state["moments"].cpu() for state in states))
    assert torch.equal(*(state["last_step"].cpu() for state in states))


@pytest.mark.parametrize("sizes", [[2, 3], [100], [1, 150, 20]])
def test_rows_that_half_a_batch_touches_get_the_sum_of_all_gradients(sizes):
    """More ids of one row than a piece may have, up to many pieces of it."""
    random = np.random.default_rng(0)
    ones = [1] * len(sizes)
    optimizer = by_kernels(sets=3, dim=5, cardinalities=sizes, slots=ones, weight_decay=0.0)
    columns = [np.minimum(random.zipf(1.2, 300), size) - 1 for size in sizes]
    ids = torch.from_numpy(np.stack(columns, axis=1).astype(np.int32))
    gradient = torch.randn(300, 3, len(sizes), 5)

    optimizer.lookup(ids.to(DEVICE)).backward(gradient.to(DEVICE))
    (sums,) = optimizer.gradients()
    optimizer.step()

    rows = ids + torch.tensor([0, *np.cumsum(sizes)[:-1]])
    expected = torch.zeros(sum(sizes), 15, dtype=torch.float64)
    expected.index_add_(0, rows.flatten(), gradient.transpose(1, 2).double().reshape(-1, 15))
    torch.testing.assert_close(
        optimizer.state()["moments"][:, 0].cpu().double(), 0.1 * expected, rtol=1e-4, atol=1e-5
    )
    # Clipping takes the norm of what is handed out: of every row once.
    torch.testing.assert_close(sums.double().norm().cpu(), expected.norm())


def test_several_values_of_a_field_share_rows():
    """Columns of one field, and places without a value."""
    optimizer = by_kernels(slots=[1, 2, 1])
    theirs = plain(cardinalities=SIZES, slots=[1, 2, 1])
    random = np.random.default_rng(0)

    for _ in range(3):
        ids = torch.from_numpy(random.integers(0, [2, 1, 1, 3], (8, 4)).astype(np.int32))
        ids[::3, 2] = -1
        gradient = torch.randn(8, 2, 3, 3) * 1e-3
        seen, expected = optimizer.lookup(ids.to(DEVICE)), theirs.lookup(ids)
        torch.testing.assert_close(seen.cpu(), expected, rtol=2e-5, atol=1e-7)
        for one, embeddings in ((optimizer, seen), (theirs, expected)):
            embeddings.backward(gradient.to(embeddings.device))
            one.step()


def test_rates_are_those_of_the_schedule_however_it_changes():
    """Also beyond what was sent ahead."""
    optimizer = by_kernels()
    for step in range(1200):
        optimizer.learning_rate = 1e-3 / (1 + step // 7) if step < 500 else 1e-4
        optimizer.graph_update.begin_step(optimizer.learning_rate)

    schedule = optimizer._table.schedule
    rate, floor = (sent[:1201].cpu().numpy() for sent in optimizer.graph_update.arguments()[:2])

    np.testing.assert_array_equal(rate, schedule.rate)
    np.testing.assert_array_equal(floor, schedule.floor)


def test_more_steps_than_there_was_room_for_move_the_rates():
    optimizer = by_kernels()
    update = optimizer.graph_update
    update._rates = update._rates[:, :300].clone()
    before = update.address

    for _ in range(400):
        update.begin_step(1e-3)

    assert update.address != before
    sent = update.arguments()[0][:401].cpu().numpy()
    np.testing.assert_array_equal(sent, optimizer._table.schedule.rate)


def test_rows_that_only_decay_end_early_and_keep_their_second_moment():
    """Untouched rows reach zero; without weight decay a row that rests must still know its past."""
    ids, gradient = torch.zeros(1, 1, dtype=torch.int32), torch.full((1, 1, 1, 2), 1e-3)
    small = {"sets": 1, "dim": 2, "cardinalities": [2], "slots": [1]}
    resting = by_kernels(weight_decay=0.0, **small)
    decaying = by_kernels(scale=1e-7, **small)
    loop = DenseLoop(resting.embedding, 0.0)

    for optimizer in (resting, decaying):
        train(optimizer, [(ids, gradient)] * 3)
        skip(optimizer, 450)
        train(optimizer, [(ids, gradient)])
        optimizer.flush()
    for scale in [1] * 3 + [0] * 450 + [1]:
        loop.step(ids, scale * gradient, 1e-3)

    assert relative_error(resting.embedding, loop) <= 1e-6
    assert decaying.embedding.weight[1].abs().max() == 0


def test_when_rows_are_brought_up_to_date_does_not_change_a_bit():
    work, rates = list(gradients(few_rows(36, 2))), [1e-3] * 36

    seldom = train_now_and_then(by_kernels(), work, rates)
    often = train_now_and_then(by_kernels(), work, rates, flush_every=13)

    assert torch.equal(often.embedding.weight, seldom.embedding.weight)


def test_a_resumed_training_has_the_same_bits():
    work = list(gradients(few_rows(6, 2)))
    rates = (1e-3 * 0.9 ** (np.arange(6) // 2)).tolist()
    straight = train(by_kernels(), work, rates)

    half = train(by_kernels(), work[:3], rates[:3])
    resumed = by_kernels()
    resumed.embedding.load_state_dict(half.embedding.state_dict())
    resumed.load_state({name: tensor.clone() for name, tensor in half.state().items()})
    train(resumed, work[3:], rates[3:])

    for name, tensor in straight.state().items():
        assert torch.equal(resumed.state()[name], tensor), name
    assert torch.equal(resumed.embedding.weight, straight.embedding.weight)


def test_tables_on_a_gpu_get_the_kernels_if_they_are_float32(monkeypatch):
    monkeypatch.undo()
    from multiembed.kernels.gpu.gpu_adam import TritonAdamRows

    with FakeTensorMode():
        tables = {
            (device, dtype): torch.empty(2, 2, device=device, dtype=dtype)
            for device in ("cpu", "cuda")
            for dtype in (torch.float32, torch.float64)
        }
        chosen = {
            key: fast_form("adam_rows", table, table, training=True)
            for key, table in tables.items()
        }

    served = [key for key, form in chosen.items() if form is TritonAdamRows]
    assert served == ([("cuda", torch.float32)] if has_triton() else [])
    if DEVICE == "cuda":
        assert type(make(device=DEVICE)._rows) is TritonAdamRows


def test_rounded_embeddings_lie_in_padded_rows_and_hand_rounded_gradients_over():
    optimizer, theirs = by_kernels(), plain(cardinalities=SIZES)
    optimizer.graph_update.lookup_dtype = torch.bfloat16
    ((ids, gradient),) = gradients(few_rows(1, 8))

    seen, expected = optimizer.lookup(ids.to(DEVICE)), theirs.lookup(ids)
    seen.backward(gradient.to(seen))
    expected.backward(gradient.bfloat16().float())
    optimizer.step()
    theirs.step()

    assert seen.dtype == torch.bfloat16
    # The interpreter rounds towards zero.
    torch.testing.assert_close(seen.float().cpu(), expected, rtol=2**-7, atol=0)
    whole = seen.detach().transpose(0, 1).as_strided((2, 8, 32), (256, 32, 1))
    assert (whole[..., 9:] == 0).all()
    torch.testing.assert_close(
        optimizer.state()["moments"].cpu(), theirs.state()["moments"], rtol=2e-2, atol=1e-9
    )
