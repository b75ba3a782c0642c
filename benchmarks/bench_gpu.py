"""Time of a training step on a GPU: multiembed's against plain PyTorch, at two batch sizes.

    python benchmarks/bench_gpu.py [--models dcnv2:multi:10 …] [--batches 2048 65536] [--profile]

Promises (NVIDIA H200): DCNv2 multi 10x at Criteo-like cardinalities takes at most 0.6 ms per step
of 2048 rows and trains at least 8 million rows per second in steps of 65536. Without a GPU it says
so and ends.

The step is that of `train`: batches begin as NumPy arrays, are pinned, copied and trained on.
Plain PyTorch is textbook.py on the same GPU, as it stands and with autocast to bfloat16 and fused
Adam; its batches are on the GPU before the clock starts. Contenders take turns of some steps, the
device is waited for at the end of each, and medians of turns are compared. `--loop` adds epochs
of the trainer's batches, read from disk and shuffled; `--tables` lookup and optimizer alone.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from bench_optimizer import (
    BATCH,
    DIM,
    FIELDS,
    LEARNING_RATE,
    WEIGHT_DECAY,
    Deferred,
    Dense,
    Ids,
    cardinalities,
)
from bench_spectra import machine
from bench_step import Model
from click_rows import SHARE_OF_CLICKS, write_dataset
from textbook import TextbookModel

from multiembed import ClickModel
from multiembed.config import TrainingConfig
from multiembed.data.store.dataset import open_dataset
from multiembed.data.store.shards import Batch
from multiembed.training.step import TrainingStep, resident

CUDA = torch.device("cuda")
KEPT = 8
"""Batches that take turns."""


def drawn(sizes, rows):
    """Batches of so many rows."""
    ids = Ids(sizes)
    for _ in range(KEPT):
        labels = (ids.random.random(rows) < SHARE_OF_CLICKS).astype(np.uint8)
        yield Batch(ids.batch(rows).numpy(), labels)


def ours(model, precision, rows):
    """Return multiembed's step."""
    torch.manual_seed(0)
    network = ClickModel(model.architecture, model.sizes, dim=model.dim, sets=model.sets).to(CUDA)
    training = TrainingConfig(batch_size=rows, precision=precision, device="cuda")
    step = TrainingStep(network.train(), training, CUDA)
    return lambda batch: step(batch, LEARNING_RATE)


def textbook(model, *, tuned):
    """Return the textbook's step."""
    network = TextbookModel(model.architecture, model.sizes, dim=model.dim, sets=model.sets)
    network.to(CUDA).train()
    adam = torch.optim.Adam(
        network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=tuned
    )

    def step(batch):
        ids, labels = batch
        adam.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, enabled=tuned):
            logits = network(ids)
        F.binary_cross_entropy_with_logits(logits.float(), labels.float()).backward()
        adam.step()

    return step


def on_device(batch):
    return tuple(torch.from_numpy(part).to(CUDA) for part in (batch.ids, batch.labels))


def milliseconds(step, batches, steps):
    """Return the mean time of some steps, until the device is done."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    for batch in itertools.islice(batches, steps):
        step(batch)
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / steps * 1e3


def measure(model, rows, options):
    """Print one line per contender."""
    batches = list(drawn(model.sizes, rows))
    there = [on_device(batch) for batch in batches]
    wanted = {
        "textbook": (lambda: textbook(model, tuned=False), there),
        "textbook, autocast and fused Adam": (lambda: textbook(model, tuned=True), there),
        "multiembed, float32": (lambda: ours(model, "float32", rows), batches),
        "multiembed, bfloat16": (lambda: ours(model, "bfloat16", rows), batches),
    }
    steps, peaks, times = {}, {}, {name: [] for name in wanted}
    for name, (build, data) in wanted.items():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        steps[name] = build(), itertools.cycle(data)
        milliseconds(*steps[name], 6)
        peaks[name] = (torch.cuda.max_memory_allocated() - held) / 1e9
    count = max(12, 400_000 // rows)
    for _ in range(options.turns):
        for name, (step, data) in steps.items():
            times[name].append(milliseconds(step, data, count))
    medians = {name: statistics.median(many) for name, many in times.items()}
    for name, median in medians.items():
        print(
            f"| {model.name} | {rows} | {name} | {median:.3f} | {rows / median / 1e3:.2f} "
            f"| {medians['textbook'] / median:.1f} | {peaks[name]:.2f} |",
            flush=True,
        )
    if options.profile:
        profiled(*steps["multiembed, bfloat16"])


def profiled(step, batches, steps=5, shown=40):
    """Print which kernels take the time."""
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        milliseconds(step, batches, steps)
    events = sorted(profile.key_averages(), key=lambda event: -event.self_device_time_total)
    total = sum(event.self_device_time_total for event in events) / steps / 1e3
    print(f"\nkernels of a step: {total:.3f} ms\n\n| ms | calls | kernel |\n|--:|--:|---|")
    for event in events[:shown]:
        mean = event.self_device_time_total / steps / 1e3
        print(f"| {mean:.4f} | {event.count / steps:.0f} | `{event.key[:90]}` |")
    print(flush=True)


def loop(model, rows):
    """Print the speed of a training loop that reads its batches from disk."""
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder) / "data", model.sizes, train=max(24, 400_000 // rows) * rows)
        split = open_dataset(Path(folder) / "data").split("train")
        rows_there = resident(split, CUDA)
        step = ours(model, "bfloat16", rows)
        milliseconds(step, rows_there.batches(rows, seed=0), 6)
        count = split.rows // rows
        medians = [
            statistics.median(
                milliseconds(step, source.batches(rows, seed=0, epoch=epoch), count)
                for epoch in range(3)
            )
            for source in (rows_there, split)
        ]
    for name, median in zip(("rows on the GPU", "rows on disk"), medians, strict=True):
        print(
            f"| {model.name} | {rows} | epochs in bfloat16, {name} | {median:.3f} "
            f"| {rows / median / 1e3:.2f} | | |",
            flush=True,
        )


def tables(rows, turns, warmup=500):
    """Print the time of lookup, gradient and update alone: deferred Adam beside torch's dense."""
    sizes = cardinalities(rows)
    drawer = Ids(sizes, seed=1)
    batches = [drawer.batch().to(CUDA) for _ in range(warmup)]
    gradient = torch.randn(BATCH, 1, FIELDS, DIM, device=CUDA) * 1e-3
    contenders = {
        "torch Adam": Dense(sizes, fused=False, device=CUDA),
        "torch Adam, fused": Dense(sizes, fused=True, device=CUDA),
        "deferred Adam, launch by launch": Deferred(sizes, device=CUDA),
        "deferred Adam, recorded": Recorded(Deferred(sizes, device=CUDA)),
    }
    for name, contender in contenders.items():
        for ids in batches if "deferred" in name else batches[:3]:
            contender.step(ids, gradient)
    times = {name: [] for name in contenders}
    source = itertools.cycle(batches)
    for _ in range(turns):
        for name, contender in contenders.items():
            run = partial(contender.step, gradient=gradient)
            times[name].append(milliseconds(run, source, 50))
    medians = {name: statistics.median(many) for name, many in times.items()}
    for name, median in medians.items():
        ratios = [medians[dense] / median for dense in list(medians)[:2]]
        print(
            f"| {rows / 1e6:g}M x {DIM} | {BATCH} | {name} | {median:.3f} "
            f"| {ratios[0]:.1f} | {ratios[1]:.1f} |",
            flush=True,
        )


class Recorded:
    """Deferred Adam's step as a CUDA graph, as the trainer runs it."""

    def __init__(self, deferred):
        self.deferred, self.graph = deferred, None

    def step(self, ids, gradient):
        """Look up, take the gradient, update."""
        tables = self.deferred.optimizer
        tables.graph_update.begin_step(tables.learning_rate)
        if self.graph is None:
            self.deferred.step(ids, gradient)  # compiles kernels
            tables.graph_update.begin_step(tables.learning_rate)
            self.ids, self.graph = ids.clone(), torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.deferred.step(self.ids, gradient)
        self.ids.copy_(ids)
        self.graph.replay()


def limits():
    """Print what the device does at most."""
    side = 8192
    a, b = torch.randn(2, side, side, device=CUDA, dtype=torch.bfloat16)
    source = torch.zeros(1 << 30, device=CUDA)
    target = torch.empty_like(source)
    products = min(milliseconds(lambda _: a @ b, itertools.repeat(None), 3) for _ in range(5))
    copies = min(milliseconds(target.copy_, itertools.repeat(source), 3) for _ in range(5))
    print(f"- products of matrices, bfloat16: {2 * side**3 / products / 1e9:.0f} TFLOP/s")
    print(f"- copies in memory: {2 * source.nbytes / copies / 1e9:.2f} TB/s read and written\n")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="*", default=["dcnv2:multi:10"], metavar="MODEL")
    parser.add_argument("--batches", nargs="*", type=int, default=[2048, 65536])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--profile", action="store_true", help="the kernels of a step")
    parser.add_argument("--tables", type=float, nargs="*", default=[], metavar="ROWS")
    parser.add_argument("--loop", action="store_true", help="with batches read from disk")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("bench_gpu.py: no GPU here, nothing to measure")
        return
    print("\n".join(machine()))
    print(f"- {torch.cuda.get_device_name()}")
    limits()
    print("| model | batch | contender | ms | million rows/s | times faster | peak GB |")
    print("|---|--:|---|--:|--:|--:|--:|", flush=True)
    for name, rows in itertools.product(options.models, options.batches):
        torch.cuda.empty_cache()
        measure(Model(name), rows, options)
        if options.loop:
            loop(Model(name), rows)
    if options.tables:
        print("\n| table | batch | optimizer | ms | times torch Adam | times fused |")
        print("|---|--:|---|--:|--:|--:|", flush=True)
    for rows in options.tables:
        torch.cuda.empty_cache()
        tables(rows, options.turns)


if __name__ == "__main__":
    main()
