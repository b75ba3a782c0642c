"""The kernels for GPUs are dense Adam too. Without a GPU, Triton's interpreter runs them."""

import numpy as np
import pytest
import torch
from test_optim_deferred_adam import (
    DenseLoop,
    gradients,
    make,
    relative_error,
    train,
    zipf_batches,
)
from torch._subclasses.fake_tensor import FakeTensorMode

from multiembed.kernels import plain_adam as eager_adam
from multiembed.models.embedding import EmbeddingSets
from multiembed.tables.deferred_adam import by_triton

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="module")
def kernels():
    pytest.importorskip("triton", reason="triton is not installed: 300 MB that only GPUs need")
    from multiembed.kernels.gpu import gpu_adam as triton_adam

    return triton_adam.TritonDeferredAdam


def by(kind, *, weight_decay=1e-6, **options):
    embedding = make(device=DEVICE, **options).embedding
    return kind(embedding, learning_rate=1e-3, weight_decay=weight_decay)


def plain(**options):
    """Every row at every lookup, in plain torch."""
    optimizer = make(**options)
    optimizer._implementation = eager_adam
    return optimizer


@pytest.mark.parametrize(("sets", "dim"), [(1, 1), (2, 3), (2, 33)])
@pytest.mark.parametrize("weight_decay", [0.0, 1e-6, 1e-4])
def test_kernels_end_where_dense_adam_in_float64_ends(kernels, sets, dim, weight_decay):
    rates = (1e-3 * np.cos(np.linspace(0, 1.5, 40))).tolist()
    optimizer = by(kernels, sets=sets, dim=dim, weight_decay=weight_decay)
    loop = DenseLoop(optimizer.embedding, weight_decay)
    work = list(gradients(zipf_batches(40, 3), sets, dim))

    train(optimizer, work, rates)
    optimizer.flush()
    for (ids, gradient), rate in zip(work, rates, strict=True):
        loop.step(ids, gradient, rate)

    assert relative_error(optimizer.embedding, loop) <= 5e-6


def test_kernels_and_plain_torch_give_the_same_numbers_at_every_lookup(kernels):
    ours, theirs = by(kernels), plain()

    for ids, gradient in gradients(zipf_batches(40)):
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


@pytest.mark.parametrize("sizes", [[2, 3], [500], [1, 700, 40]])
def test_rows_that_half_a_batch_touches_get_the_sum_of_all_gradients(kernels, sizes):
    """More ids of one row than a piece may have, up to many pieces of it."""
    random = np.random.default_rng(0)
    embedding = EmbeddingSets(sizes, dim=5, sets=3).to(DEVICE)
    optimizer = kernels(embedding, learning_rate=1e-3, weight_decay=0.0)
    columns = [np.minimum(random.zipf(1.2, 3000), size) - 1 for size in sizes]
    ids = torch.from_numpy(np.stack(columns, axis=1).astype(np.int32))
    gradient = torch.randn(3000, 3, len(sizes), 5)

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


def test_several_values_of_a_field_share_rows(kernels):
    """Columns of one field, and places without a value."""
    embedding = make(device=DEVICE).embedding
    embedding.pool([1, 2, 1], "mean")
    optimizer = kernels(embedding.to(DEVICE), learning_rate=1e-3, weight_decay=1e-6)
    theirs = plain()
    theirs.embedding.pool([1, 2, 1], "mean")
    random = np.random.default_rng(0)

    for _ in range(5):
        ids = torch.from_numpy(random.integers(0, [30, 3, 3, 200], (20, 4)).astype(np.int32))
        ids[::3, 2] = -1
        gradient = torch.randn(20, 2, 3, 3) * 1e-3
        seen, expected = optimizer.lookup(ids.to(DEVICE)), theirs.lookup(ids)
        torch.testing.assert_close(seen.cpu(), expected, rtol=2e-5, atol=1e-7)
        for one, embeddings in ((optimizer, seen), (theirs, expected)):
            embeddings.backward(gradient.to(embeddings.device))
            one.step()


def test_rates_are_those_of_the_schedule_however_it_changes(kernels):
    """Also beyond what was sent ahead."""
    optimizer = by(kernels)
    for step in range(1200):
        optimizer.learning_rate = 1e-3 / (1 + step // 7) if step < 500 else 1e-4
        optimizer.begin_step()

    schedule = optimizer._adam.schedule
    rate, floor = optimizer._rates[:, :1201].cpu().numpy()

    np.testing.assert_array_equal(rate, schedule.rate)
    np.testing.assert_array_equal(floor, schedule.floor)


def test_more_steps_than_there_was_room_for_move_the_rates(kernels):
    optimizer = by(kernels)
    optimizer._rates = optimizer._rates[:, :300].clone()
    before = optimizer.memory

    for _ in range(400):
        optimizer.begin_step()

    assert optimizer.memory != before
    np.testing.assert_array_equal(
        optimizer._rates[0, :401].cpu().numpy(), optimizer._adam.schedule.rate
    )


def test_rows_that_only_decay_end_early_and_keep_their_second_moment(kernels):
    """Untouched rows reach zero; without weight decay a row that rests must still know its past."""
    touched, others = torch.zeros(1, 3, dtype=torch.int32), torch.ones(1, 3, dtype=torch.int32)
    gradient = torch.full((1, 2, 3, 3), 1e-3)
    work = [(touched, gradient)] * 5 + [(others, gradient)] * 450 + [(touched, gradient)] * 2
    resting, decaying = by(kernels, weight_decay=0.0), by(kernels, scale=1e-7)
    loop = DenseLoop(resting.embedding, 0.0)

    for optimizer in (resting, decaying):
        train(optimizer, work)
        optimizer.flush()
    for ids, _ in work:
        loop.step(ids, gradient, 1e-3)

    assert relative_error(resting.embedding, loop) <= 1e-6
    assert decaying.embedding.weight[2:30].abs().max() == 0


def test_when_rows_are_brought_up_to_date_does_not_change_a_bit(kernels):
    work = list(gradients(zipf_batches(40)))
    seldom, often = by(kernels), by(kernels)

    train(seldom, work)
    for part in range(0, 40, 7):
        train(often, work[part : part + 7])
        often.flush()
    seldom.flush()

    assert torch.equal(often.embedding.weight, seldom.embedding.weight)


def test_a_resumed_training_has_the_same_bits(kernels):
    work = list(gradients(zipf_batches(20)))
    rates = (1e-3 * 0.9 ** (np.arange(20) // 7)).tolist()
    straight = train(by(kernels), work, rates)

    half = train(by(kernels), work[:10], rates[:10])
    resumed = by(kernels)
    resumed.embedding.load_state_dict(half.embedding.state_dict())
    resumed.load_state({name: tensor.clone() for name, tensor in half.state().items()})
    train(resumed, work[10:], rates[10:])

    for name, tensor in straight.state().items():
        assert torch.equal(resumed.state()[name], tensor), name
    assert torch.equal(resumed.embedding.weight, straight.embedding.weight)


def test_tables_on_a_gpu_get_the_kernels_if_they_are_float32(kernels):
    with FakeTensorMode():
        chosen = {
            (device, dtype): by_triton(torch.empty(2, 2, device=device, dtype=dtype))
            for device in ("cpu", "cuda")
            for dtype in (torch.float32, torch.float64)
        }

    assert [key for key, served in chosen.items() if served] == [("cuda", torch.float32)]
    if DEVICE == "cuda":
        assert type(make(device=DEVICE)) is kernels


def test_rounded_embeddings_lie_in_padded_rows_and_hand_rounded_gradients_over(
    kernels,
):
    optimizer, theirs = by(kernels), plain()
    optimizer.lookup_dtype = torch.bfloat16
    ((ids, gradient),) = gradients(zipf_batches(1))

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
