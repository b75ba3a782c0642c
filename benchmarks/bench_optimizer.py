"""Time of table optimizers, lookup and update side only: deferred Adam against torch's dense Adam.

Run: python benchmarks/bench_optimizer.py [--rows 1.1e6 10e6] [--growth] [--warmup 500]

A step is: look the batch up, take a gradient for what was looked up, update. There is no model.
Every contender sees the same batches, contenders take turns step by step, and medians are
compared. Tables have been trained for a while before the clock starts, so that the rows of a
batch lag as they do in the middle of a training.
"""

import argparse
import statistics
import time

import numpy as np
import torch
import torch.nn.functional as F

from multiembed.models.embedding import EmbeddingSets
from multiembed.tables.adam import DeferredAdam

BATCH = 2048
FIELDS = 39
DIM = 10
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-6
EXPONENT = 1.1


def cardinalities(rows):
    """A few large fields and many small ones, as in Criteo: geometric from 4 upwards."""

    def sizes(ratio):
        return np.maximum(4, 4 * ratio ** np.arange(FIELDS)).astype(int)

    low, high = 1.0, 3.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if sizes(middle).sum() < rows else (low, middle)
    return sizes(low).tolist()


class Ids:
    """Batches whose ids follow a truncated Zipf law in every field."""

    def __init__(self, sizes, seed=0):
        self.random = np.random.default_rng(seed)
        self.sizes = np.array(sizes)

    def batch(self, rows=BATCH):
        """Invert the continuous law's distribution function, which is close enough."""
        uniform = self.random.random((rows, FIELDS))
        power = 1 - EXPONENT
        drawn = (1 + uniform * ((self.sizes + 1.0) ** power - 1)) ** (1 / power)
        return torch.from_numpy(
            np.minimum(drawn.astype(np.int32) - 1, self.sizes - 1).astype(np.int32)
        )


class Dense:
    """What textbooks do: an embedding with a dense gradient, and Adam on all of it."""

    def __init__(self, sizes, *, fused, device="cpu"):
        self.embedding = EmbeddingSets(sizes, dim=DIM).to(device)
        self.adam = torch.optim.Adam(
            [self.embedding.weight], lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=fused
        )

    def step(self, ids, gradient):
        """Look up, take the gradient, update."""
        looked_up = F.embedding(self.embedding.rows(ids), self.embedding.weight)
        self.embedding.arrange(looked_up, ids).backward(gradient)
        self.adam.step()
        self.adam.zero_grad()


class Deferred:
    """Ours."""

    def __init__(self, sizes, *, device="cpu"):
        self.optimizer = DeferredAdam(
            EmbeddingSets(sizes, dim=DIM).to(device),
            learning_rate=LEARNING_RATE,
            weight_decay=WEIGHT_DECAY,
        )

    def step(self, ids, gradient):
        """Look up, take the gradient, update."""
        self.optimizer.lookup(ids).backward(gradient)
        self.optimizer.step()


def warm_up(contender, ids, gradient, steps):
    for _ in range(steps):
        contender.step(ids.batch(), gradient)


def turns(contenders, gradient, rounds):
    """Seconds of every contender's steps; each has its own source of batches, seeded alike."""
    seconds = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, (contender, ids) in contenders.items():
            batch = ids.batch()
            start = time.perf_counter()
            contender.step(batch, gradient)
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def against_dense(rows, gradient, *, warmup, rounds):
    sizes = cardinalities(rows)
    made = {
        "torch Adam": Dense(sizes, fused=False),
        "torch Adam, fused": Dense(sizes, fused=True),
        "deferred Adam": Deferred(sizes),
    }
    contenders = {name: (contender, Ids(sizes)) for name, contender in made.items()}
    for name, (contender, ids) in contenders.items():
        warm_up(contender, ids, gradient, warmup if "deferred" in name else 2)
    medians = turns(contenders, gradient, rounds)
    for name, median in medians.items():
        ratios = [medians[dense] / median for dense in list(medians)[:2]]
        print(
            f"| {rows / 1e6:g}M x {DIM} | {name} | {median * 1e3:.1f} "
            f"| {ratios[0]:.1f} | {ratios[1]:.1f} |",
            flush=True,
        )


def growth(gradient, *, warmup, rounds):
    sizes = {rows: cardinalities(rows) for rows in (1_000_000, 50_000_000)}
    contenders = {rows: (Deferred(size), Ids(size)) for rows, size in sizes.items()}
    for contender, ids in contenders.values():
        warm_up(contender, ids, gradient, warmup)
    small, large = turns(contenders, gradient, rounds).values()
    print(
        f"| 1M x {DIM} to 50M x {DIM} | deferred Adam | {small * 1e3:.1f} to {large * 1e3:.1f} "
        f"| grows {large / small:.2f}x | |"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=float, nargs="*", default=[1.1e6, 10e6])
    parser.add_argument("--growth", action="store_true", help="1M against 50M rows: 7 GB")
    parser.add_argument("--warmup", type=int, default=500, help="steps before the clock starts")
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args()
    gradient = torch.randn(BATCH, 1, FIELDS, DIM, generator=torch.Generator().manual_seed(0)) * 1e-3
    print(f"batch {BATCH}, {FIELDS} fields, {torch.get_num_threads()} threads, median of steps\n")
    print("| table | optimizer | ms | times torch Adam | times fused |")
    print("|---|---|--:|--:|--:|")
    for rows in options.rows:
        against_dense(rows, gradient, warmup=options.warmup, rounds=options.rounds)
    if options.growth:
        growth(gradient, warmup=options.warmup, rounds=options.rounds)


if __name__ == "__main__":
    main()
