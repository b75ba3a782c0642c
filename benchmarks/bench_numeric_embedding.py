"""Time of a training step whose 13 numbers are embedded, beside the same model that reads buckets.

    python benchmarks/bench_numeric_embedding.py [--models dnn:1 dcnv2:1 dcnv2:4] [--rounds 15]

Rows like Criteo's: 13 numbers, which fall into 48 buckets each, and 26 fields of ids, batch 2048,
on one thread. All models of a size take turns of a few steps in one process; ratios of medians.
Promise: at most 1.2 times the step of the model that reads buckets.
"""

import argparse
import statistics
import time
from functools import partial

import numpy as np
import torch
from bench_optimizer import BATCH, Ids, cardinalities
from bench_spectra import machine

from multiembed import ClickModel
from multiembed.config import TrainingConfig
from multiembed.data.store.shards import Batch
from multiembed.models.embedding import EmbeddingSets
from multiembed.models.naming import Numeric
from multiembed.models.signals import Signals
from multiembed.training.step import TrainingStep

NUMBERS, BUCKETS = 13, 48
KINDS = ("buckets", "linear", "plr", "soft")
STEPS = 4
RATE = 1e-3


def steps_of(architecture, sets, sizes):
    """Return a training step for every kind of embedding of the first fields."""
    made = {}
    for kind in KINDS:
        kinds = [] if kind == "buckets" else [kind] * NUMBERS + [None] * (len(sizes) - NUMBERS)
        torch.manual_seed(0)
        tables = partial(EmbeddingSets, signals=Signals(numeric=Numeric(kinds)))
        model = ClickModel(architecture, sizes, dim=10, sets=sets, tables=tables)
        made[kind] = TrainingStep(model, TrainingConfig(), torch.device("cpu"))
    return made


def batches_of(sizes, count):
    """Return rows of ids as frequent as Criteo's, and normal numbers, one in five missing."""
    drawn, random = Ids(sizes), np.random.default_rng(0)
    for _ in range(count):
        numbers = random.standard_normal((BATCH, NUMBERS)).astype(np.float32)
        numbers[random.random(numbers.shape) < 0.2] = np.nan
        labels = (random.random(BATCH) < 0.25).astype(np.uint8)
        yield Batch(drawn.batch().numpy().astype(np.int32), labels, numbers=numbers)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="*", default=["dnn:1", "dcnv2:1", "dcnv2:4"])
    parser.add_argument("--rounds", type=int, default=15)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("\n".join(machine()) + "\n")
    print(f"| model | {' | '.join(KINDS)} |\n|---{'|---' * len(KINDS)}|")
    sizes = [BUCKETS] * NUMBERS + list(cardinalities(1_000_000))[NUMBERS:]
    for name in asked.models:
        architecture, sets = name.split(":")
        made = steps_of(architecture, int(sets), sizes)
        batches = list(batches_of(sizes, STEPS))
        times = {kind: [] for kind in KINDS}
        for _ in range(asked.rounds + 1):
            for kind, step in made.items():
                begun = time.perf_counter()
                for batch in batches:
                    step(batch, RATE)
                times[kind].append((time.perf_counter() - begun) / STEPS)
        medians = {kind: statistics.median(of[1:]) for kind, of in times.items()}
        cells = (f"{1e3 * of:.1f} ms ({of / medians['buckets']:.2f})" for of in medians.values())
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
