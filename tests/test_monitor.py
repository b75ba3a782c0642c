"""Collapse watched during training: right numbers, no false alarm, and no effect on training."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from multiembed.config import ModelConfig, RunConfig, TrainingConfig
from multiembed.data.store.dataset import open_dataset
from multiembed.models.embedding import EmbeddingSets, Row
from multiembed.runs.directory import RunDirectory
from multiembed.spectra.measures import null_information_abundance
from multiembed.testing.planted_clicks import PlantedClicks, write_planted
from multiembed.training.monitor import FALL_SHARE, FALLS, Monitor, collapse_warning, observe
from multiembed.training.progress import TrainingState
from multiembed.training.start import train
from multiembed.training.trackers import Tracking


def abundance(table):
    values = np.linalg.svd(table, compute_uv=False)
    return values.sum() / values[0]


def planted_table(values, *, offset=0.0, rows=300, seed=0):
    """Return centred rows of these singular values, plus an offset."""
    rng = np.random.default_rng(seed)
    drawn = rng.standard_normal((rows, len(values)))
    left = np.linalg.qr(drawn - drawn.mean(axis=0))[0]
    turn = np.linalg.qr(rng.standard_normal((len(values), len(values))))[0]
    return left * values @ turn + offset


def embedding_of(*tables):
    embedding = EmbeddingSets([len(table) for table in tables], dim=tables[0].shape[1])
    with torch.no_grad():
        embedding.weight.copy_(torch.from_numpy(np.concatenate(tables)))
    return embedding


class Listener:
    """Remembers what it is told."""

    def __init__(self):
        self.warnings = []

    def stepped(self, progress):
        pass

    def evaluated(self, record):
        pass

    def warned(self, message):
        self.warnings.append(message)


def test_every_field_is_measured_as_numpy_measures_it():
    rng = np.random.default_rng(0)
    tables = [rng.standard_normal((rows, 4)) + 0.5 for rows in (50, 3)]
    tables.append(np.zeros((7, 4)))

    seen = observe(embedding_of(*tables), ["tall", "wide", "dead"], step=5)

    for name, table in zip(("tall", "wide"), tables, strict=False):
        field = seen.fields[name]
        table = table.astype(np.float32).astype(np.float64)
        assert field.information_abundance == pytest.approx(abundance(table))
        centred = abundance(table - table.mean(axis=0))
        assert field.centered_information_abundance == pytest.approx(centred, abs=1e-5)
        share = abundance(table) / null_information_abundance(*table.shape)
        assert field.normalized_information_abundance == pytest.approx(share)
    assert seen.fields["dead"].information_abundance == 0
    assert seen.mean.information_abundance == pytest.approx(
        np.mean([seen.fields[name].information_abundance for name in seen.fields])
    )
    assert seen.record()["step"] == 5


def test_first_order_weights_are_no_embedding():
    embedding = EmbeddingSets([40], dim=3, sets=2, row=Row(first_order=True))
    columns = [0, 1, 2, 4, 5, 6]

    seen = observe(embedding, ["only"], step=1)

    expected = abundance(embedding.weight.detach().double().numpy()[:, columns])
    assert seen.fields["only"].information_abundance == pytest.approx(expected)


def warnings_over(directory, embeddings):
    listener, state = Listener(), TrainingState()
    monitor = Monitor(RunDirectory(directory), ["field"], Tracking((), directory), listener)
    said = []
    for embedding in embeddings:
        state.step += 10
        monitor.observe(embedding, state)
        said.append(len(listener.warnings))
    return said, listener.warnings


def test_a_table_that_loses_its_directions_draws_a_warning(tmp_path):
    shrinking = [embedding_of(planted_table([1, 1, *[0.9**at] * 6])) for at in range(8)]

    said, warnings = warnings_over(tmp_path, shrinking)

    # The abundance is 2 + 6 * 0.9^at of 8: a loss of 0, .08, .14, .20, .26, .31, .35, .39 shares.
    assert said == [0, 0, 0, 1, 1, 1, 1, 1]
    assert "from 8.00 to 6.37" in warnings[0]


def test_neither_a_growing_offset_nor_noise_draws_one(tmp_path):
    offset = [embedding_of(planted_table([1] * 8, offset=float(at))) for at in range(8)]
    noise = [embedding_of(planted_table([1, 1 - 0.3 * (at % 2), 1], seed=at)) for at in range(8)]
    (tmp_path / "other").mkdir()

    assert not warnings_over(tmp_path, offset)[1]
    assert not warnings_over(tmp_path / "other", noise)[1]


@pytest.mark.parametrize("length", range(FALLS + 1))
def test_a_short_fall_is_no_fall(length):
    assert collapse_warning([10 * 0.5**at for at in range(length)]) is None


def test_a_slow_fall_is_said_when_it_has_lost_enough_and_again_when_twice_that():
    fall = [1 - 0.01 * at for at in range(100)]

    said = [at for at in range(len(fall)) if collapse_warning(fall[: at + 1])]

    every = round(100 * FALL_SHARE)
    assert len(said) == 99 // every
    assert all(abs(at - every * number) <= 1 for number, at in enumerate(said, start=1))


def test_a_fall_ends_where_the_abundance_rises():
    assert collapse_warning([10.0, 8.0, 7.0, 5.0]) is not None
    assert collapse_warning([10.0, 8.0, 8.1, 7.0, 6.9]) is None
    assert collapse_warning([1.0, 10.0, 8.0, 7.0, 5.0]) is not None
    assert collapse_warning([0.0, 0.0, 0.0, 0.0, 0.0]) is None


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("planted") / "dataset"
    write_planted(path, PlantedClicks(cardinalities=(50, 20, 8, 4), ranks=3, rows=5000))
    return open_dataset(path)


def config(**training):
    model = ModelConfig(architecture="dcnv2", dim=4, sets=2, options={"hidden": [8, 4]})
    training = {"max_epochs": 2, "batch_size": 256, "threads": 1} | training
    return RunConfig(model=model, training=TrainingConfig(**training))


def lines(run):
    return [json.loads(line) for line in (run / "collapse.jsonl").read_text().splitlines()]


def test_training_writes_one_line_per_evaluation_that_metrics_agree_with(dataset, tmp_path):
    run = train(config(), dataset=dataset, run=tmp_path / "run")

    written = lines(run.path)
    assert [line["step"] for line in written] == [record["step"] for record in run.records]
    for line, record in zip(written, run.records, strict=True):
        assert tuple(line["fields"]) == dataset.field_names
        for measure, value in line["mean"].items():
            assert record[f"mean_{measure}"] == value
    best = max(range(2), key=lambda at: run.records[at]["auc"])
    table = run.model.embedding.by_field()[0].double().numpy()
    measured = written[best]["fields"][dataset.field_names[0]]["information_abundance"]
    assert measured == pytest.approx(abundance(table))


def test_every_so_many_steps_and_at_evaluations_but_never_twice_at_one_step(dataset, tmp_path):
    run = train(config(monitor_every=8), dataset=dataset, run=tmp_path / "run")

    # 4,000 rows are 16 steps an epoch: an evaluation at 16 and 32.
    assert [line["step"] for line in lines(run.path)] == [8, 16, 24, 32]
    assert [record["step"] for record in run.records] == [16, 32]


def test_watching_changes_nothing(dataset, tmp_path):
    for name, every in (("often", 3), ("seldom", None)):
        train(config(monitor_every=every), dataset=dataset, run=tmp_path / name)

    often, seldom = (load_file(tmp_path / n / "best.safetensors") for n in ("often", "seldom"))
    assert all(torch.equal(often[key], seldom[key]) for key in often)


class Killer(Listener):
    """Ends the training at one step, as a kill would."""

    def __init__(self, at_step):
        super().__init__()
        self.at_step = at_step

    def stepped(self, progress):
        if progress.step >= self.at_step:
            raise KeyboardInterrupt


@pytest.fixture(scope="module", params=["dense_adam", "deferred_adam"])
def whole(request, dataset, tmp_path_factory):
    settings = config(monitor_every=5, evaluate_every=12, table_optimizer=request.param)
    return train(settings, dataset=dataset, run=tmp_path_factory.mktemp("runs") / "whole")


@pytest.mark.parametrize("at_step", [2, 10, 14])
def test_a_killed_run_goes_on_to_the_same_lines(dataset, tmp_path, monkeypatch, at_step, whole):
    settings = whole.config.model_copy(update={"dataset": None})
    monkeypatch.setattr("multiembed.training.trainer.REPORT_STEPS", 1)
    with pytest.raises(KeyboardInterrupt):
        train(settings, dataset=dataset, run=tmp_path / "killed", observer=Killer(at_step))
    with (tmp_path / "killed" / "collapse.jsonl").open("a") as file:
        file.write('{"step": 1')

    train(None, run=tmp_path / "killed", resume=True)

    ours, theirs = (path / "collapse.jsonl" for path in (tmp_path / "killed", whole.path))
    assert ours.read_bytes() == theirs.read_bytes()
    assert [line["step"] for line in lines(whole.path)] == [5, 10, 12, 15, 20, 24, 25, 30, 32]
