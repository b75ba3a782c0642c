"""Training: it learns what can be learnt, survives kills, and refuses what it cannot do."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

from multiembed.base.errors import ConfigError, DataError
from multiembed.config import ModelConfig, RunConfig, TrainingConfig
from multiembed.data.store.dataset import open_dataset
from multiembed.models.embedding import EmbeddingSets
from multiembed.runs.run import load_run
from multiembed.testing.planted_clicks import PlantedClicks, best_auc, write_planted
from multiembed.training.progress import is_better
from multiembed.training.row_counts import count_rows
from multiembed.training.settling import settle_other
from multiembed.training.start import train
from multiembed.training.trainer import Trainer

SMALL = ModelConfig(architecture="dcnv2", dim=4, sets=2, options={"hidden": [16, 8]})


@pytest.fixture(scope="module")
def planted():
    return PlantedClicks(cardinalities=(50, 20, 8, 4), ranks=3, rows=8000, strength=2.0)


@pytest.fixture(scope="module")
def dataset(planted, tmp_path_factory):
    path = tmp_path_factory.mktemp("planted") / "dataset"
    write_planted(path, planted)
    return open_dataset(path)


def config(**training):
    training = {"max_epochs": 2, "batch_size": 256, "threads": 1} | training
    return RunConfig(model=SMALL, training=TrainingConfig(**training))


def test_training_comes_within_a_hundredth_of_the_best_auc(tmp_path):
    planted = PlantedClicks(cardinalities=(40, 20, 10, 5), ranks=2, rows=20_000, strength=1.5)
    write_planted(tmp_path / "dataset", planted)
    model = ModelConfig(architecture="dcnv2", dim=8, options={"hidden": [64, 32], "dropout": 0.0})
    training = TrainingConfig(max_epochs=5, batch_size=512, learning_rate=0.01, threads=1)

    run = train(
        RunConfig(model=model, training=training),
        dataset=tmp_path / "dataset",
        run=tmp_path / "run",
    )

    assert run.evaluate("test")["auc"] > best_auc(planted) - 0.01


def test_a_run_directory_holds_all_that_is_needed(dataset, tmp_path):
    run = train(config(), dataset=dataset, run=tmp_path / "run")

    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names >= {
        "config.toml",
        "schema.json",
        "vocabulary",
        "row_counts.npy",
        "metrics.jsonl",
        "best.safetensors",
        "last.safetensors",
        "summary.json",
    }
    assert not [name for name in names if name.endswith(".tmp")]
    assert run.config.model.dim == 4
    assert {
        "auc",
        "log_loss",
        "normalized_entropy",
        "calibration_ratio",
        "mean_information_abundance",
        "seconds",
        "rows_per_second",
        "peak_memory_bytes",
    } <= run.records[0].keys()


def test_the_kept_model_is_the_one_that_was_measured(dataset, tmp_path):
    run = train(config(device="cpu"), dataset=dataset, run=tmp_path / "run")

    best = max(run.records, key=lambda record: record["auc"])
    measured = load_run(tmp_path / "run").evaluate("valid")
    assert measured["auc"] == best["auc"]
    assert measured["log_loss"] == best["log_loss"]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(dataset, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(config(seed=seed), dataset=dataset, run=tmp_path / name)

    best = {name: (tmp_path / name / "best.safetensors").read_bytes() for name in "abc"}
    weights = {name: load_file(tmp_path / name / "best.safetensors") for name in "abc"}
    assert all(torch.equal(weights["a"][key], weights["b"][key]) for key in weights["a"])
    assert best["a"] != best["c"]


class Killer:
    """Ends the training at one evaluation or report, as a kill would."""

    def __init__(self, at_step):
        self.at_step = at_step

    def stepped(self, progress):
        self._maybe(progress.step)

    def evaluated(self, record):
        self._maybe(record["step"])

    def warned(self, message):
        pass

    def _maybe(self, step):
        if step >= self.at_step:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    settings = config(max_epochs=3, evaluate_every=20, negative_rate=0.5)
    return train(settings, dataset=dataset, run=tmp_path_factory.mktemp("runs") / "whole")


@pytest.mark.parametrize("at_step", [1, 21, 26, 40])
def test_a_killed_run_goes_on_to_the_same_weights(dataset, tmp_path, monkeypatch, at_step, whole):
    monkeypatch.setattr("multiembed.training.trainer.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr("multiembed.training.trainer.REPORT_STEPS", 1)
    settings = whole.config.model_copy(update={"dataset": None})
    with pytest.raises(KeyboardInterrupt):
        train(settings, dataset=dataset, run=tmp_path / "killed", observer=Killer(at_step))

    resumed = train(None, run=tmp_path / "killed", resume=True)

    timed = ("seconds", "rows_per_second", "peak_memory_bytes")
    for ours, theirs in zip(resumed.records, whole.records, strict=True):
        assert all(ours[key] == theirs[key] for key in ours if key not in timed)
    for file in ("best.safetensors", "last.safetensors"):
        ours, theirs = (load_file(path / file) for path in (resumed.path, whole.path))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_process_killed_outright_goes_on_to_the_same_weights(dataset, tmp_path):
    command = [
        *(sys.executable, "-m", "multiembed", "train", str(dataset.path), str(tmp_path / "killed")),
        *("--architecture", "dnn", "--dim", "4", "--set", "training.max_epochs=1"),
        *("--set", "training.batch_size=64", "--set", "training.threads=1"),
        *("--set", "training.evaluate_every=25"),
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not (tmp_path / "killed" / "last.safetensors").exists():
        assert process.poll() in (None, 0)
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()

    resumed = train(None, run=tmp_path / "killed", resume=True)
    whole = train(resumed.config, run=tmp_path / "whole")

    ours, theirs = resumed.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_run_directory_is_not_written_over_unasked(dataset, tmp_path):
    train(config(max_epochs=1), dataset=dataset, run=tmp_path / "run")

    with pytest.raises(ConfigError, match="holds a finished run; say --resume or --overwrite"):
        train(config(), dataset=dataset, run=tmp_path / "run")
    with pytest.raises(ConfigError, match="with its own configuration"):
        train(config(seed=9), dataset=dataset, run=tmp_path / "run", resume=True)
    again = train(
        config(seed=9, max_epochs=1), dataset=dataset, run=tmp_path / "run", overwrite=True
    )
    assert again.config.training.seed == 9


def test_a_run_in_use_is_refused(dataset, tmp_path):
    class Intruder(Killer):
        def _maybe(self, step):
            with pytest.raises(ConfigError, match="in use by another process"):
                train(config(), dataset=dataset, run=tmp_path / "run", overwrite=True)

    train(config(max_epochs=1), dataset=dataset, run=tmp_path / "run", observer=Intruder(0))


def test_a_folder_of_other_files_is_refused(dataset, tmp_path):
    (tmp_path / "thesis.txt").write_text("do not lose me")

    with pytest.raises(ConfigError, match=r"a run directory and nothing else, got thesis\.txt"):
        train(config(), dataset=dataset, run=tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").exists()


def test_training_stops_when_patience_runs_out(dataset, tmp_path):
    run = train(
        config(max_epochs=50, patience=2, learning_rate=0.05, batch_size=1024),
        dataset=dataset,
        run=tmp_path / "run",
    )

    aucs = [record["auc"] for record in run.records]
    best = int(np.argmax(aucs))
    assert len(aucs) == best + 3


def test_an_evaluation_is_better_by_the_measure_that_was_asked_for():
    earlier = [{"auc": 0.70, "log_loss": 0.50}, {"auc": 0.72, "log_loss": 0.48}]
    ranks_better, costs_less = {"auc": 0.73, "log_loss": 0.60}, {"auc": 0.71, "log_loss": 0.47}

    assert is_better(ranks_better, earlier, "auc")
    assert not is_better(ranks_better, earlier, "log_loss")
    assert is_better(costs_less, earlier, "log_loss")
    assert not is_better(costs_less, earlier, "auc")
    assert not is_better(earlier[1], earlier, "auc"), "as good is not better"


def test_the_model_with_the_least_log_loss_is_kept_where_that_is_asked_for(dataset, tmp_path):
    asked = {"max_epochs": 50, "patience": 2, "learning_rate": 0.05, "batch_size": 1024}

    run = train(config(**asked, best_by="log_loss"), dataset=dataset, run=tmp_path / "run")

    losses = [record["log_loss"] for record in run.records]
    best = int(np.argmin(losses))
    assert len(losses) == best + 3
    assert run.best_state["step"] == run.records[best]["step"]
    assert run.evaluate("valid")["log_loss"] == pytest.approx(min(losses))


def test_the_learning_rate_falls_on_a_plateau(dataset, tmp_path):
    run = train(
        config(max_epochs=8, learning_rate=0.05, learning_rate_decay=0.1, patience=8),
        dataset=dataset,
        run=tmp_path / "run",
    )

    rates, best = [], 0.0
    expected = 0.05
    for record in run.records:
        rates.append((record["learning_rate"], expected))
        if record["auc"] <= best:
            expected *= 0.1
        best = max(best, record["auc"])
    assert expected < 0.05
    assert all(rate == pytest.approx(want) for rate, want in rates)


def test_down_sampled_negatives_leave_probabilities_calibrated(tmp_path):
    planted = PlantedClicks(cardinalities=(30, 10), rows=40_000, base_rate=0.1, ranks=2)
    write_planted(tmp_path / "dataset", planted)
    model = ModelConfig(architecture="dnn", dim=4, options={"hidden": [16, 8], "dropout": 0.0})
    training = TrainingConfig(
        negative_rate=0.2, max_epochs=3, batch_size=512, learning_rate=0.01, threads=1
    )

    run = train(
        RunConfig(model=model, training=training),
        dataset=tmp_path / "dataset",
        run=tmp_path / "run",
    )

    assert run.evaluate("test")["calibration_ratio"] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("tables", ["dense_adam", "deferred_adam"])
def test_clipping_bounds_the_common_norm_of_all_gradients(dataset, tmp_path, tables):
    train(config(max_epochs=1, table_optimizer=tables), dataset=dataset, run=tmp_path / "run")
    run = load_run(tmp_path / "run")
    trainer = Trainer(run.config, dataset, run.directory)
    trainer.model.train()
    batch = next(dataset.split("train").batches(64))
    ids, labels = torch.from_numpy(batch.ids), torch.from_numpy(batch.labels)
    trainer.step.loss(trainer.tables.lookup(ids), labels.float()).backward()
    table = trainer.model.embedding.weight
    dense = [p.grad for p in trainer.model.parameters() if p is not table]
    gradients = dense + trainer.tables.gradients()
    before = [gradient.clone() for gradient in gradients]
    norm = torch.cat([g.flatten() for g in before]).norm()

    trainer.step._clip(float(norm) / 3)

    for ours, whole in zip(gradients, before, strict=True):
        torch.testing.assert_close(ours, whole / 3, rtol=1e-4, atol=1e-9)


def test_training_leaves_torchs_compiler_alone(dataset, tmp_path):
    code = (
        "import sys\n"
        "import multiembed\n"
        "config = multiembed.RunConfig(\n"
        "    model={'architecture': 'dcnv2', 'sets': 2}, training={'max_epochs': 1})\n"
        f"multiembed.train(config, dataset={str(dataset.path)!r}, run={str(tmp_path / 'run')!r})\n"
        "loaded = {'torch._dynamo', 'sympy'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


def test_an_untrained_other_becomes_the_mean_by_training_counts():
    embedding = EmbeddingSets([3, 2], dim=2)
    table = torch.tensor([[9.0, 9], [1, 2], [4, 8], [7, 7], [5, 5]])
    with torch.no_grad():
        embedding.weight.copy_(table)

    settle_other(embedding, np.array([0, 2, 1, 1, 3]))

    expected = table.clone()
    expected[0] = torch.tensor([2.0, 4.0])  # (2 (1, 2) + 1 (4, 8)) / 3
    torch.testing.assert_close(embedding.weight.detach(), expected)


def test_rows_are_counted_as_numpy_counts_them(dataset):
    counts = count_rows(dataset.split("train"), dataset.cardinalities)

    ids = dataset.split("train").ids
    expected = [
        np.sum(ids[:, f] == i) for f, size in enumerate(dataset.cardinalities) for i in range(size)
    ]
    np.testing.assert_array_equal(counts, expected)


def test_evaluation_finds_the_field_to_group_by_or_says_which_there_are(dataset, tmp_path):
    run = train(config(max_epochs=1), dataset=dataset, run=tmp_path / "run")
    field = dataset.field_names[2]

    test = dataset.split("test")
    scores, groups = run.predict(test.ids), test.ids[:, 2]
    of_groups = [groups == group for group in np.unique(groups) if group]  # but for other
    both = [rows for rows in of_groups if len(np.unique(test.labels[rows])) == 2]
    expected = np.average(
        [roc_auc_score(test.labels[rows], scores[rows]) for rows in both],
        weights=[rows.sum() for rows in both],
    )
    assert run.evaluate("test", group=field)["group_auc"] == pytest.approx(expected)
    with pytest.raises(DataError, match=f"group must be one of the fields .*{field}"):
        run.evaluate("test", group="userid")


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"must be a run directory, got no config\.toml"):
        load_run(tmp_path)


def test_metrics_are_one_json_object_a_line(dataset, tmp_path):
    train(config(max_epochs=2), dataset=dataset, run=tmp_path / "run")

    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
