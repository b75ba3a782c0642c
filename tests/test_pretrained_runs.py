"""Runs with pretrained vectors: one score by every way in, same bytes after a kill, no file."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

import multiembed as me
from multiembed.config import TrainingConfig
from multiembed.diagnosis.readers.checkpoint import read_checkpoint
from multiembed.experiments.grid.grid import Grid, expand
from multiembed.experiments.grid.running import run_cases
from multiembed.runs.compress import compress_run
from multiembed.runs.directory import load_tensors, save_tensors
from multiembed.runs.run import load_run
from multiembed.serving.bundle import score
from multiembed.serving.card import write_card
from multiembed.serving.export import write_embeddings
from multiembed.serving.predict import predict
from multiembed.training.step import TrainingStep


class Killed(Exception):
    pass


class Killer:
    """Ends a training at its first evaluation, or in place of its first step."""

    def __init__(self):
        self.warnings = []

    def stepped(self, progress):
        pass

    def evaluated(self, *_):
        raise Killed

    def warned(self, message):
        self.warnings.append(message)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("pretrained"), np.random.default_rng(0)
    items = random.integers(0, 12, 400)
    clicks = (random.random(400) < 0.2 + 0.4 * (items % 2)).astype(int)
    sites = random.choice(list("abc"), 400)
    rows = pl.DataFrame({"click": clicks, "item": items + 100, "site": sites})
    rows.write_csv(folder / "rows.csv")
    options = me.PrepareOptions(format="table", label="click", categorical_columns=("item",))
    me.prepare(folder / "rows.csv", folder / "data", options)
    vectors = random.normal(size=(10, 5))
    np.savez(folder / "v.npz", values=np.arange(100, 110), vectors=vectors)
    return folder


def copied(folder, to):
    return str(shutil.copyfile(folder / "v.npz", to / "used.npz"))


def config(file, *, trained=False, sets=(1,), epochs=2):
    model = me.ModelConfig(
        architecture="dcnv2:1,dnn:1",
        dim=3,
        pretrained={"item": {"file": file, "trained": trained, "sets": sets}},
        options={"hidden": [4], "cross_layers": 1},
    )
    training = TrainingConfig(max_epochs=epochs, batch_size=64, threads=1, learning_rate=0.02)
    return me.RunConfig(model=model, training=training)


@pytest.fixture(scope="module")
def run(folder):
    """A run whose file of vectors is gone."""
    file = copied(folder, folder)
    run = me.train(config(file), dataset=folder / "data", run=folder / "run")
    Path(file).unlink()
    return load_run(run.path)


def test_a_run_scores_the_same_by_every_way_in(run, folder):
    rows = pl.read_csv(folder / "rows.csv")
    rows = pl.concat([rows, pl.DataFrame({"click": [0], "item": [999], "site": [None]})])
    rows.write_csv(folder / "more.csv")
    expected = run.predict_proba(rows)
    assert len({*expected.round(5)}) > 8

    predict(run, folder / "more.csv", folder / "out.csv", column="p")

    np.testing.assert_allclose(pl.read_csv(folder / "out.csv")["p"], expected, atol=1e-6)
    for format in ("onnx", "torch"):
        assert me.export(run, folder / format, format=format).largest_difference < 1e-6
        np.testing.assert_allclose(score(folder / format, rows), expected, atol=1e-6)
    manifest = json.loads((folder / "torch" / "manifest.json").read_text())
    record = run.config.model.pretrained["item"]
    assert manifest["trained"]["model"]["pretrained"]["item"]["sha256"] == record.sha256
    bundles = [read_checkpoint(folder / format) for format in ("onnx", "torch")]
    for found in (read_checkpoint(run.path), *bundles):
        (table,) = (table for table in found.tables if table.name == "item")
        looked_up = run.model.embedding.by_field()[run.schema.field_names.index("item")]
        torch.testing.assert_close(table.parts[0].whole(), looked_up)


def test_what_is_looked_up_is_what_is_written_and_compressed(run, folder):
    item = run.schema.field_names.index("item")
    ids = torch.zeros(13, 2, dtype=torch.int64)
    ids[:, item] = torch.arange(13)
    looked_up = run.model.embedding(ids)[:, :, item].detach()

    names = write_embeddings(run, folder / "embeddings")
    written = pl.read_parquet(folder / "embeddings" / names[item])
    compression = compress_run(run.path, folder / "narrow", keep=1.0)

    for m in range(2):
        np.testing.assert_allclose(written[f"set_{m}"].to_list(), looked_up[:, m], rtol=1e-6)
    raw = run.model.embedding.blocks()[item].view(13, 2, 3)
    assert torch.equal(raw[:, 0], looked_up[:, 0])  # set 1 alone has vectors
    alone = [(raw[row, 1] == looked_up[row, 1]).all() for row in range(13)]
    without = [value for value, same in zip(written["value"], alone, strict=True) if same]
    assert sorted(without, key=str) == ["110", "111", None]
    assert compression.after["auc"] == pytest.approx(compression.before["auc"], abs=1e-9)
    assert load_run(folder / "narrow").config.model.pretrained is None


def test_the_record_says_what_was_used(run, folder):
    record = run.config.model.pretrained["item"]
    digest = hashlib.sha256((folder / "v.npz").read_bytes()).hexdigest()
    assert (record.width, record.found, record.sha256) == (5, 10, digest)
    assert record.file == str(folder / "used.npz")
    assert f"SHA-256 `{digest}`" in write_card(run).read_text()
    assert record.described() == "10 values have a frozen vector of 5 numbers, in set 1"


def test_an_index_that_somebody_changed_is_refused(run, folder):
    broken = folder / "broken"
    shutil.copytree(run.path, broken)
    tensors, state = load_tensors(broken / "best.safetensors")
    place = run.schema.field_names.index("item")
    tensors[f"embedding.pretrained.{place}.index"][3] = 11
    save_tensors(broken / "best.safetensors", tensors, state)

    for read in (load_run, read_checkpoint):
        with pytest.raises(me.DataError, match="must name vectors below 11, got others"):
            read(broken)


@pytest.mark.parametrize(("at", "trained"), [("start", False), ("evaluation", True)])
def test_a_killed_run_goes_on_to_the_same_bytes_without_the_file(
    folder, tmp_path, monkeypatch, at, trained
):
    file = copied(folder, tmp_path)
    settings, killer = config(file, trained=trained), Killer()
    whole = me.train(settings, dataset=folder / "data", run=tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        if at == "start":
            patch.setattr(TrainingStep, "__call__", killer.evaluated)
        me.train(settings, dataset=folder / "data", run=tmp_path / "run", observer=killer)
    assert killer.warnings[0].startswith("10 of 12 values of 'item' have a vector")
    Path(file).unlink()

    again = None if at == "start" else settings  # as the command line says it again, or not
    where = None if at == "start" else folder / "data"
    me.train(again, dataset=where, run=tmp_path / "run", resume=True)

    for name in ("best.safetensors", "last.safetensors"):
        ours, theirs = (load_file(tmp_path / d / name) for d in ("run", "whole"))
        assert ours.keys() == theirs.keys()
        assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    _, state = load_tensors(whole.directory.last)
    assert state["step"] == 2 * 5


def test_the_command_line_and_the_classifier_take_them(folder, tmp_path, call, capsys):
    file = copied(folder, tmp_path)
    small = ("--set", "model.options.hidden=[4]", "--set", "training.max_epochs=1")
    options = ("--architecture", "dnn", "--dim", "2", "--pretrained", f"item={file},trained")

    code, said, warned = call("train", folder / "data", tmp_path / "run", *options, *small)

    assert code == 0
    assert "item: 10 values have a trained vector of 5 numbers, in all sets" in said
    assert "warning: 10 of 12 values of 'item' have a vector" in warned
    wrong = ("--pretrained", f"itme={file}")
    code, _, said = call("train", folder / "data", tmp_path / "no", *wrong)
    assert code == 2
    assert "field of pretrained vectors must be one of" in said
    assert not (tmp_path / "no").exists()
    rows = pl.read_csv(folder / "rows.csv").with_columns(pl.col("item").cast(pl.String))
    model = me.ClickClassifier(
        "dnn",
        dim=2,
        options={"hidden": [4]},
        pretrained={"item": file},
        training={"max_epochs": 1},
    )
    fitted = model.fit(rows.drop("click"), rows["click"])
    Path(file).unlink()
    assert fitted.predict_proba(rows.drop("click")).shape == (400, 2)


def test_an_experiment_runs_them(folder, tmp_path):
    file = copied(folder, tmp_path)
    grid = Grid(
        architectures=("dnn",),
        sizes=(1,),
        seeds=1,
        model={"options": {"hidden": [4]}},
        training={"max_epochs": 1, "threads": 1},
        variants={"plain": {}, "vectors": {"model": {"pretrained": {"item": file}}}},
    )
    cases = expand(grid, me.open_dataset(folder / "data"), tmp_path / "views")

    state = run_cases(cases, tmp_path / "runs")

    assert [len(state.done), state.failed] == [2, []]
    found = [load_run(tmp_path / "runs" / case.name).model.embedding.pretrained for case in cases]
    assert [len(of.state_dict()) for of in found] == [0, 3]
    Path(file).unlink()
    assert run_cases(cases, tmp_path / "runs").failed == []
