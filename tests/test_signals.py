"""All that a log may hold at once: weights, numbers, histories, vectors, a new day."""

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

import multiembed as me
from multiembed.training.trainer import Trainer

TRAINING = me.TrainingConfig(max_epochs=2, batch_size=64, threads=1, learning_rate=0.01)


def day(rows, items, *, seed):
    random = np.random.default_rng(seed)
    item = random.integers(0, items, rows)
    clicked = [[f"i{k}" for k in random.integers(0, items, n)] for n in random.integers(0, 6, rows)]
    price = [
        None if random.random() < 0.1 else float(p) for p in random.gamma(2, 10, rows).round(2)
    ]
    return pl.DataFrame(
        {
            "click": (random.random(rows) < 0.2 + 0.1 * (item % 5)).astype(int),
            "item": [f"i{k}" for k in item],
            "clicked": clicked,
            "price": price,
            "shop": [f"s{k}" for k in random.integers(0, 4, rows)],
            "tags": [["a", "b"] if k % 2 else ["c"] for k in item],
            "weight": random.gamma(1, 2, rows).round(3),
            "hour": [f"h{k}" for k in random.integers(0, 3, rows)],
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("signals")
    day(500, 12, seed=0).write_parquet(folder / "monday.parquet")
    day(400, 16, seed=1).write_parquet(folder / "tuesday.parquet")
    vectors = np.random.default_rng(2).normal(size=(3, 5))
    np.savez(folder / "shops.npz", values=np.array(["s0", "s1", "s3"]), vectors=vectors)
    options = me.PrepareOptions(
        format="table",
        label="click",
        weight="weight",
        sequences={"clicked": "item"},
        numeric_embedding={"price": "plr"},
        keep=("hour",),
        drop=("hour",),
        min_count=1,
    )
    me.prepare(folder / "monday.parquet", folder / "monday", options)
    return folder


def config(architecture):
    model = me.ModelConfig(
        architecture=architecture,
        dim=3,
        sets=2,
        sequence_pooling="attention",
        options={"hidden": [8]} if architecture != "ffm" else {},
    )
    return me.RunConfig(model=model, training=TRAINING)


def with_vectors(run_config, folder):
    vectors = {"shop": {"file": str(folder / "shops.npz")}}
    model = me.ModelConfig.model_validate({**run_config.model.model_dump(), "pretrained": vectors})
    return run_config.model_copy(update={"model": model})


@pytest.fixture(scope="module")
def trained(folder):
    asked = with_vectors(config("dcnv2"), folder)
    return me.train(asked, dataset=folder / "monday", run=folder / "run")


@pytest.mark.parametrize("architecture", ["ffm", "xdeepfm"])
def test_architectures_with_other_rows_read_everything(folder, architecture, tmp_path):
    asked = with_vectors(config(architecture), folder)

    run = me.train(asked, dataset=folder / "monday", run=tmp_path / "run")

    assert 0 < run.evaluate("test")["log_loss"] < 2
    assert np.isfinite(run.predict_proba(pl.read_parquet(folder / "monday.parquet"))).all()


def test_one_score_by_every_way_in(folder, trained, tmp_path):
    rows = pl.read_parquet(folder / "monday.parquet")
    me.predict(trained, folder / "monday.parquet", tmp_path / "out.parquet")
    me.export(trained, tmp_path / "bundle", format="torch", rows=folder / "monday.parquet")

    by_frame = trained.predict_proba(rows)

    by_file = pl.read_parquet(tmp_path / "out.parquet")["probability"].to_numpy()
    np.testing.assert_array_equal(by_file, by_frame)
    shuffled = np.random.default_rng(0).permutation(rows.height)
    np.testing.assert_allclose(trained.predict_proba(rows[shuffled]), by_frame[shuffled], rtol=1e-5)


def test_the_diagnosis_knows_every_table_by_its_name(trained):
    found = {field.name: field for field in me.diagnose(trained.path).fields}

    assert set(found) == {"item", "price", "shop", "tags"}  # a history has its item's table


def test_a_kill_is_resumed_to_the_same_bytes(folder, trained, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(trainer):
        if trainer.state.step == 9:
            raise Killed

    after_step = Trainer._after_step
    asked = with_vectors(config("dcnv2"), folder)
    monkeypatch.setattr(Trainer, "_after_step", lambda self: (after_step(self), killed(self)))
    with pytest.raises(Killed):
        me.train(asked, dataset=folder / "monday", run=tmp_path / "run")
    monkeypatch.undo()
    me.train(None, run=tmp_path / "run", resume=True)

    whole, resumed = (load_file(of / "last.safetensors") for of in (trained.path, tmp_path / "run"))
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


def test_tomorrow_goes_on_with_all_of_it(folder, trained, tmp_path):
    before = trained.model.embedding.by_field()[0]
    options = me.PrepareOptions(like=str(trained.path), grow=True)
    schema = me.prepare(folder / "tuesday.parquet", tmp_path / "tuesday", options)
    run = me.train(
        None,
        dataset=tmp_path / "tuesday",
        run=tmp_path / "run",
        start_from=trained,
        carry_moments=True,
    )

    assert schema.fields[0].cardinality == 17  # twelve items, then four new ones, and other
    assert before.shape[0] == 13
    assert len(run.model.embedding.by_field()[0]) == 17
    days = run.evaluate_by("hour", "test")
    assert [of.value for of in days] == ["h0", "h1", "h2"]
    assert run.schema.weight == "weight"
