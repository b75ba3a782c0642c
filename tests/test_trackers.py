"""Trackers, offline: what a training logs is read back with each tracker's own reader."""

import json
import struct
import sys
from typing import ClassVar

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from multiembed.base.errors import ConfigError
from multiembed.config import TRACKERS, ModelConfig, RunConfig, TrainingConfig
from multiembed.data.store.dataset import open_dataset
from multiembed.runs.run import load_run
from multiembed.testing.planted_clicks import PlantedClicks, write_planted
from multiembed.training.start import train


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("planted") / "dataset"
    write_planted(path, PlantedClicks(cardinalities=(50, 20, 8), ranks=3, rows=4000))
    return open_dataset(path)


def config(*trackers, **training):
    model = ModelConfig(architecture="dnn", dim=4, options={"hidden": [8, 4]})
    training = {"max_epochs": 2, "batch_size": 256, "threads": 1, "trackers": trackers} | training
    return RunConfig(model=model, training=TrainingConfig(**training))


def observations(run):
    return [json.loads(line) for line in (run.path / "collapse.jsonl").read_text().splitlines()]


def expected(run):
    """Return every number that a training should have logged, by name and step."""
    found = {
        (name, record["step"]): value for record in run.records for name, value in record.items()
    }
    for line in observations(run):
        for field, measures in line["fields"].items():
            for measure, value in measures.items():
                found[f"{measure}/{field}", line["step"]] = value
    return found


def read_tensorboard(run):
    events = EventAccumulator(str(run.path / "trackers" / "tensorboard"))
    events.Reload()
    scalars = [(tag, event) for tag in events.Tags()["scalars"] for event in events.Scalars(tag)]
    found = {(tag, event.step): event.value for tag, event in scalars}
    assert len(found) == len(scalars)
    return found, events


def test_tensorboard_holds_every_number_and_the_configuration(dataset, tmp_path):
    run = train(config("tensorboard", monitor_every=5), dataset=dataset, run=tmp_path / "run")

    found, events = read_tensorboard(run)

    assert found == pytest.approx(expected(run), rel=1e-6)
    text = events.Tensors("configuration/text_summary")[0].tensor_proto.string_val[0]
    assert b'"architecture": "dnn"' in text


class Killer:
    """Ends the training after some steps, as a kill would."""

    def __init__(self, steps=0):
        self.steps = steps

    def stepped(self, progress):
        self.steps -= 1
        if self.steps == 0:
            raise KeyboardInterrupt

    def evaluated(self, record):
        pass

    def warned(self, message):
        pass


def test_a_resumed_training_goes_on_in_the_same_curves(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("multiembed.training.trainer.REPORT_STEPS", 1)
    settings = config("tensorboard", monitor_every=3, evaluate_every=10, max_epochs=3)
    with pytest.raises(KeyboardInterrupt):
        # The checkpoint is of step 10; what was logged of steps 12 to 18 comes again.
        train(settings, dataset=dataset, run=tmp_path / "run", observer=Killer(19))

    run = train(None, run=tmp_path / "run", resume=True)

    found, _ = read_tensorboard(run)
    timed = ("seconds", "rows_per_second", "peak_memory_bytes")
    wanted = {key: value for key, value in expected(run).items() if key[0] not in timed}
    assert {key: found[key] for key in wanted} == pytest.approx(wanted, rel=1e-6)
    assert found.keys() == expected(run).keys()


def test_a_finished_run_is_not_tracked_again(dataset, tmp_path):
    train(config("tensorboard"), dataset=dataset, run=tmp_path / "run")
    files = sorted((tmp_path / "run" / "trackers").rglob("*"))

    train(None, run=tmp_path / "run", resume=True)

    assert sorted((tmp_path / "run" / "trackers").rglob("*")) == files


@pytest.mark.parametrize(
    ("name", "module"),
    [("tensorboard", "torch.utils.tensorboard"), ("mlflow", "mlflow"), ("wandb", "wandb")],
)
def test_a_missing_extra_is_named_before_anything_is_lost(
    dataset, tmp_path, monkeypatch, name, module
):
    train(config(), dataset=dataset, run=tmp_path / "run")
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(
        ConfigError, match=rf"tracker {name} must be installed.*multiembed\[track\]"
    ):
        train(config(name), dataset=dataset, run=tmp_path / "run", overwrite=True)
    assert load_run(tmp_path / "run").records


class Broken:
    """Fails when told to."""

    fails_at = "log"

    def __init__(self, run):
        pass

    def start(self, configuration, *, step):
        self._maybe("start")

    def log(self, metrics, *, step):
        self._maybe("log")

    def finish(self):
        self._maybe("finish")

    def _maybe(self, moment):
        if moment == self.fails_at:
            raise OSError("the server\nis away")


class Listener(Killer):
    def __init__(self):
        super().__init__()
        self.warnings = []

    def warned(self, message):
        self.warnings.append(message)


@pytest.mark.parametrize("moment", ["log", "finish"])
def test_a_tracker_that_fails_does_not_end_the_training(dataset, tmp_path, monkeypatch, moment):
    monkeypatch.setattr(Broken, "fails_at", moment)
    listener = Listener()

    settings = config("wandb", "tensorboard")
    with TRACKERS.also("wandb", Broken):
        run = train(settings, dataset=dataset, run=tmp_path / "run", observer=listener)

    assert listener.warnings == ["tracker wandb failed and was left: OSError: the server"]
    assert read_tensorboard(run)[0].keys() == expected(run).keys()


def test_a_tracker_that_cannot_start_is_said_before_training(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(Broken, "fails_at", "start")
    said = pytest.raises(ConfigError, match="tracker wandb must be able to start, got OSError")

    with TRACKERS.also("wandb", Broken), said:
        train(config("wandb"), dataset=dataset, run=tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_an_unknown_tracker_is_refused():
    with pytest.raises(ValueError, match="trackers"):
        config("comet")


class Notebook(Broken):
    """Somebody's own tracker, which keeps all that it hears."""

    heard: ClassVar = {}

    def __init__(self, run):
        self.heard.clear()

    def log(self, metrics, *, step):
        self.heard.update({(name, step): value for name, value in metrics.items()})

    def _maybe(self, moment):
        pass


def test_one_more_entry_is_one_more_tracker_that_hears_of_every_record(dataset, tmp_path):
    with TRACKERS.also("notebook", Notebook):
        settings = config("notebook", monitor_every=5)
        run = train(settings, dataset=dataset, run=tmp_path / "run")

    assert Notebook.heard == expected(run)
    assert 'trackers = [\n    "notebook",\n]' in run.directory.config.read_text()


def test_mlflow_keeps_every_number_and_the_configuration(dataset, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is part of the extra [track] alone")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")

    run = train(config("mlflow", monitor_every=5), dataset=dataset, run=tmp_path / "run")

    client = mlflow.MlflowClient()
    kept = client.get_run((run.path / "trackers" / "mlflow_run").read_text())
    found = {
        (name, metric.step): metric.value
        for name in kept.data.metrics
        for metric in client.get_metric_history(kept.info.run_id, name)
    }
    assert found == pytest.approx(expected(run))
    assert kept.data.params["model.architecture"] == '"dnn"'
    assert kept.info.status == "FINISHED"


def wandb_records(file):
    """Yield the records of an offline run: a LevelDB log, in blocks of 32 KiB, after 7 bytes."""
    data, at, record = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last of several parts
            yield record
            record = b""


def test_wandb_keeps_every_number_offline(dataset, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is part of the extra [track] alone")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")

    run = train(config("wandb", monitor_every=5), dataset=dataset, run=tmp_path / "run")

    (file,) = (run.path / "trackers" / "wandb").glob("offline-run-*/*.wandb")
    found = {}
    for record in map(Record.FromString, wandb_records(file)):
        items = {item.key or "/".join(item.nested_key): item for item in record.history.item}
        for name, item in items.items():
            if not name.startswith("_"):
                found[name, json.loads(items["_step"].value_json)] = json.loads(item.value_json)
    assert found == pytest.approx(expected(run))
