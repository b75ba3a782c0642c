"""What a history costs a training step on a CPU, beside its padded textbook form.

    OMP_NUM_THREADS=1 python benchmarks/bench_histories.py [--steps 15] [--sets 1] [--slots 50]

Three models of one architecture take turns, step by step, in one process: without the history; with
it; and with it padded to `slots` values, weighed by a layer over all of [t, h, t - h, t * h].
Made-up rows: eight fields, histories of 0 to `slots` / 2
values, a tenth of them empty. Ratios of medians of CPU time.
"""

import argparse
import statistics
import time
from functools import partial

import numpy as np
import torch
from turns import CLOCKS

from multiembed.config import ModelConfig, TrainingConfig
from multiembed.data.store.dataset import Batch
from multiembed.kernels.route import ROUTES
from multiembed.models.click_model import ClickModel
from multiembed.models.embedding import EmbeddingSets
from multiembed.models.histories import Histories, TargetAttention
from multiembed.models.signals import Signals
from multiembed.training.step import TrainingStep

FIELDS, ITEMS, ROWS = 8, 20_000, 2048


def textbook(self, target, values, histories):
    """Weigh every place of a padded history by one layer over all four parts."""
    spread = histories.spread(target)
    hidden = torch.cat([spread, values, spread - values, spread * values], dim=2)
    for at, layer in enumerate(self.layers):
        hidden = layer(hidden.relu() if at else hidden)
    return histories.normalised(hidden.squeeze(2)) if self.softmax else hidden.squeeze(2)


def rows(slots, fields):
    random = np.random.default_rng(0)
    sizes = np.where(random.random(ROWS) < 0.1, 0, random.integers(0, slots // 2 + 1, ROWS))
    seen = np.where(np.arange(slots) < sizes[:, None], zipf(random, (ROWS, slots)), -1)
    return np.hstack([zipf(random, (ROWS, fields)), seen]).astype(np.int32), sizes.mean()


def zipf(random, shape):
    return (random.zipf(1.2, shape) - 1) % ITEMS


class Contestant:
    """One model, and how it reads histories."""

    def __init__(self, fields, sets, slots, pooling, form):
        about = Histories((0,), pooling) if slots else None
        columns = [1] * fields + [slots] * bool(slots)
        shapes = partial(EmbeddingSets, slots=columns, signals=about and Signals(about))
        torch.manual_seed(0)
        mix = ModelConfig(architecture="dcnv2", sets=sets).built()
        self.model = ClickModel(mix, [ITEMS] * fields, sets=sets, tables=shapes).train()
        self.form = form
        with self:
            self.step = TrainingStep(self.model, TrainingConfig(), torch.device("cpu"))

    def __enter__(self):
        self.before = ROUTES["histories"], TargetAttention.forward
        if self.form == "padded":
            ROUTES["histories"], TargetAttention.forward = (), textbook

    def __exit__(self, *_):
        ROUTES["histories"], TargetAttention.forward = self.before

    def seconds(self, batch):
        """Train on a batch, and return the seconds it took."""
        with self:
            start = CLOCKS["cpu"]()
            self.step(batch, 1e-3)
            return CLOCKS["cpu"]() - start


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--steps", type=int, default=15)
    arguments.add_argument("--sets", type=int, default=1)
    arguments.add_argument("--slots", type=int, default=50)
    asked = arguments.parse_args()
    whole, mean = rows(asked.slots, FIELDS)
    labels = np.random.default_rng(1).integers(0, 2, ROWS).astype(np.uint8)
    print(
        f"{time.strftime('%Y-%m-%d')}, torch {torch.__version__}, {ROWS} rows a step, {FIELDS} "
        f"fields of {ITEMS:,} ids, {mean:.1f} values a history of at most {asked.slots}, "
        f"{asked.sets} sets of 10 numbers, dcnv2, deferred Adam"
    )
    print("| pooling | without, ms | history | padded, textbook | padded over history |")
    print("|---|---|---|---|---|")
    for pooling in ("mean", "attention", "softmax"):
        make = partial(Contestant, sets=asked.sets, pooling=pooling)
        contestants = {
            "without": (make(FIELDS, slots=0, form="ours"), whole[:, :FIELDS]),
            "history": (make(FIELDS, slots=asked.slots, form="ours"), whole),
            "padded": (make(FIELDS, slots=asked.slots, form="padded"), whole),
        }
        taken = {name: [] for name in contestants}
        for turn in range(asked.steps + 3):
            for name, (one, ids) in contestants.items():
                seconds = one.seconds(Batch(np.ascontiguousarray(ids), labels))
                if turn >= 3:
                    taken[name].append(seconds)
        plain, ours, padded = (statistics.median(times) for times in taken.values())
        print(
            f"| {pooling} | {1e3 * plain:.1f} | {ours / plain:.2f}x | {padded / plain:.2f}x | "
            f"{padded / ours:.2f}x |",
            flush=True,
        )


if __name__ == "__main__":
    main()
