"""A model kept up month by month, beside one trained anew on all months: AUC, compute, rows.

    OMP_NUM_THREADS=1 python benchmarks/bench_tomorrow.py [--seeds 4] [--retire 2] [--anew 6,9,11]

Promise: on flight records by months, a run that begins with last month's (`train --from`, moments
carried) on a vocabulary that grows and retires (`prepare --like --grow --retire`) is within the
noise of seeds of full retraining, at about a tenth of the rows read; its tables stay bounded.
Every model is tested on the month after those that it was trained on. Two minutes of an idle core.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
from bench_spectra import machine

import multiembed as me
from multiembed.data.sources.flights import FIELDS, LATE, FlightsReader

MODEL = me.ModelConfig(
    architecture="dcnv2", dim=8, options={"hidden": [32, 32], "cross_layers": 1, "dropout": 0.1}
)


def months(folder):
    """Write every month's rows, one of ten apart for validation."""
    reader = FlightsReader()
    rows = next(iter(reader.blocks((LATE, *FIELDS)))).rows
    for month in range(1, 13):
        of = rows.filter(pl.col("month") == str(month))
        held = np.random.default_rng(month).random(of.height) < 0.1
        for name, chosen in (("train", ~held), ("valid", held), ("test", held | ~held)):
            of.filter(pl.Series(chosen)).write_parquet(folder / f"{name}{month}.parquet")


def prepare(folder, trained, out, **options):
    """Encode some months to train on; the last one validates, the next one tests."""
    source = {
        "train": [folder / f"train{month}.parquet" for month in trained],
        "valid": [folder / f"valid{trained[-1]}.parquet"],
        "test": [folder / f"test{trained[-1] + 1}.parquet"],
    }
    asked = {"format": "table", "label": LATE, "drop": ("month",), "min_count": 4}
    asked |= {"categorical_columns": tuple(set(FIELDS) - {"month", "distance"})}
    return me.prepare(source, folder / out, me.PrepareOptions(**(options or asked)))


def trained(config, folder, dataset, run, earlier=None, *, moments=False):
    """Train; return the run, its seconds, the rows that it read, and its AUC a month later."""
    started = time.process_time()
    run = me.train(
        config,
        dataset=folder / dataset,
        run=folder / run,
        start_from=earlier,
        carry_moments=moments,
    )
    seconds = time.process_time() - started
    rows = run.schema.splits["train"].rows * config.training.max_epochs
    return run, seconds, rows, run.evaluate("test")["auc"]


def streamed(config, folder, seed):
    """Train month after month, each beginning with the last one."""
    found, run = {}, None
    for month in range(1, 12):
        name = f"stream-{seed}-{month}"
        run, *numbers = trained(config, folder, f"day{month}", name, run, moments=run is not None)
        found[month] = numbers
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--retire", type=int, default=2)
    parser.add_argument("--anew", default="6,9,11", help="Months after which all are trained on.")
    asked = parser.parse_args()
    asked.anew = list(map(int, asked.anew.split(",")))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        months(folder)
        sizes = {}
        for month in range(1, 12):
            of = []
            for name, retire in (("day", asked.retire), ("kept", None)):
                like = {"like": str(folder / f"{name}{month - 1}"), "grow": True, "retire": retire}
                of.append(prepare(folder, [month], f"{name}{month}", **(like if month > 1 else {})))
            bounded, grown = of
            sizes[month] = [sum(of.cardinalities) for of in (bounded, grown)]
        for month in asked.anew:
            schema = prepare(folder, list(range(1, month + 1)), f"all{month}")
            sizes[month].append(sum(schema.cardinalities))
        results = {"anew": [], "from, moments": []}
        for seed in range(asked.seeds):
            training = me.TrainingConfig(
                max_epochs=asked.epochs,
                patience=asked.epochs,
                batch_size=512,
                learning_rate=2e-3,
                seed=seed,
                threads=1,
            )
            config = me.RunConfig(model=MODEL, training=training)
            anew = {
                m: trained(config, folder, f"all{m}", f"all-{seed}-{m}")[1:] for m in asked.anew
            }
            results["anew"].append(anew)
            results["from, moments"].append(streamed(config, folder, seed))
            print(f"seed {seed}: {anew}, {results['from, moments'][-1]}", file=sys.stderr)
        report(asked, sizes, results)


def report(asked, sizes, results):
    """Print tables in Markdown."""
    print("# A model kept up month by month, beside one trained anew\n")
    print("\n".join(machine()) + "\n")
    print(
        "| tested on month | trained | AUC, mean over seeds | deviation of seeds | difference | "
        "rows read | CPU seconds |\n|---|---|--:|--:|--:|--:|--:|"
    )
    for month in asked.anew:
        base = np.array([of[month][2] for of in results["anew"]])
        for name, runs in results.items():
            aucs = np.array([of[month][2] for of in runs])
            seconds = np.mean([of[month][0] for of in runs])
            print(
                f"| {month + 1} | {name} | {aucs.mean():.5f} | {aucs.std(ddof=1):.5f} | "
                f"{aucs.mean() - base.mean():+.5f} | {runs[0][month][1]:,} | {seconds:.1f} |"
            )
    print("\nRows of all tables after each month:\n")
    print("| month | retired after " + f"{asked.retire} | never retired | all months anew |")
    print("|--:|--:|--:|--:|")
    for month, (bounded, grown, *anew) in sizes.items():
        print(f"| {month} | {bounded:,} | {grown:,} | {f'{anew[0]:,}' if anew else ''} |")


if __name__ == "__main__":
    main()
