"""Deferred Adam is dense Adam: compared with a dense loop in float64, however rows are touched."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multiembed.base import loops as compiling
from multiembed.kernels.adam_rows import PlainAdamRows
from multiembed.kernels.cpu.cpu_adam import CompiledAdamRows
from multiembed.kernels.setting import using_kernels
from multiembed.models.embedding import EmbeddingSets
from multiembed.tables.adam import DeferredAdam, DenseAdam

CARDINALITIES = [30, 3, 200]


def make(
    sets=2,
    dim=3,
    *,
    weight_decay=1e-6,
    learning_rate=1e-3,
    dtype=torch.float32,
    scale=0.05,
    cardinalities=CARDINALITIES,
    slots=(1, 1, 1),
    device="cpu",
):
    torch.manual_seed(0)
    embedding = EmbeddingSets(cardinalities, dim=dim, sets=sets, init=scale, slots=slots)
    return DeferredAdam(embedding.to(device, dtype), learning_rate=1e-3, weight_decay=weight_decay)


def plain(**options):
    """Every row at every lookup, in plain torch."""
    with using_kernels("torch"):
        return make(**options)


def zipf_batches(steps, batch=8, *, cardinalities=CARDINALITIES, seed=0):
    random = np.random.default_rng(seed)
    for _ in range(steps):
        columns = [np.minimum(random.zipf(1.3, batch), size) - 1 for size in cardinalities]
        yield torch.from_numpy(np.stack(columns, axis=1).astype(np.int32))


def gradients(batches, sets=2, dim=3, *, seed=0):
    """One gradient per batch for what `lookup` returned, of a size that training has."""
    generator = torch.Generator().manual_seed(seed)
    for ids in batches:
        shape = (len(ids), sets, ids.shape[1], dim)
        yield ids, torch.randn(shape, generator=generator) * 1e-3


def train(optimizer, work, learning_rates=None):
    for step, (ids, gradient) in enumerate(work):
        if learning_rates is not None:
            optimizer.learning_rate = learning_rates[step]
        looked_up = optimizer.lookup(ids.to(optimizer.embedding.weight.device))
        looked_up.backward(gradient.to(looked_up))
        optimizer.step()
    return optimizer


class DenseLoop:
    """Adam with coupled weight decay as the paper's formula has it, on every row, in float64."""

    def __init__(self, embedding, weight_decay):
        self.values = embedding.weight.detach().cpu().double().numpy().copy()
        self.offsets = embedding.offsets.cpu().numpy()
        self.weight_decay = weight_decay
        self.first = np.zeros_like(self.values)
        self.second = np.zeros_like(self.values)
        self.steps = 0

    def step(self, ids, gradient, learning_rate):
        dense = np.zeros_like(self.values)
        by_id = gradient.transpose(1, 2).flatten(start_dim=2).double().numpy()
        np.add.at(dense, ids.numpy() + self.offsets, by_id)
        dense += self.weight_decay * self.values
        self.steps += 1
        self.first = 0.9 * self.first + 0.1 * dense
        self.second = 0.999 * self.second + 0.001 * dense**2
        mean = self.first / (1 - 0.9**self.steps)
        square = self.second / (1 - 0.999**self.steps)
        self.values -= learning_rate * mean / (np.sqrt(square) + 1e-8)


def relative_error(embedding, loop):
    difference = embedding.weight.detach().cpu().double().numpy() - loop.values
    return np.linalg.norm(difference) / np.linalg.norm(loop.values)


def test_two_thousand_steps_end_where_dense_adam_in_float64_ends():
    sizes = [20, 100, 600]
    torch.manual_seed(0)
    embedding = EmbeddingSets(sizes, dim=10)
    optimizer = DeferredAdam(embedding, learning_rate=1e-3, weight_decay=1e-6)
    loop = DenseLoop(embedding, 1e-6)
    work = list(gradients(zipf_batches(2000, 16, cardinalities=sizes), sets=1, dim=10))

    train(optimizer, work)
    optimizer.flush()
    for ids, gradient in work:
        loop.step(ids, gradient, 1e-3)

    assert relative_error(embedding, loop) <= 5e-6


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    steps=st.integers(1, 80),
    batch=st.integers(1, 9),
    sets=st.integers(1, 4),
    dim=st.sampled_from([1, 2, 3, 10, 16, 33, 128]),
    weight_decay=st.sampled_from([0.0, 1e-9, 1e-6, 1e-5, 1e-4]),
    schedule=st.sampled_from(["constant", "cosine", "halved", "warm"]),
)
def test_any_pattern_of_touches_ends_where_dense_adam_ends(
    seed, steps, batch, sets, dim, weight_decay, schedule
):
    rates = {
        "constant": np.full(steps, 1e-3),
        "cosine": 1e-3 * np.cos(np.linspace(0, 1.5, steps)),
        "halved": 1e-3 * 0.5 ** (np.arange(steps) // 10),
        "warm": np.linspace(0, 1e-2, steps),
    }[schedule]
    optimizer = make(sets, dim, weight_decay=weight_decay)
    loop = DenseLoop(optimizer.embedding, weight_decay)
    work = list(gradients(zipf_batches(steps, batch, seed=seed), sets, dim, seed=seed))

    train(optimizer, work, rates.tolist())
    optimizer.flush()
    for (ids, gradient), rate in zip(work, rates, strict=True):
        loop.step(ids, gradient, rate)

    assert relative_error(optimizer.embedding, loop) <= 5e-6


@pytest.mark.parametrize("weight_decay", [0.0, 1e-6, 1e-4])
def test_every_lookup_sees_what_dense_adam_would_show(weight_decay):
    """The model's numbers, gradients summed over repeated ids included, agree at every step."""
    deferred = make(weight_decay=weight_decay)
    twin = make(weight_decay=weight_decay).embedding
    dense = DenseAdam(twin, learning_rate=1e-3, weight_decay=weight_decay)
    target = torch.randn(8, 2, 3, 3)

    for ids in zipf_batches(150):
        seen, expected = deferred.lookup(ids), dense.lookup(ids)
        torch.testing.assert_close(seen, expected, rtol=2e-5, atol=1e-7)
        for optimizer, embeddings in ((deferred, seen), (dense, expected)):
            ((embeddings - target) ** 2).mean().backward()
            optimizer.step()


def test_rows_never_touched_decay_to_nothing():
    optimizer = make(scale=1e-3)
    loop = DenseLoop(optimizer.embedding, 1e-6)
    ids, gradient = torch.zeros(2, 3, dtype=torch.int32), torch.full((2, 2, 3, 3), 1e-3)

    train(optimizer, [(ids, gradient)] * 60)
    for _ in range(60):
        loop.step(ids, gradient, 1e-3)
    optimizer.flush()
    after_60 = optimizer.embedding.weight.detach().double().numpy().copy()
    train(optimizer, [(ids, gradient)] * 1500)
    optimizer.flush()

    np.testing.assert_allclose(after_60, loop.values, rtol=1e-4, atol=1e-12)
    assert optimizer.embedding.weight[1:30].abs().max() == 0


def test_a_row_that_lost_its_momentum_keeps_its_second_moment():
    """Without weight decay a row stands still after a while; its next step must still know."""
    optimizer = make(weight_decay=0.0)
    loop = DenseLoop(optimizer.embedding, 0.0)
    touched, others = torch.zeros(1, 3, dtype=torch.int32), torch.ones(1, 3, dtype=torch.int32)
    gradient = torch.full((1, 2, 3, 3), 1e-3)
    work = [(touched, gradient)] * 5 + [(others, gradient)] * 900 + [(touched, gradient)] * 2

    train(optimizer, work)
    for ids, _ in work:
        loop.step(ids, gradient, 1e-3)
    optimizer.flush()

    assert relative_error(optimizer.embedding, loop) <= 1e-6


def test_a_resumed_training_has_the_same_bits():
    work = list(gradients(zipf_batches(120)))
    rates = (1e-3 * 0.9 ** (np.arange(120) // 7)).tolist()
    straight = train(make(), work, rates)

    half = train(make(), work[:60], rates[:60])
    resumed = make()
    resumed.embedding.load_state_dict(half.embedding.state_dict())
    resumed.load_state({name: tensor.clone() for name, tensor in half.state().items()})
    train(resumed, work[60:], rates[60:])

    for name, tensor in straight.state().items():
        assert torch.equal(resumed.state()[name], tensor), name
    assert torch.equal(resumed.embedding.weight, straight.embedding.weight)


def test_state_grows_with_changes_of_the_learning_rate_not_with_steps():
    work = list(gradients(zipf_batches(50)))

    optimizer = train(make(), work, [1e-3] * 20 + [1e-4] * 30)

    assert optimizer.state()["learning_rate_starts"].tolist() == [1, 21]
    assert optimizer.state()["learning_rates"].tolist() == [1e-3, 1e-4]


def test_the_number_of_threads_does_not_change_a_bit(monkeypatch):
    monkeypatch.setattr(compiling, "GRAIN", 1)
    work = list(gradients(zipf_batches(60, 40)))
    before = torch.get_num_threads()

    trained = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        trained.append(train(make(), work))
        trained[-1].flush()
    torch.set_num_threads(before)

    for other in trained[1:]:
        assert torch.equal(other.embedding.weight, trained[0].embedding.weight)
        assert torch.equal(other.state()["moments"], trained[0].state()["moments"])


def test_when_rows_are_brought_up_to_date_does_not_change_a_bit():
    work = list(gradients(zipf_batches(100)))
    seldom, often = make(), make()

    train(seldom, work)
    for part in range(0, 100, 7):
        train(often, work[part : part + 7])
        often.flush()
    seldom.flush()

    assert torch.equal(often.embedding.weight, seldom.embedding.weight)


@pytest.mark.parametrize("weight_decay", [0.0, 1e-6])
def test_plain_torch_gives_the_same_results(weight_decay):
    work = list(gradients(zipf_batches(150)))
    fast, by_torch = make(weight_decay=weight_decay), plain(weight_decay=weight_decay)

    for optimizer in (fast, by_torch):
        train(optimizer, work)
        optimizer.flush()

    assert isinstance(fast._rows, CompiledAdamRows)
    assert isinstance(by_torch._rows, PlainAdamRows)
    torch.testing.assert_close(fast.embedding.weight, by_torch.embedding.weight)
    torch.testing.assert_close(fast.state()["moments"], by_torch.state()["moments"])


@pytest.mark.parametrize("kernels", ["auto", "torch"])
def test_in_float64_it_is_torch_s_own_adam(kernels):
    with using_kernels(kernels):
        ours, theirs = make(dtype=torch.float64), make(dtype=torch.float64).embedding
    adam = torch.optim.Adam(theirs.parameters(), lr=1e-3, weight_decay=1e-6)
    work = list(gradients(zipf_batches(80)))

    train(ours, work)
    ours.flush()
    for ids, gradient in work:
        adam.zero_grad()
        theirs(ids).backward(gradient.double())
        adam.step()

    # The rates of steps are kept in float32; no number moved by more than 0.08.
    torch.testing.assert_close(ours.embedding.weight, theirs.weight, rtol=0, atol=0.08 * 2**-24)


def test_other_precisions_work_in_plain_torch():
    optimizer = make(dtype=torch.float64)
    loop = DenseLoop(optimizer.embedding, 1e-6)
    work = list(gradients(zipf_batches(100)))

    train(optimizer, work)
    optimizer.flush()
    for ids, gradient in work:
        loop.step(ids, gradient, 1e-3)

    assert relative_error(optimizer.embedding, loop) <= 1e-7


def test_gradients_can_be_clipped_between_lookup_and_step():
    ids = next(zipf_batches(1))
    gradient = torch.full((8, 2, 3, 3), 1e-8)  # small beside epsilon: Adam then feels its scale
    clipped, scaled = make(), make()

    clipped.lookup(ids).backward(gradient)
    clipped.gradients()[0].mul_(0.25)
    clipped.step()
    train(scaled, [(ids, gradient * 0.25)])

    torch.testing.assert_close(clipped.embedding.weight, scaled.embedding.weight, rtol=0, atol=0)


def test_the_gradient_is_only_as_large_as_the_rows_touched():
    optimizer = make()
    ids = torch.zeros(4, 3, dtype=torch.int64)

    optimizer.lookup(ids).sum().backward()

    assert [tuple(gradient.shape) for gradient in optimizer.gradients()] == [(3, 6)]
    assert optimizer.embedding.weight.grad is None


def test_a_lookup_without_a_gradient_is_no_step():
    optimizer = make()
    before = optimizer.embedding.weight.detach().clone()

    with torch.no_grad():
        optimizer.lookup(next(zipf_batches(1)))
    optimizer.step()
    optimizer.step()

    assert int(optimizer.state()["step"]) == 0
    assert torch.equal(optimizer.embedding.weight, before)
