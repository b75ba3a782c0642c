"""Time of a training step on rows that have weights, beside the same step on rows that have none.

    python benchmarks/bench_weights.py [--rounds 25]

Rows like Criteo's, DCNv2 with one set of ten columns, batch 2048, on one thread; both take turns
of a few steps in one process. Promise: within noise of 1.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from bench_optimizer import BATCH, Ids, cardinalities
from bench_spectra import machine

from multiembed import ClickModel
from multiembed.config import TrainingConfig
from multiembed.data.store.shards import Batch
from multiembed.training.step import TrainingStep

STEPS = 4
RATE = 1e-3


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=25)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("\n".join(machine()) + "\n")
    sizes = list(cardinalities(1_000_000))
    ids, random = Ids(sizes), np.random.default_rng(0)
    plain = [
        Batch(ids.batch().numpy().astype(np.int32), (random.random(BATCH) < 0.25).astype(np.uint8))
        for _ in range(STEPS)
    ]
    weights = random.gamma(1, 2, BATCH).astype(np.float32)
    rows = {"without": plain, "with": [batch._replace(weights=weights) for batch in plain]}
    steps = {}
    for name in rows:
        torch.manual_seed(0)
        model = ClickModel("dcnv2", sizes, dim=10)
        steps[name] = TrainingStep(model, TrainingConfig(), torch.device("cpu"), mean_weight=2.0)
    times = {name: [] for name in rows}
    for _ in range(asked.rounds + 1):
        for name, step in steps.items():
            begun = time.perf_counter()
            for batch in rows[name]:
                step(batch, RATE)
            times[name].append((time.perf_counter() - begun) / STEPS)
    without, weighted = (statistics.median(of[1:]) for of in times.values())
    print(f"without {1e3 * without:.1f} ms, with {1e3 * weighted:.1f} ms: {weighted / without:.3f}")


if __name__ == "__main__":
    main()
