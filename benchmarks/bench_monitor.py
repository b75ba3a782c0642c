"""What watching collapse costs: seconds in the monitor over seconds of training, in one process.

    OMP_NUM_THREADS=1 python benchmarks/bench_monitor.py [--dataset DIR] [--epochs 2]
                                        [--models single:1 multi:4]

Promise: at one evaluation per epoch, less than 1% of training time. Without --dataset, flight
records are encoded first (extra `demo`). About a minute and a half.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from multiembed.config import ModelConfig, RunConfig, TrainingConfig
from multiembed.data.options import PrepareOptions
from multiembed.data.prepare import prepare
from multiembed.data.store.dataset import open_dataset
from multiembed.spectra.measures import null_information_abundance
from multiembed.training.monitor import Monitor
from multiembed.training.start import train


class TimedMonitor:
    """Counts the seconds of every observation, writing `collapse.jsonl` included."""

    def __init__(self):
        self.seconds = []
        self._observe = Monitor.observe

    def __enter__(self):
        def observe(monitor, embedding, state):
            start = time.perf_counter()
            observation = self._observe(monitor, embedding, state)
            self.seconds.append(time.perf_counter() - start)
            return observation

        Monitor.observe = observe
        return self

    def __exit__(self, *_):
        Monitor.observe = self._observe


def measured(dataset, folder, *, scaling, size, epochs):
    """Train one model; return its evaluations, and the seconds of all observations and in all."""
    null_information_abundance.cache_clear()
    training = TrainingConfig(max_epochs=epochs, patience=epochs, threads=1)
    config = RunConfig(model=ModelConfig(scaling=scaling, size=size), training=training)
    with TimedMonitor() as monitor:
        start = time.perf_counter()
        train(config, dataset=dataset, run=folder)
        return monitor.seconds, time.perf_counter() - start


def machine():
    """Describe hardware, versions, commit and command, one line each."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "?")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return [
        f"- {cpu}, {os.cpu_count()} cores, 1 thread",
        f"- Python {platform.python_version()}, numpy {np.__version__}, torch {torch.__version__}",
        f"- commit {commit}, `python {' '.join(sys.argv)}`",
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--models", nargs="+", default=["single:1", "multi:4"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.dataset or Path(folder) / "dataset"
        if options.dataset is None:
            prepare("flights", path, PrepareOptions(format="flights"))
        dataset = open_dataset(path)
        rows = f"{dataset.split('train').rows:,}"
        ids = f"{sum(dataset.cardinalities):,}"
        print(f"# The monitor's share of training: {rows} rows, {ids} ids\n")
        print("\n".join(machine()))
        print(f"- DCNv2, {options.epochs} epochs, one observation each; the first computes nulls\n")
        print("| model | training, s | first observation, ms | others, ms | share of training |")
        print("|---|---|---|---|---|")
        for scaling, size in (name.split(":") for name in options.models):
            seconds, total = measured(
                dataset,
                Path(folder) / f"{scaling}{size}",
                scaling=scaling,
                size=int(size),
                epochs=options.epochs,
            )
            first, *others = seconds
            print(
                f"| {scaling} {size}x | {total:.1f} | {1000 * first:.1f} "
                f"| {1000 * statistics.median(others):.1f} | {sum(seconds) / total:.2%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
