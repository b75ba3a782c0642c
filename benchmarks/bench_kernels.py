"""What fast forms of layers buy: a training step with all of them, without one, and in plain torch.

    python benchmarks/bench_kernels.py [--rounds 7] [--seconds 40] [--models dcnv2:single:1 …]

Promise: a fast form that buys less than 5% of every step it has a part in is deleted, unless it
saves memory. Every model trains in one process in all ways, which take turns of a step; times are
medians of this process's CPU time on one thread, because other jobs may run beside it. Tables are
small (about 80,000 rows): what they cost is not asked here. Memory is what a step keeps for its
backward pass, each piece once.
"""

import argparse
import os
import statistics
import time
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from bench_optimizer import FIELDS, Ids, cardinalities
from bench_spectra import machine

from multiembed import ClickModel
from multiembed.base.devices import has_bfloat16_products
from multiembed.config import TrainingConfig
from multiembed.data.store.shards import Batch
from multiembed.kernels.route import ROUTES
from multiembed.kernels.setting import using_kernels
from multiembed.models.naming import shape_of_size
from multiembed.training.step import TrainingStep

ROWS, BATCH = 80_000, 2048
MODELS = ("dcnv2:single:1", "dcnv2:multi:10", "xdeepfm:single:1", "ffm:single:1")
OPERATIONS = {
    "dcnv2": ("hidden_layer", "cross", "linear", "set_linear"),
    "xdeepfm": ("hidden_layer", "compressed_interaction", "linear"),
    "ffm": ("field_aware_products",),
}


@contextmanager
def without(operation):
    """Compute one operation in plain torch."""
    forms = ROUTES[operation]
    ROUTES[operation] = ()
    try:
        yield
    finally:
        ROUTES[operation] = forms


def ways(architecture):
    """What takes turns, by name."""
    found = {"auto": nullcontext, "torch": lambda: using_kernels("torch")}
    for operation in OPERATIONS[architecture]:
        found[f"auto without {operation}"] = lambda operation=operation: without(operation)
    return found


class Task:
    """A model in training."""

    def __init__(self, name, precision):
        architecture, scaling, size = name.split(":")
        dim, sets = shape_of_size(architecture, int(size), scaling)
        sizes = cardinalities(ROWS if architecture != "ffm" else ROWS // 10)
        model = ClickModel(architecture, sizes, dim=dim, sets=sets).train()
        training = TrainingConfig(batch_size=BATCH, precision=precision)
        self.step = TrainingStep(model, training, torch.device("cpu"))
        self.ids = Ids(sizes)
        self.labels = (np.random.default_rng(0).random(BATCH) < 0.25).astype(np.uint8)

    def go(self):
        """Take a step; return its seconds."""
        ids = self.ids.batch(BATCH).numpy()
        assert ids.shape[1] == FIELDS
        start = time.process_time()
        self.step(Batch(ids=ids, labels=self.labels), 1e-3)
        return time.process_time() - start

    def kept(self):
        """Return the bytes that a step keeps for its backward pass."""
        pieces = {}

        def note(tensor):
            storage = tensor.untyped_storage()
            pieces[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            self.go()
        return sum(pieces.values())


def measure(name, precision, *, rounds, seconds):
    """Print one line for each way."""
    task, found = Task(name, precision), ways(name.partition(":")[0])
    kept, times = {}, {way: [] for way in found}
    for way, context in found.items():
        with context():
            task.go()
            kept[way] = task.kept()
    end = time.monotonic() + seconds
    for number in range(rounds):
        if number >= 3 and time.monotonic() > end:
            break
        for way, context in found.items():
            with context():
                times[way].append(task.go())
    medians = {way: statistics.median(taken) for way, taken in times.items()}
    for way, taken in medians.items():
        ratio = taken / medians["auto"]
        print(
            f"| {name} | {precision} | {way} | {1e3 * taken:.1f} | {ratio:.2f} | "
            f"{kept[way] / 2**20:.0f} | {len(times[way])} |",
            flush=True,
        )


def main():
    """Print a Markdown page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=12, help="at most, for each model")
    parser.add_argument("--models", nargs="+", default=MODELS)
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    print(*machine(), sep="\n")
    print(f"- batch {BATCH}, {FIELDS} fields, CPU time of one process, medians of steps in turns\n")
    print("| model | precision | kernels | ms | of auto | MB kept | steps |")
    print("|---|---|---|--:|--:|--:|--:|")
    there = has_bfloat16_products(torch.device("cpu"))
    for precision in ("float32", "bfloat16") if there else ("float32",):
        for name in options.models:
            measure(name, precision, rounds=options.rounds, seconds=options.seconds)


if __name__ == "__main__":
    main()
