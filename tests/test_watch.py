"""Ranks inside a model: planted ones are found, told apart, and the model is unharmed."""

import copy
import gc
from collections import namedtuple

import numpy as np
import pytest
import torch
from torch import nn

import multiembed as me
from multiembed.diagnosis.activations import KEPT_NUMBERS, WIDEST

RANK = 5


def ranks_in(watched, of):
    return {rank.layer: rank for rank in watched.ranks() if rank.of == of}


def planted(rows, columns, rank, *, seed=0):
    """A matrix with so many equal singular values, and none besides, by SciPy-free QR."""
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.standard_normal((rows, rank)))[0]
    right = np.linalg.qr(rng.standard_normal((columns, rank)))[0]
    return torch.from_numpy((left @ right.T).astype(np.float32)) * 30


class Given(nn.Module):
    """A layer that gives what it was told to."""

    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, _):
        return self.output


def measured(output, batch):
    model = nn.Sequential(Given(output))
    with me.watch(model, every=1) as watched:
        model(torch.zeros(batch, 3))
    return watched


@pytest.mark.parametrize("rank", [1, 5, 12])
def test_the_rank_of_a_table_is_found(rank):
    table = nn.Embedding.from_pretrained(planted(300, 16, rank))

    with me.watch(nn.Sequential(table), every=1) as watched:
        pass

    found = ranks_in(watched, "table")["0"]
    assert (found.rank, found.k99, found.most) == (rank, rank, 16)
    assert found.effective_rank == pytest.approx(rank, rel=1e-5)


@pytest.mark.parametrize("rank", [1, 5, 12])
def test_the_rank_of_a_batch_is_found_whatever_its_mean(rank):
    centred = planted(200, 24, rank)
    centred -= centred.mean(0)
    values = np.linalg.svd(centred.double().numpy(), compute_uv=False)[:rank]
    shares = values / values.sum()

    found = ranks_in(measured(centred + 7, 200), "batch")["0"]

    assert (found.rank, found.k99) == (rank, rank)
    assert found.effective_rank == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-4)


@pytest.mark.parametrize("shape", [(10, 16), (16, 10), (30, 40)])
def test_the_rank_of_a_row_is_found_whatever_that_of_the_batch(shape):
    """Every row has tokens of rank 5 in directions of its own: the batch has full rank."""
    rows = torch.stack([planted(*shape, RANK, seed=seed) for seed in range(64)])

    watched = measured(rows, 64)

    row, batch = ranks_in(watched, "row")["0"], ranks_in(watched, "batch")["0"]
    assert (row.rank, row.k99, row.most) == (RANK, RANK, min(shape))
    assert row.effective_rank == pytest.approx(RANK, rel=1e-5)
    assert batch.rank == shape[1]


def test_the_three_are_told_apart():
    """A full table, one token per batch row in two directions, all rows' tokens alike."""
    tokens = torch.randn(1, 8, 32).expand(100, 8, 32) + planted(100, 32, 2)[:, None]
    model = nn.Sequential(nn.Embedding(50, 32), Given(tokens))

    with me.watch(model, every=1) as watched:
        model(torch.zeros(100, 8, dtype=torch.long))

    assert ranks_in(watched, "table")["0"].rank == 32
    assert ranks_in(watched, "batch")["1"].rank == 7 + 2  # eight tokens about their mean, and two
    assert ranks_in(watched, "row")["1"].rank == 8


def test_rows_come_first_where_sets_do_in_memory():
    sets_first = torch.stack([planted(64, 20, RANK, seed=of) for of in range(3)])

    watched = measured(sets_first, 64)

    assert ranks_in(watched, "row")["0"].most == 3


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_every_precision_is_measured(dtype):
    watched = measured(planted(400, 16, RANK).to(dtype), 400)

    found = ranks_in(watched, "batch")["0"]
    assert (found.rank, found.k99) == (RANK, RANK)


def bottleneck(width=64):
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(20, RANK), nn.Linear(RANK, width), nn.ReLU(), nn.Linear(width, 1)
    )


def test_what_is_measured_in_training_under_autocast_is_the_layers_rank():
    model = bottleneck()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)

    with me.watch(model, every=3) as watched:
        for _ in range(10):
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(torch.randn(256, 20)).float().mean()
            loss.backward()
            optimizer.step()

    found = ranks_in(watched, "batch")
    assert (watched.forwards, watched.measured) == (10, 4)
    assert found["1"].rank == RANK
    assert found["2"].rank > 30


def test_outputs_gradients_and_random_numbers_are_those_of_the_model_alone():
    def run(*, watched):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(20, 16), nn.Dropout(0.5), nn.ReLU(inplace=True))
        context = me.watch(model, every=1) if watched else torch.enable_grad()
        with context:
            out = [model(torch.randn(32, 20)) for _ in range(3)]
        torch.stack(out).sum().backward()
        return torch.cat([*out, model[0].weight.grad.T]), torch.randn(3)

    for plain, seen in zip(run(watched=False), run(watched=True), strict=True):
        assert torch.equal(plain, seen)


def hooks_on(model):
    return [
        hook
        for module in model.modules()
        for hook in (*module._forward_hooks, *module._forward_pre_hooks)
    ]


def test_hooks_are_gone_after_the_block_and_after_any_error():
    model = bottleneck()

    with pytest.raises(RuntimeError, match="shapes"), me.watch(model, every=1) as watched:
        model(torch.randn(4, 20))
        assert len(hooks_on(model)) == 2  # of the model alone, between passes
        model(torch.randn(4, 21))

    assert hooks_on(model) == []
    assert watched.forwards == 2
    model(torch.randn(4, 20))
    assert watched.forwards == 2


def test_memory_is_flat_and_no_graph_is_kept():
    model = nn.Sequential(nn.Unflatten(1, (30, 40)), nn.Linear(40, 50))

    def numbers():
        gc.collect()
        return sum(t.numel() for t in gc.get_objects() if type(t) is torch.Tensor)

    with me.watch(model, every=1) as watched:
        for _ in range(60):
            model(torch.randn(32, 1200))
        before = numbers()
        for _ in range(60):
            model(torch.randn(32, 1200))
        after = numbers()

    assert after == before
    kept = [of for sums in watched._layers.values() for of in (sums.gram, *sums.products)]
    assert not any(of.requires_grad for of in kept)
    assert sum(of.numel() for of in kept) < 2 * (KEPT_NUMBERS + 2 * WIDEST**2)


def test_a_wide_layer_is_measured_on_some_of_its_columns():
    watched = measured(planted(600, 3000, RANK), 600)

    found = ranks_in(watched, "batch")["0"]
    assert (found.rank, found.most, found.width) == (RANK, WIDEST, 3000)


def test_equal_distances_never_meet_one_token_alone():
    """64 rows of 39 tokens, each token in a direction of its own: all directions are seen."""
    watched = measured(torch.eye(39).expand(2048, 39, 39) * torch.randn(2048, 1, 1), 2048)

    assert ranks_in(watched, "batch")["0"].rank == 39


Pair = namedtuple("Pair", ["first", "second"])


class Many(nn.Module):
    def forward(self, x):
        return {"pair": Pair(x, x * 2), "ids": torch.arange(9), "text": "no", "none": None}


def test_tuples_and_mappings_are_measured_part_by_part():
    model = nn.Sequential(Many())

    with me.watch(model, every=1) as watched:
        model(planted(50, 8, 3))

    assert {*ranks_in(watched, "batch")} == {"0.pair[0]", "0.pair[1]"}


class Shared(nn.Module):
    """One layer twice, on what has rank 2 and then 7, and a block that hands on its layer's."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Identity()
        self.block = nn.Sequential(nn.Linear(12, 9))
        self.low, self.high = planted(80, 12, 2), planted(80, 12, 7)

    def forward(self, x):
        return self.block(self.layer(x + self.low)) + self.block(self.layer(self.high * 2))


def test_further_calls_of_a_module_are_apart_and_nothing_is_measured_twice():
    model = Shared()

    with me.watch(model, every=1) as watched, torch.no_grad():
        model(torch.zeros(80, 12))

    found = ranks_in(watched, "batch")
    names = ["layer", "block.0", "layer (call 2)", "block.0 (call 2)", "output"]
    assert [*found] == names
    assert [found[name].rank for name in names] == [2, 2, 7, 7, 9]


def test_a_compiled_model_is_measured_and_stays_compiled():
    compiled = []

    def backend(graph, _):
        compiled.append(graph)
        return graph.forward

    plain = bottleneck()
    model = torch.compile(plain, backend=backend)
    model(torch.randn(32, 20))

    with me.watch(model, every=2) as watched:
        for _ in range(4):
            model(torch.randn(32, 20))

    assert watched.measured == 2
    assert ranks_in(watched, "batch")["1"].rank == RANK
    model(torch.randn(32, 20))
    assert len(compiled) == 1 and hooks_on(model) == []


def test_a_model_compiled_in_place_is_refused():
    model = bottleneck()
    model.compile(backend="eager")

    with pytest.raises(me.ConfigError, match=r"by torch\.compile\(model\)"), me.watch(model):
        pass


def test_a_model_in_data_parallel_is_measured():
    model = nn.DataParallel(bottleneck())

    with me.watch(model, every=1) as watched, torch.no_grad():
        model(torch.randn(64, 20))

    assert ranks_in(watched, "batch")["module.1"].rank == RANK


def test_replicas_in_threads_add_up():
    """What DataParallel does with several GPUs: shallow copies that share their hooks."""
    from threading import Thread

    model = bottleneck()
    with me.watch(model, every=1) as watched, torch.no_grad():
        watched._begin(model, (torch.randn(32, 20),))
        copies = [model._replicate_for_data_parallel() for _ in range(2)]
        for replica in copies:
            replica._modules = model._modules
        threads = [
            Thread(target=nn.Module.__call__, args=(m[1], torch.randn(16, 5))) for m in copies
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert ranks_in(watched, "batch")["1"].measured == 32


def test_copies_of_a_watched_model_are_not_watched(tmp_path):
    model = bottleneck()

    with me.watch(model, every=1) as watched:
        twin = copy.deepcopy(model)
        torch.save(model, tmp_path / "model.pt")
        twin(torch.randn(4, 20))
        torch.load(tmp_path / "model.pt", weights_only=False)(torch.randn(4, 20))

    assert watched.forwards == 0
    assert "call the watched model itself" in str(watched)


def test_numbers_that_are_not_finite_are_left_out_and_said():
    outputs = iter([planted(50, 8, 3), torch.full((50, 8), torch.nan), planted(50, 8, 3)])

    class Next(nn.Module):
        def forward(self, _):
            return next(outputs)

    model = nn.Sequential(Next())
    with me.watch(model, every=1) as watched:
        for _ in range(3):
            model(torch.zeros(50, 1))

    found = ranks_in(watched, "batch")["0"]
    assert (found.rank, found.not_finite) == (3, 1)
    assert "0: 1 batches were not finite and left out" in str(watched)


def test_inference_mode_and_empty_batches_pass():
    model = bottleneck()
    with me.watch(model, every=1) as watched, torch.inference_mode():
        model(torch.randn(0, 20))
        model(torch.randn(64, 20))

    assert ranks_in(watched, "batch")["1"].rank == RANK


def test_our_own_models_are_measured_field_by_field_and_layer_by_layer():
    model = me.ClickModel("dcnv2", cardinalities=[50, 20], dim=4, sets=2)
    ids = torch.stack([torch.randint(0, of, (64,)) for of in (50, 20)], 1)

    with me.watch(model, every=1) as watched:
        model(ids)

    assert [*ranks_in(watched, "table")] == ["embedding field 0", "embedding field 1"]
    assert ranks_in(watched, "row")["embedding"].most == 4
    assert "head.hidden.0" in ranks_in(watched, "batch")


def test_what_is_read_out_fits_80_columns_and_holds_every_number():
    model = nn.ModuleDict({"a_name_that_goes_on_and_on_and_on_for_ever": nn.Linear(3, 4)})
    model.forward = lambda x: model["a_name_that_goes_on_and_on_and_on_for_ever"](x)

    with me.watch(model, every=1) as watched:
        model(torch.randn(30, 3))

    frame = watched.to_frame()
    assert max(map(len, str(watched).splitlines())) <= 80
    assert "a_name_that_goes…" in str(watched) and "1 of 1 forward pass measured" in str(watched)
    assert frame["layer"].to_list() == [rank.layer for rank in watched.ranks()]
    assert frame["rank"].to_list() == [3.0]
    assert "<td>a_name_that_goes_on_and_on_and_on_for_ever</td>" in watched._repr_html_()


def test_how_often_must_be_a_number_of_passes():
    with pytest.raises(me.ConfigError, match="every must be at least 1, got 0"):
        me.watch(nn.ReLU(), every=0)
