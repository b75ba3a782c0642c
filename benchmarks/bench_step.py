"""Time and memory of a training step: multiembed's trainer against plain PyTorch and FuxiCTR.

    python benchmarks/bench_step.py [--models dcnv2:multi:10 …] [--architectures] [--threads 1]
                                    [--fuxictr PYTHON]

Promises: DCNv2 at Criteo-like cardinalities (39 fields, batch 2048) trains at least 5 times faster
than the textbook in bfloat16, 2 times in float32, in 0.7 of its memory at multi 10x; no
architecture is slower. The textbook is textbook.py: the same model, a DataLoader of one record
per row, dense Adam. First, both must compute the same loss from the same weights.

Every contender is a process of its own and they take turns of about a second, as many steps each;
a step begins with fetching its batch. Peak memory is that of the whole process. Only multiembed
sets the allocator and how long OpenMP's threads spin, as its command line does, unless
`--tune-all`. A model is ARCHITECTURE:single|multi:SIZE. Tables have as many numbers as 1.09M rows
at DCNv2's base size have, whatever the architecture's own base.

The floor is the time that the products of matrices would take at the fastest rate measured for
their precision, and the bytes that must move at the rate of a copy: Adam's 28 per parameter of the
network, 24 per number of a touched row, 8 per number looked up.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from bench_optimizer import BATCH, FIELDS, Ids, cardinalities
from bench_spectra import machine
from click_rows import write_dataset
from machine_limits import copy_rate, gemm_rates
from textbook import INTERACTIONS, TextbookModel
from turns import CLOCKS, Contender

from multiembed import ClickModel
from multiembed.__main__ import SPINS
from multiembed.config import TrainingConfig
from multiembed.models.interactions.architectures import ARCHITECTURES
from multiembed.models.naming import shape_of_size

HERE = Path(__file__).parent
NUMBERS = 1.09e6 * 10
TURN = 1.0
BATCHES = 100
"""Rows to train on, in batches: more than are ever asked for."""
DCNV2 = ("dcnv2:single:1", "dcnv2:single:10", "dcnv2:multi:4", "dcnv2:multi:10")


@dataclass
class Model:
    """One model to train."""

    name: str

    def __post_init__(self):
        self.architecture, scaling, size = self.name.split(":")
        self.dim, self.sets = shape_of_size(self.architecture, int(size), scaling)
        base = ARCHITECTURES[self.architecture]
        self.row = base().row(FIELDS).width(base.base_dim)  # numbers of a row at 1x
        self.sizes = tuple(cardinalities(NUMBERS / self.row))

    def floor(self, rates, copied):
        """Seconds that no step can undercut, by precision."""
        with torch.device("meta"):
            model = ClickModel(self.architecture, self.sizes, dim=self.dim, sets=self.sets)
        budget = model.summary()
        width = model.embedding.weight.shape[1]
        ids = Ids(self.sizes).batch().numpy()
        touched = sum(len(np.unique(column)) for column in ids.T)
        network = budget.parameters.total - budget.parameters.embedding
        moved = 28 * network + 24 * touched * width + 8 * BATCH * FIELDS * width
        flops = 3 * BATCH * budget.flops.total
        fastest = {
            precision: max(rate for name, rate in rates.items() if name.startswith(precision))
            for precision in ("float32", "bfloat16")
        }
        return {precision: flops / rate + moved / copied for precision, rate in fastest.items()}


def check_textbook(architecture, sets=2, sizes=(7, 5, 9, 4)):
    """Stop unless the textbook's model has our number of parameters, and our loss and gradient."""
    options = {"dropout": 0.0} if "dropout" in ARCHITECTURES[architecture].model_fields else {}
    ours = ClickModel(ARCHITECTURES[architecture](**options), sizes, dim=6, sets=sets)
    theirs = TextbookModel(architecture, sizes, dim=6, sets=sets, dropout=0.0)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_(0, 0.2)
        copy_parameters(ours, theirs)
    ids = torch.stack([torch.randint(0, size, (64,)) for size in sizes], dim=1)
    labels = torch.randint(0, 2, (64,)).float()
    losses = [F.binary_cross_entropy_with_logits(model(ids), labels) for model in (ours, theirs)]
    gradients = [
        torch.autograd.grad(losses[0], ours.embedding.weight)[0],
        torch.cat(torch.autograd.grad(losses[1], list(theirs.embeddings.parameters())), dim=1),
    ]
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients)


def copy_parameters(ours, theirs):
    """Give the textbook's model our parameters: set by set they come in the same order."""
    width = ours.embedding.width
    for m, embedding in enumerate(theirs.embeddings):
        tables = list(embedding.parameters())
        columns = ours.embedding.weight[:, m * width : (m + 1) * width]
        parts = columns.split([table.shape[1] for table in tables], dim=1)
        copy_all(tables, parts)
        copy_all(theirs.interactions[m].parameters(), (p[m] for p in ours.groups.parameters()))
    copy_all(theirs.head.parameters(), ours.head.parameters())


def copy_all(targets, sources):
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source.view_as(target) if source.is_contiguous() else source)


def contenders(model, data, options):
    """Start the processes, one after the other; the baseline first."""
    spec = {
        "data": str(data),
        "architecture": model.architecture,
        "dim": model.dim,
        "sets": model.sets,
        "threads": options.threads,
        "clock": options.clock,
        "warmup": options.warmup,
    }
    wanted = {"textbook": (sys.executable, "textbook_contender.py", {"tuned": options.tune_all})}
    for precision in options.precisions:
        own = {"precision": precision if "precision" in TrainingConfig.model_fields else None}
        wanted[f"multiembed, {precision}"] = (sys.executable, "trainer_contender.py", own)
    if options.fuxictr and model.architecture == "dcnv2" and model.sets == 1:
        wanted["FuxiCTR"] = (options.fuxictr, "fuxictr_contender.py", {})
    briefly = {"GOMP_SPINCOUNT": SPINS}
    return {
        name: Contender(
            (run, HERE / script, json.dumps(spec | own)),
            threads=options.threads,
            environment=briefly if options.tune_all or script == "trainer_contender.py" else {},
        )
        for name, (run, script, own) in wanted.items()
    }


def take_turns(processes, *, seconds, least):
    """Let them step in turns; return seconds of steps and of fetching batches, by name.

    In a turn each takes as many steps as the baseline takes in `TURN` seconds, one at least: the
    first of them finds nothing of its own in the cache, which in a training no step does.
    """
    steps = 1
    for name, process in processes.items():
        warm = process.go(2)
        if name == "textbook":
            steps = max(1, round(TURN / warm["seconds"]))
    reports = {name: [] for name in processes}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(reports.values()))) < least:
        for name, process in processes.items():
            reports[name].append(process.go(steps))
    return reports


def measure(model, options, limits):
    """Print one row per contender."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        write_dataset(data, model.sizes, train=BATCHES * BATCH)
        processes = contenders(model, data, options)
        reports = take_turns(processes, seconds=options.seconds, least=options.least)
        peaks = {name: process.peak() for name, process in processes.items()}
        for process in processes.values():
            process.close()
    counts = {process.about["parameters"] for process in processes.values()}
    if len(counts) > 1:
        raise SystemExit(f"contenders must have the same parameters, got {sorted(counts)}")
    floors = model.floor(*limits)
    medians = {n: statistics.median(r["seconds"] for r in many) for n, many in reports.items()}
    for name, seconds in medians.items():
        fetched = statistics.median(report["batch"] for report in reports[name])
        floor = floors["bfloat16" if "bfloat16" in name else "float32"]
        print(
            f"| {model.name} | {name} | {seconds * 1e3:.1f} | {fetched * 1e3:.2f} "
            f"| {medians['textbook'] / seconds:.2f} | {peaks[name] / 1e9:.2f} "
            f"| {peaks[name] / peaks['textbook']:.2f} | {floor * 1e3:.1f} "
            f"| {floor / seconds:.0%} | {len(reports[name])} |",
            flush=True,
        )


def precisions():
    """What the trainer can be told; float32 where it cannot be told anything."""
    return ["float32", "bfloat16"] if "precision" in TrainingConfig.model_fields else ["float32"]


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="*", default=DCNV2, metavar="MODEL")
    parser.add_argument("--architectures", action="store_true", help="all eight, three sizes each")
    parser.add_argument("--precisions", nargs="*", default=precisions())
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu on busy machines")
    parser.add_argument("--seconds", type=float, default=15, help="of turns for each model")
    parser.add_argument("--least", type=int, default=3, help="turns of each model at least")
    parser.add_argument("--warmup", type=int, default=200, help="steps that tables took before")
    parser.add_argument("--tune-all", action="store_true", help="the baselines too")
    parser.add_argument("--fuxictr", metavar="PYTHON", help="interpreter that has FuxiCTR")
    return parser.parse_args()


def main():
    options = parse()
    torch.set_num_threads(options.threads)
    for architecture in INTERACTIONS:
        check_textbook(architecture)
    rates, copied = gemm_rates(options.clock), copy_rate(options.clock)
    print("\n".join(machine()))
    print(f"- batch {BATCH}, {FIELDS} fields, threads: {options.threads}")
    print(f"- {options.clock} time, medians of turns")
    for name, rate in rates.items():
        print(f"- products of matrices, {name}: {rate / 1e9:.0f} GFLOP/s")
    print(f"- copies in memory: {copied / 1e9:.1f} GB/s read and written\n")
    print(
        "| model | contender | ms | of it the batch | times faster | peak GB | of textbook "
        "| floor ms | floor reached | turns |"
    )
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    names = list(options.models)
    if options.architectures:
        sizes = ("single:1", "multi:4", "multi:10")
        names = [f"{architecture}:{size}" for architecture in INTERACTIONS for size in sizes]
    for name in names:
        measure(Model(name), options, (rates, copied))


if __name__ == "__main__":
    main()
