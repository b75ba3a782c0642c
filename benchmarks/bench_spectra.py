"""Singular values of a tall table: one Gram pass, QR, and two libraries' SVD, interleaved.

    OMP_NUM_THREADS=1 python benchmarks/bench_spectra.py [--rows 1000000] [--dims 10,100]

Promise: at 1,000,000 x 100, at least 5 times as fast as `numpy.linalg.svd` and 2 times as fast
as `torch.linalg.svdvals`, both in float64, the same numbers to 1e-9. About a minute and a half.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from multiembed.spectra.spectrum import spectrum, triangle


def routes(table):
    """Return every way to the singular values of a float32 table, in float64."""
    return {
        "multiembed, Gram": lambda: spectrum(table).singular_values,
        "multiembed, QR": lambda: np.linalg.svd(triangle(table), compute_uv=False),
        "numpy.linalg.svd": lambda: np.linalg.svd(table.astype(np.float64), compute_uv=False),
        "torch.linalg.svdvals": lambda: torch.linalg.svdvals(
            torch.from_numpy(table).double()
        ).numpy(),
    }


def planted(rows, dim, seed=0):
    """Return a table whose singular values fall geometrically by 1,000."""
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((rows, dim), dtype=np.float32)
    turn = np.linalg.qr(rng.standard_normal((dim, dim)))[0].astype(np.float32)
    return (table * np.geomspace(1, 1e-3, dim, dtype=np.float32)) @ turn


def interleaved(tasks, rounds):
    """Run every task once per round; return the seconds of each and its last result."""
    seconds = {name: [] for name in tasks}
    results = {}
    for _ in range(rounds):
        for name, task in tasks.items():
            start = time.perf_counter()
            results[name] = task()
            seconds[name].append(time.perf_counter() - start)
    return seconds, results


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
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    return [
        f"- {cpu}, {os.cpu_count()} cores, OMP_NUM_THREADS {threads}",
        f"- Python {platform.python_version()}, numpy {np.__version__}, torch {torch.__version__}",
        f"- commit {commit}, `python {' '.join(sys.argv)}`",
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dims", default="10,100")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"# Singular values of {options.rows:,} float32 rows\n")
    print("\n".join(machine()))
    print(f"- medians of {options.rounds} interleaved rounds, all results in float64\n")
    print("| dim | route | seconds | times Gram | abundance error | largest error / s_1 |")
    print("|---|---|---|---|---|---|")
    for dim in (int(text) for text in options.dims.split(",")):
        seconds, results = interleaved(routes(planted(options.rows, dim)), options.rounds)
        ours = statistics.median(seconds["multiembed, Gram"])
        exact = results["numpy.linalg.svd"]
        for name, values in results.items():
            median = statistics.median(seconds[name])
            abundance = abs(values.sum() / values[0] - exact.sum() / exact[0])
            worst = np.abs(values - exact).max() / exact[0]
            print(
                f"| {dim} | {name} | {median:.3f} | {median / ours:.2f} "
                f"| {abundance:.1e} | {worst:.1e} |"
            )


if __name__ == "__main__":
    main()
