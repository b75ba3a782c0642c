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

from multiembed.optim import compiled_adam, deferred_adam, eager_adam
from multiembed.optim.schedule import Schedule

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="module")
def kernels():
    pytest.importorskip("triton", reason="triton is not installed: 300 MB that only GPUs need")
    from multiembed.optim import triton_adam

    return triton_adam


def by(implementation, **options):
    optimizer = make(device=DEVICE, **options)
    optimizer._implementation = implementation
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
    ours, plain = by(kernels), by(eager_adam)

    for ids, gradient in gradients(zipf_batches(40)):
        seen, expected = (optimizer.lookup(ids.to(DEVICE)) for optimizer in (ours, plain))
        torch.testing.assert_close(seen, expected, rtol=2e-5, atol=1e-8)
        for optimizer, embeddings in ((ours, seen), (plain, expected)):
            embeddings.backward(gradient.to(DEVICE))
            optimizer.step()
    for optimizer in (ours, plain):
        optimizer.flush()

    torch.testing.assert_close(ours.state()["moments"], plain.state()["moments"])
    assert torch.equal(ours.state()["last_step"], plain.state()["last_step"])


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
    devices, dtypes = ("cpu", "cuda"), (torch.float32, torch.float64)
    with FakeTensorMode():
        chosen = {
            (device, dtype): deferred_adam._implementation(
                torch.empty(2, 2, device=device, dtype=dtype)
            )
            for device in devices
            for dtype in dtypes
        }

    assert chosen == {
        ("cpu", torch.float32): compiled_adam,
        ("cpu", torch.float64): eager_adam,
        ("cuda", torch.float32): kernels,
        ("cuda", torch.float64): eager_adam,
    }


def test_a_schedule_on_a_device_is_the_one_here_however_often_it_is_sent():
    schedule = Schedule()
    for step in range(2500):
        schedule.advance(1e-3 / (1 + step))
        if step % 7 == 0:
            schedule.on(torch.device(DEVICE))

    rate, floor = schedule.on(torch.device(DEVICE))[:, :2501].cpu().numpy()

    np.testing.assert_array_equal(rate, schedule.rate)
    np.testing.assert_array_equal(floor, schedule.floor)
