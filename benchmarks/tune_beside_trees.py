"""`multiembed tune` beside a tuned LightGBM, the same minutes each, on the data of first_result.py.

    python benchmarks/tune_beside_trees.py OUT [NAME …] [--minutes 5]

Both are tuned by Optuna for validation log loss on one thread and one split (seed 0). The first
trial is the recipe, which embeds the numbers that the dataset keeps (plr), and LightGBM as
`compare` fits it but for an L2 of 1e-3. No trial begins after its minutes; the one that runs then
is brought to its end. What an earlier call finished is kept. OUT/tune_beside_trees.md is made of
all that is there.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import lightgbm
import numpy as np
import optuna
from first_result import JUDGED, TUNED, prepared
from first_result_page import shown, table

import multiembed as me
from multiembed.base.files import write_text
from multiembed.experiments.analysis.paired_rows import auc_difference, log_loss_difference
from multiembed.experiments.analysis.statistics import Interval
from multiembed.experiments.compare.contender_columns import Columns
from multiembed.experiments.compare.trees import places_of_categories, tree_matrix
from multiembed.runs.metrics import auc, log_loss

FIRST = {
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_data_in_leaf": 20,
    "feature_fraction": 1.0,
    "bagging_fraction": 1.0,
    "lambda_l2": 1e-3,
    "cat_smooth": 10.0,
    "cat_l2": 10.0,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", default=[*JUDGED, *TUNED])
    parser.add_argument("--minutes", type=float, default=5)
    asked = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for name in asked.names:
        file = asked.out / "tuned" / f"{name}.json"
        if not file.exists():
            found = compared(name, asked.out, 60 * asked.minutes)
            write_text(file, json.dumps(found, indent=1))
            print(f"{time.strftime('%H:%M:%S')} {name}: {found}", flush=True)
    (asked.out / "tune_beside_trees.md").write_text(page(asked.out))


def compared(name: str, out: Path, seconds: float) -> dict[str, object]:
    """Tune both, and compare the best of each on the test split."""
    path = prepared(name, 0, out)
    labels = np.asarray(me.open_dataset(path).split("test").labels, np.int8)
    begun = time.monotonic()
    options = me.TuneOptions(settings=("training.threads=1",))
    folder = out / "tuned" / name
    tuned = me.tune(path, folder, options, trials=10_000, time_limit=seconds)
    spent = time.monotonic() - begun
    ours = tuned.run.score("test").probabilities
    trees, trials, seconds_of_trees = tuned_trees(path, seconds)
    said: dict[str, object] = {"rows": labels.size}
    for who, p in (("ours", ours), ("trees", trees)):
        said[who] = {"auc": auc(labels, p), "log_loss": log_loss(labels, p)}
    said["auc"] = list(auc_difference(labels, ours, trees))
    said["log_loss"] = list(log_loss_difference(labels, ours, trees))
    said["trials"] = [len(tuned.counted), trials]
    said["seconds"] = [spent, seconds_of_trees]
    said["best"] = dict(tuned.settings(tuned.best)) if tuned.best else {}
    return said


def tuned_trees(path: Path, seconds: float) -> tuple[np.ndarray, int, float]:
    """Return the test probabilities of the best LightGBM, its trials and the seconds spent."""
    begun = time.monotonic()
    columns = Columns(me.open_dataset(path))
    categorical = places_of_categories(columns)
    train, valid, test = (tree_matrix(of) for of in (columns.train, columns.valid, columns.test))
    best: list[tuple[float, np.ndarray]] = []

    def loss(trial: optuna.Trial) -> float:
        params = {
            "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.3, log=True),
            "num_leaves": trial.suggest_int("num_leaves", 4, 256, log=True),
            "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 5, 500, log=True),
            "feature_fraction": trial.suggest_float("feature_fraction", 0.3, 1.0),
            "bagging_fraction": trial.suggest_float("bagging_fraction", 0.4, 1.0),
            "lambda_l2": trial.suggest_float("lambda_l2", 1e-3, 100.0, log=True),
            "cat_smooth": trial.suggest_float("cat_smooth", 1.0, 200.0, log=True),
            "cat_l2": trial.suggest_float("cat_l2", 1.0, 200.0, log=True),
        }
        fixed = {"objective": "binary", "num_threads": 1, "bagging_freq": 1, "verbosity": -1}
        rows = lightgbm.Dataset(train, columns.train.labels, categorical_feature=categorical)
        stopping = rows.create_valid(valid, columns.valid.labels)
        stop = lightgbm.early_stopping(100, verbose=False)
        model = lightgbm.train(
            {**params, **fixed}, rows, 5000, valid_sets=[stopping], callbacks=[stop]
        )
        found = log_loss(columns.valid.labels, np.asarray(model.predict(valid)))
        if not best or found < best[0][0]:
            best[:] = [(found, np.asarray(model.predict(test)))]
        return found

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    study.enqueue_trial(FIRST)
    study.optimize(loss, timeout=seconds)
    return best[0][1], len(study.trials), time.monotonic() - begun


def page_rows(out: Path) -> Iterator[list[str]]:
    for name in (*JUDGED, *TUNED):
        file = out / "tuned" / f"{name}.json"
        if not file.exists():
            continue
        found = json.loads(file.read_text())
        both = [
            f"{found[who]['auc']:.4f} / {found[who]['log_loss']:.4f}" for who in ("ours", "trees")
        ]
        yield [
            name,
            f"{found['rows']:,}",
            *both,
            shown(Interval(*found["auc"]), 1),
            shown(Interval(*found["log_loss"]), -1),
            "{} in {:,.0f} s".format(found["trials"][0], found["seconds"][0]),
            "{} in {:,.0f} s".format(found["trials"][1], found["seconds"][1]),
        ]


def page(out: Path) -> str:
    """Return the page as Markdown."""
    heads = ["data", "test rows", "tune", "LightGBM, tuned", "AUC: tune less LightGBM"]
    heads += ["log loss: tune less LightGBM", "trials of tune", "trials of LightGBM"]
    said = (
        "# Tuned for the same time: `multiembed tune` beside LightGBM\n\n"
        "One thread each, two jobs at once on two cores; one split (seed 0), so intervals are over "
        "test rows (95%, DeLong). By benchmarks/tune_beside_trees.py, data of "
        "experiments/first_result.md with their numbers kept.\n\n"
    )
    return said + table(heads, page_rows(out))


if __name__ == "__main__":
    main()
