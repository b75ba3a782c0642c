"""Training that begins with an earlier run: day by day is all at once, and growth keeps rows."""

import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

import multiembed as me
from multiembed.base.errors import InputError
from multiembed.training.trainer import Trainer

BATCH, BATCHES = 64, 3
DAY = BATCH * BATCHES
DNN = {"architecture": "dnn", "dim": 2, "embedding_init": 0.1, "options": {"hidden": [4]}}


class Kill(BaseException):
    """Stands for the end of the process."""


def rows(day, *, new=0):
    """A day's rows; `n` never falls into *other*, `site` does every day."""
    drawn = np.random.default_rng(day)
    site = drawn.integers(0, 4, DAY)
    click = (drawn.random(DAY) < 0.2 + 0.15 * site).astype(int)
    name = [f"s{of}" if at % 9 else f"rare{day}-{at}" for at, of in enumerate(site)]
    name = [f"new{at % 2}" if at < new else of for at, of in enumerate(name)]
    tags = [f"t{a}|t{b}" if a != b else f"t{a}" for a, b in drawn.integers(0, 3, (DAY, 2))]
    numbers = drawn.permutation(np.arange(DAY) % 9)  # every day all of them
    return pl.DataFrame({"click": click, "site": name, "tags": tags, "n": numbers})


def files(name):
    return {"train": [f"{name}.csv"], "valid": ["valid.csv"], "test": ["test.csv"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three days one by one, all three at once, and a day with new values."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("days"))
        every = [rows(day) for day in range(3)]
        pl.concat(every).write_csv("all.csv")
        for day, frame in enumerate(every):
            frame.write_csv(f"day{day}.csv")
        rows(3, new=20).write_csv("new.csv")
        for name in ("valid", "test"):
            rows(9).write_csv(f"{name}.csv")
        options = me.PrepareOptions(
            format="table", label="click", min_count=5, multivalued={"tags": "|"}
        )
        me.prepare(files("all"), "all", options)
        for day in range(3):
            like = "all" if day == 0 else f"p{day - 1}"
            me.prepare(files(f"day{day}"), f"p{day}", me.PrepareOptions(like=like, grow=day > 0))
        yield Path.cwd()


def config(model=DNN, **training):
    usual = {"batch_size": BATCH, "shuffle": False, "max_epochs": 1, "threads": 1}
    usual |= {"learning_rate": 0.01}
    return me.RunConfig(
        model=me.ModelConfig(**model), training=me.TrainingConfig(**usual | training)
    )


def last(run):
    return load_file(Path(run) / "last.safetensors")


@pytest.fixture(scope="module")
def first(folder):
    """A run on the first day."""
    return me.train(config(), dataset="p0", run="first")


@pytest.mark.parametrize(
    ("architecture", "options", "optimizer"),
    [
        ("dnn", {"hidden": [4], "dropout": 0.2, "batch_norm": True}, "deferred_adam"),
        ("nfwfm", {"hidden": [4], "dropout": 0.0}, "dense_adam"),
        ("dnn", {"hidden": [4], "dropout": 0.2}, "lazy_adam"),
        ("dnn", {"hidden": [4]}, "rowwise_adagrad"),
    ],
)
def test_day_by_day_is_all_at_once_bit_for_bit(folder, architecture, options, optimizer):
    model = DNN | {"architecture": architecture, "sets": 2, "options": options}
    kind = {"table_optimizer": optimizer}
    whole = config(model, evaluate_every=BATCHES, **kind)  # measured as often as the days are
    me.train(whole, dataset="all", run="whole", overwrite=True)
    run = me.train(config(model, **kind), dataset="p0", run="run", overwrite=True)
    for day in (1, 2):
        path = f"run{day}"
        run = me.train(
            config(model, **kind),
            dataset=f"p{day}",
            run=path,
            start_from=run,
            carry_moments=True,
            overwrite=True,
        )
    expected, found = last("whole"), last("run2")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():  # weights, moments, steps of rows, random numbers
        assert torch.equal(found[name], tensor), name
    counts = [np.load(Path(of) / "row_counts.npy") for of in ("whole", "run2")]
    assert np.array_equal(*counts)


def begun(monkeypatch, run, **arguments):
    """What a training begins with: its first checkpoint."""
    monkeypatch.setattr(Trainer, "run", lambda self: (_ for _ in ()).throw(Kill))
    with suppress(Kill):
        me.train(None, run=run, **arguments)
    monkeypatch.undo()
    return last(run)


def test_growth_keeps_every_old_row_and_new_ones_begin_as_other(folder, first, monkeypatch):
    me.prepare(files("new"), "grown", me.PrepareOptions(like="first", grow=True, overwrite=True))
    before, now = me.open_dataset("p0"), me.open_dataset("grown")
    sizes = list(zip(before.cardinalities, now.cardinalities, strict=True))
    assert sizes[0][1] == sizes[0][0] + 2
    old = last("first")
    new = begun(monkeypatch, "grown_begun", dataset="grown", start_from="first", carry_moments=True)
    ends = [np.cumsum((0, *of)) for of in zip(*sizes, strict=True)]
    steps = int(old["tables.step"])
    for name in ("model.embedding.weight", "tables.moments", "tables.last_step"):
        for at, (was, _) in enumerate(sizes):
            kept = new[name][ends[1][at] : ends[1][at] + was]
            assert torch.equal(kept, old[name][ends[0][at] : ends[0][at] + was])
    fresh = slice(sizes[0][0], sizes[0][1])
    other = old["model.embedding.weight"][0]
    assert torch.equal(new["model.embedding.weight"][fresh], other.expand(2, -1))
    assert not new["tables.moments"][fresh].any()
    assert new["tables.last_step"][fresh].tolist() == [steps, steps]
    for name in old.keys() - {"model.embedding.weight", "tables.moments", "tables.last_step"}:
        assert torch.equal(new[name], old[name]), name


def test_the_best_model_is_where_a_training_without_moments_begins(folder, first, monkeypatch):
    new = begun(monkeypatch, "best_begun", dataset="p1", start_from=first)
    best = load_file("first/best.safetensors")
    assert all(torch.equal(new[f"model.{name}"], of) for name, of in best.items())
    assert not new["tables.moments"].any() and int(new["tables.step"]) == 0


def test_a_retired_row_and_one_whose_id_has_a_new_value_begin_as_other(folder, monkeypatch):
    frame = rows(0).drop("tags", "n")
    pl.concat([frame.with_columns(site=pl.lit(name)) for name in "abc"]).write_csv("abc.csv")
    pl.concat([frame.with_columns(site=pl.lit(name)) for name in "cd"]).write_csv("cd.csv")
    me.prepare("abc.csv", "abc", me.PrepareOptions(format="table", label="click"))
    run = me.train(config(max_epochs=2), dataset="abc", run="letters")
    options = me.PrepareOptions(like="letters", grow=True, retire=1)
    me.prepare("cd.csv", "cd", options)
    known = me.open_dataset("cd").vocabulary("site")
    assert known["value"].to_list() == ["d", "⟨retired 2⟩", "c"]
    new = begun(monkeypatch, "letters_begun", dataset="cd", start_from=run, carry_moments=True)
    table = last("letters")["model.embedding.weight"].double().numpy()
    counts = np.load("letters/row_counts.npy")
    assert counts[0] == 0  # so that *other* is the mean of what was trained
    found = new["model.embedding.weight"].numpy()
    expected = np.average(table[1:4], axis=0, weights=counts[1:4])
    assert np.allclose(found[[1, 2]], expected, atol=1e-7)
    assert np.array_equal(found[[0, 3]], last("letters")["model.embedding.weight"].numpy()[[0, 3]])
    begun_counts = np.load("letters_begun/row_counts.npy")
    day = np.bincount(me.open_dataset("cd").split("train").ids[:, 0], minlength=4)
    assert begun_counts.tolist() == [0, day[1], 0, day[3] + counts[3]]


def test_a_kill_is_resumed_to_the_same_bytes_without_the_earlier_run(folder, monkeypatch):
    shutil.copytree("first" if Path("first").is_dir() else "run", "parent")
    asked = config(max_epochs=3, shuffle=True)
    arguments = {"dataset": "p1", "start_from": "parent", "carry_moments": True}
    me.train(asked, run="unbroken", **arguments)
    monkeypatch.setattr(Trainer, "_after_step", killing(Trainer._after_step))
    for _ in range(2):  # in the first epoch, with nothing but the first checkpoint; and later
        with suppress(Kill):
            resume = Path("broken/config.toml").exists()
            me.train(asked, run="broken", resume=resume, **arguments)
        shutil.rmtree("parent", ignore_errors=True)
    monkeypatch.undo()
    me.train(None, dataset="p1", run="broken", resume=True)
    for name in ("best.safetensors", "last.safetensors"):
        unbroken, broken = (load_file(Path(of) / name) for of in ("unbroken", "broken"))
        assert all(torch.equal(broken[key], of) for key, of in unbroken.items())
    assert Path("unbroken/config.toml").read_bytes() == Path("broken/config.toml").read_bytes()
    counts = [np.load(Path(of) / "row_counts.npy") for of in ("unbroken", "broken")]
    assert np.array_equal(*counts)


def test_a_run_may_be_replaced_by_the_one_that_begins_with_it(folder, first):
    shutil.copytree("first", "place")
    for run, start in (("beside", "first"), ("place", "place")):
        overwrite = run == start
        me.train(
            None, dataset="p1", run=run, start_from=start, carry_moments=True, overwrite=overwrite
        )
    beside, place = last("beside"), last("place")
    assert all(torch.equal(place[name], tensor) for name, tensor in beside.items())


def killing(after_step):
    stops = iter([2, 5])
    at = [next(stops)]

    def stopped(self):
        after_step(self)
        if self.state.step == at[0]:
            at[0] = next(stops, -1)
            raise Kill

    return stopped


@pytest.mark.parametrize(
    ("asked", "arguments", "message"),
    [
        (config(DNN | {"dim": 3}), {}, r"model.dim must be that of .*first to start from it, 2, "),
        (config(DNN | {"sets": 2}), {}, r"model.sets must be that of .*first to start from it, 1,"),
        (config(DNN | {"architecture": "autoint", "options": {}}), {}, "model.architecture must"),
        (config(DNN | {"options": {"hidden": [5]}}), {}, "model.options must be that of"),
        (config(table_optimizer="lazy_adam"), {"carry_moments": True}, "training.table_optimizer "),
        (None, {"dataset": "abc9"}, r"abc9 must have the fields of .*first: "),
        (None, {"dataset": "stranger"}, r"stranger must have the vocabulary of .*first, or one "),
        (None, {"start_from": "nowhere"}, r"nowhere"),
        (config(), {"start_from": "p0"}, r"p0 must be a finished run to start from, got no config"),
        (config(), {"start_from": None, "carry_moments": True}, "carry_moments must stand with"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    folder, first, asked, arguments, message
):
    if not Path("stranger").exists():
        me.prepare(
            files("day2"),
            "stranger",
            me.PrepareOptions(
                format="table", label="click", min_count=4, multivalued={"tags": "|"}
            ),
        )
        rows(0).drop("n").write_csv("abc9.csv")
        me.prepare("abc9.csv", "abc9", me.PrepareOptions(format="table", label="click"))
    usual = {"dataset": "p1", "start_from": "first"}
    with pytest.raises(InputError, match=message):
        me.train(asked, run="refused", **usual | arguments)
    assert not Path("refused").exists()


def test_the_command_line_begins_with_the_earlier_runs_configuration(folder, first, call):
    code, said, error = call("train", "p1", "second", "--from", "first", "--carry-moments")
    assert code == 0, said + error
    found = me.load_run("second").config
    assert found.model == first.config.model and found.training == first.config.training
    assert found.start.moments and found.start.run == str(Path("first").resolve())
    assert call("train", "p2", "third", "--from", "second", "--set", "training.seed=4")[0] == 0
    third = me.load_run("third").config
    assert third.training.seed == 4 and not third.start.moments
    assert third.model.dim == 2
    code, _, error = call("train", "p2", "no", "--from", "second", "--dim", "9")
    assert code == 2 and error.count("\n") == 1 and "model.dim must be that of" in error
    assert "[start]" not in Path("first/config.toml").read_text()
