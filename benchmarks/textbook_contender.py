"""The contender of bench_step.py that trains as textbooks do, without multiembed in its process.

Run: python benchmarks/textbook_contender.py '{"data": FOLDER, "architecture": "dcnv2", …}'
"""

import ctypes
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from textbook import TextbookModel, loader
from turns import for_ever, serve, timed_step

BATCH = 2048
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-6
MMAP_MAX, TRIM_THRESHOLD, TOP_PAD = -4, -1, -2


def tune_allocator():
    """Set what multiembed's command line sets for itself."""
    for option, value in ((MMAP_MAX, 0), (TRIM_THRESHOLD, 2**31 - 1), (TOP_PAD, 1 << 26)):
        ctypes.CDLL(None).mallopt(option, value)


def main():
    spec = json.loads(sys.argv[1])
    torch.set_num_threads(spec["threads"])
    torch.manual_seed(0)
    if spec["tuned"]:
        tune_allocator()
    data = Path(spec["data"])
    sizes = json.loads((data / "sizes.json").read_text())
    ids, labels = np.load(data / "ids.npy"), np.load(data / "labels.npy")
    model = TextbookModel(spec["architecture"], sizes, dim=spec["dim"], sets=spec["sets"])
    adam = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    rows = loader(ids, labels, BATCH, shuffle=True)

    def step(batch):
        ids, labels = batch
        adam.zero_grad()
        F.binary_cross_entropy_with_logits(model(ids), labels.float()).backward()
        adam.step()

    model.train()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    work = partial(timed_step, for_ever(lambda: rows), step, spec["clock"])
    serve(work, {"parameters": parameters})


if __name__ == "__main__":
    main()
