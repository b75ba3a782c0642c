"""Time of an evaluation against plain PyTorch, and the input pipeline's share of a training step.

    python benchmarks/bench_evaluate.py [--models dcnv2:single:1 …] [--rows 65536] [--threads 1]

Promises: probabilities, AUC and log loss of a split at least 5 times faster than the textbook's;
fetching batches below 3% of a training step. The textbook (textbook.py) has the same weights, a
DataLoader of one record per row, `model.eval()` without gradients, and scikit-learn's metrics;
both must come to the same AUC and log loss. One process; they take turns. Shares are of steps
of multiembed's trainer with deferred Adam.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from bench_optimizer import BATCH
from bench_spectra import interleaved, machine
from bench_step import FIELDS, Model, copy_parameters
from click_rows import write_dataset
from sklearn.metrics import log_loss, roc_auc_score
from textbook import TextbookModel, loader
from trainer_contender import trainer_step
from turns import timed_step

from multiembed.base.memory import keep_freed_memory
from multiembed.data.store.dataset import open_dataset
from multiembed.models.click_model import ClickModel
from multiembed.runs import run as training_run

MODELS = ("dcnv2:single:1", "dcnv2:multi:4")
STEPS = 8


def ours(model, split):
    """Evaluate as the trainer does."""
    batches = split.batches(training_run.EVALUATION_BATCH)
    labels, probabilities = training_run.predict_batches(model, batches)
    return training_run.quality(labels, probabilities)


@torch.no_grad()
def textbook(model, ids, labels):
    """Evaluate as textbooks do."""
    model.eval()
    targets, predicted = [], []
    for some_ids, some_labels in loader(ids, labels, BATCH, shuffle=False):
        targets.extend(some_labels.tolist())
        predicted.extend(torch.sigmoid(model(some_ids)).tolist())
    return {"auc": roc_auc_score(targets, predicted), "log_loss": log_loss(targets, predicted)}


def measure(model, data, options):
    """Print one row per way."""
    split = open_dataset(data).split("test")
    mine = ClickModel(
        model.architecture, model.sizes, dim=model.dim, sets=model.sets, embedding_init=0.1
    )
    theirs = TextbookModel(model.architecture, model.sizes, dim=model.dim, sets=model.sets)
    with torch.no_grad():
        copy_parameters(mine, theirs)
    ids, labels = np.array(split.ids), np.array(split.labels)
    tasks = {
        "textbook": lambda: textbook(theirs, ids, labels),
        "multiembed": lambda: ours(mine, split),
    }
    for task in tasks.values():
        task()
    seconds, results = interleaved(tasks, options.rounds)
    for measure_ in ("auc", "log_loss"):
        np.testing.assert_allclose(*(r[measure_] for r in results.values()), rtol=1e-5)
    base = statistics.median(seconds["textbook"])
    for name, times in seconds.items():
        median = statistics.median(times)
        print(
            f"| {model.name} | {name} | {median:.3f} | {len(labels) / median / 1e3:.0f} "
            f"| {base / median:.1f} |",
            flush=True,
        )


def input_share(model, data, options):
    """Print which share of a training step goes into fetching its batch."""
    spec = {"data": data, "architecture": model.architecture, "dim": model.dim}
    spec |= {"sets": model.sets, "precision": None, "warmup": 5}
    with tempfile.TemporaryDirectory() as folder:
        batches, step, _ = trainer_step(spec, Path(folder) / "run")
        timed_step(batches, step, "wall")
        reports = [timed_step(batches, step, "wall") for _ in range(STEPS * options.rounds)]
    # One batch of several reads all of their rows: the mean counts it, a median would not.
    fetched, whole = (
        statistics.mean(report[part] for report in reports) for part in ("batch", "seconds")
    )
    print(f"| {model.name} | {whole * 1e3:.1f} | {fetched * 1e3:.2f} | {fetched / whole:.1%} |")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="*", default=MODELS, metavar="MODEL")
    parser.add_argument("--rows", type=int, default=1 << 16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    print("\n".join(machine()))
    print(f"- {options.rows:,} rows of {FIELDS} fields, threads: {options.threads}")
    print(f"- medians of {options.rounds} interleaved rounds\n")
    models = [Model(name) for name in options.models]
    with tempfile.TemporaryDirectory() as folder:
        data = {model.sizes: Path(folder) / str(sum(model.sizes)) for model in models}
        for sizes, path in data.items():
            write_dataset(path, sizes, train=options.rows, test=options.rows)
        print("| model | evaluation | seconds | thousand rows/s | times faster |")
        print("|---|---|--:|--:|--:|")
        for model in models:
            measure(model, data[model.sizes], options)
        print("\n| model | ms a training step | ms to fetch its batch | share |\n|---|--:|--:|--:|")
        for model in models:
            input_share(model, data[model.sizes], options)


if __name__ == "__main__":
    main()
