"""What watching the inside of a model costs, in one process and in turns.

    OMP_NUM_THREADS=1 python benchmarks/bench_watch.py [--batch 1024] [--rounds 30]

Promise: less than 2% of a training step where one step in 50 is measured. A step of the model alone
and a measured one take turns; the ratio is that of medians of processor time, which counts what
this process's one thread ran, whatever else runs. A pass that is watched and not measured costs too
little beside a step: that is timed on a module that does nothing. About two minutes.
"""

import argparse
import time
from functools import partial
from statistics import median

import torch
from bench_spectra import machine
from textbook import TextbookModel
from torch import nn

import multiembed as me

EVERY = 50
CARDINALITIES = [1000] * 39


class FieldTransformer(nn.Module):
    """Self-attention over fields in plain torch: every layer gives one token per field."""

    def __init__(self, dim=32, layers=2):
        super().__init__()
        self.table = nn.Embedding(sum(CARDINALITIES), dim)
        layer = nn.TransformerEncoderLayer(dim, 4, 4 * dim, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers)
        self.head = nn.Linear(len(CARDINALITIES) * dim, 1)
        starts = torch.tensor([0, *CARDINALITIES[:-1]]).cumsum(0)
        self.register_buffer("offsets", starts)

    def forward(self, ids):
        """Return one logit per row."""
        return self.head(self.encoder(self.table(ids + self.offsets)).flatten(1)).squeeze(1)


MODELS = {
    "DCNv2, plain torch, one set": lambda: TextbookModel("dcnv2", CARDINALITIES, dim=10, sets=1),
    "DCNv2, ours, four sets": lambda: me.ClickModel("dcnv2", CARDINALITIES, dim=10, sets=4),
    "attention over fields, plain torch": FieldTransformer,
}


def train(model, optimizer, batch):
    ids = torch.randint(0, CARDINALITIES[0], (batch, len(CARDINALITIES)))
    labels = torch.rand(batch).round()
    optimizer.zero_grad()
    nn.functional.binary_cross_entropy_with_logits(model(ids), labels).backward()
    optimizer.step()


def clocked(task):
    """Return the processor seconds that a task takes."""
    start = time.process_time()
    task()
    return time.process_time() - start


def measured(build, *, batch, rounds):
    """Return seconds of steps by their kind and of a block's end, and the number of modules."""
    torch.manual_seed(0)
    model = build()
    step = partial(train, model, torch.optim.SGD(model.parameters(), 0.01), batch)
    step()
    watched = me.watch(model, every=EVERY)
    with watched:
        step()  # the first pass measures more rows
    seconds = {"alone": [], "measured": [], "end": []}
    for number in range(rounds):
        for kind in ("alone", "measured") if number % 2 else ("measured", "alone"):
            if kind == "alone":
                seconds[kind].append(clocked(step))
                continue
            watched.__enter__()
            watched.forwards = 0  # the first pass of a block is one to measure
            seconds[kind].append(clocked(step))
            seconds["end"].append(clocked(watched.__exit__))
    return {kind: median(of) for kind, of in seconds.items()}, len([*model.modules()])


def waiting(passes=20_000):
    """Return the seconds that a watched pass costs which is not measured."""
    model = nn.Identity()

    def call():
        for _ in range(passes):
            model(None)

    alone = clocked(call)
    with me.watch(model, every=10**9):
        return (clocked(call) - alone) / passes


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    print(f"# What watching a model costs, batch {options.batch}, {len(CARDINALITIES)} fields\n")
    print("\n".join(machine()))
    print(f"- {options.rounds} rounds; one step in {EVERY} measured\n")
    idle = waiting()
    print(f"A watched pass that is not measured costs {1e6 * idle:.1f} microseconds.\n")
    print(
        "| model | modules | step, ms | measured step | cost of a step | end of block, ms |\n"
        "|---|---|---|---|---|---|"
    )
    for name, build in MODELS.items():
        found, modules = measured(build, batch=options.batch, rounds=options.rounds)
        once = found["measured"] / found["alone"]
        cost = (once - 1) / EVERY + idle / found["alone"]
        print(
            f"| {name} | {modules} | {1e3 * found['alone']:.1f} | {once:.3f} "
            f"| {cost:.2%} | {1e3 * found['end']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
