"""Time and memory of a training step: this checkout's trainer against another checkout's.

    python benchmarks/bench_beside.py OTHER [--models dcnv2:single:1 …] [--rounds 12]

Shows what a change of the code did to the step: both trainers are processes of their own and take
turns, so that a busy machine slows both alike. OTHER is a checkout of this repository; its own
`benchmarks/trainer_contender.py` runs on its own `src`. A ratio of 1 is as fast as before, above 1
slower.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import torch
from bench_optimizer import BATCH
from bench_spectra import machine
from bench_step import BATCHES, Model
from click_rows import write_dataset
from turns import Contender

from multiembed.base.devices import has_bfloat16_products

HERE = Path(__file__).resolve().parent
MODELS = ("dcnv2:single:1", "dcnv2:multi:10")
HAS_BFLOAT16 = has_bfloat16_products(torch.device("cpu"))
PRECISIONS = ("float32", "bfloat16") if HAS_BFLOAT16 else ("float32",)
STEPS = 4
"""In a turn."""


def contender(checkout, spec):
    """Start the trainer of a checkout."""
    command = [sys.executable, checkout / "benchmarks/trainer_contender.py", json.dumps(spec)]
    environment = {"PYTHONPATH": str(checkout / "src"), "GOMP_SPINCOUNT": "10000"}
    return Contender(command, threads=spec["threads"], environment=environment)


def ratio(spec, other, rounds):
    """Return the medians of both, in seconds, and the median of their ratios by round."""
    sides = [contender(HERE.parent, spec), contender(other, spec)]
    try:
        for side in sides:
            side.go(STEPS)
        pairs = []
        for number in range(rounds):
            order = sides if number % 2 == 0 else sides[::-1]
            times = {side: side.go(STEPS)["seconds"] for side in order}
            pairs.append([times[side] for side in sides])
        peaks = [side.peak() for side in sides]
    finally:
        for side in sides:
            side.close()
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    return ours, theirs, statistics.median(a / b for a, b in pairs), peaks[0] / peaks[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=60)
    options = parser.parse_args()
    print("\n".join(machine()) + "\n")
    print("| model | precision | here, ms | there, ms | here over there | peak memory |")
    print("|---|---|---|---|---|---|")
    for model in map(Model, options.models):
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "data"
            write_dataset(data, model.sizes, train=BATCHES * BATCH)
            for precision in PRECISIONS:
                spec = {
                    **{"data": str(data), "architecture": model.architecture, "clock": "wall"},
                    **{"dim": model.dim, "sets": model.sets, "precision": precision},
                    **{"threads": options.threads, "warmup": options.warmup},
                }
                ours, theirs, share, memory = ratio(spec, options.other.resolve(), options.rounds)
                print(
                    f"| {model.name} | {precision} | {1e3 * ours:.1f} | {1e3 * theirs:.1f} | "
                    f"{share:.3f} | {memory:.2f} |"
                )


if __name__ == "__main__":
    main()
