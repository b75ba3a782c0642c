"""What pretrained vectors cost: a training step of one model with and without, in turns.

    OMP_NUM_THREADS=1 python benchmarks/bench_pretrained.py [--rounds 40]

Promise: beside the products of its projection, a step with the vectors of one field of 26 takes at
most 1.2 times as long. Both models train in one process, a step each in turn, on the same batches;
seconds are those of the process's own processor time.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from bench_monitor import machine

from multiembed.config import TrainingConfig
from multiembed.data.store.shards import Batch
from multiembed.models.click_model import ClickModel
from multiembed.models.embedding import EmbeddingSets
from multiembed.models.signals import Signals
from multiembed.models.vector_settings import Pretrained
from multiembed.training.step import TrainingStep

FIELDS, IDS, BATCH, WIDTH = 26, 20_000, 2048, 64
MODELS = (("dcnv2", 1, False), ("dcnv2", 4, False), ("dcnv2", 1, True), ("ffm", 1, False))


def steps(architecture, sets, trained):
    """Return a training step with vectors, and one without."""
    sizes = [IDS] * FIELDS
    vectors = np.random.default_rng(0).normal(size=(IDS, WIDTH)).astype(np.float32) / WIDTH**0.5
    vectors[0] = 0
    found = []
    for of in (Pretrained(file="", width=WIDTH, found=IDS - 1, trained=trained), None):
        torch.manual_seed(0)
        pretrained = None if of is None else {0: of}
        model = ClickModel(
            architecture,
            sizes,
            sets=sets,
            tables=lambda *sizes, _of=pretrained, **shape: EmbeddingSets(
                *sizes, signals=Signals(pretrained=_of or {}), **shape
            ),
        )
        if of is not None:
            model.embedding.fill_vectors(0, np.arange(IDS, dtype=np.int32), vectors)
        found.append(TrainingStep(model.train(), TrainingConfig(), torch.device("cpu")))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    random = np.random.default_rng(1)
    print("\n".join(machine()) + "\n")
    print("| model | without, ms | with, ms | ratio of medians |\n|---|---|---|---|")
    for architecture, sets, trained in MODELS:
        both, seconds = steps(architecture, sets, trained), ([], [])
        for turn in range(rounds + 3):
            ids = (IDS * random.random((BATCH, FIELDS)) ** 3).astype(np.int32)
            batch = Batch(ids, random.integers(0, 2, BATCH).astype(np.uint8))
            order = (0, 1) if turn % 2 else (1, 0)
            for at in order:
                start = time.process_time()
                both[at](batch, 1e-3)
                seconds[at].append(time.process_time() - start)
        with_, without = (statistics.median(of[3:]) for of in seconds)
        kind = ", trained" if trained else ""
        name = f"{architecture}, {sets} set{'s' * (sets > 1)}{kind}"
        print(f"| {name} | {1e3 * without:.1f} | {1e3 * with_:.1f} | {with_ / without:.3f} |")


if __name__ == "__main__":
    main()
