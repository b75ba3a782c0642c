"""Rows per second of shuffled batches from an encoded dataset, on one core.

    python benchmarks/bench_batches.py [ROWS]

Baselines in the same process, interleaved: indexing the mapped matrix with the same row
numbers, and a torch DataLoader over a TensorDataset with the same batch size.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from multiembed.data.store.dataset import Split
from multiembed.data.store.shards import Batch, map_shard, shard_name, write_shard

FIELDS = 39
BATCH = 2048
REPEATS = 5
SHARDS = 8
LOADER_ROWS = 200_000


def make_split(folder: Path, rows: int, shards: int) -> Split:
    random = np.random.default_rng(0)
    opened = []
    for number, size in enumerate(np.diff(np.linspace(0, rows, shards + 1).astype(int))):
        ids = random.integers(0, 100_000, (int(size), FIELDS), dtype=np.int32)
        path = folder / f"{shards}-{shard_name(number)}"
        write_shard(path, Batch(ids, random.integers(0, 2, int(size), dtype=np.uint8)))
        opened.append(map_shard(path, columns=FIELDS))
    return Split(opened)


def plain(split: Split, epoch: int) -> Iterator[object]:
    ids, labels = split.ids, split.labels
    order = np.random.default_rng(epoch).permutation(split.rows)
    for first in range(0, split.rows, BATCH):
        rows = order[first : first + BATCH]
        yield ids[rows], labels[rows]


def loader(split: Split, epoch: int) -> Iterator[object]:
    ids = torch.from_numpy(split.ids[:LOADER_ROWS].copy())
    labels = torch.from_numpy(split.labels[:LOADER_ROWS].copy())
    yield from DataLoader(TensorDataset(ids, labels), batch_size=BATCH, shuffle=True)


def rate(batches: Iterator[object], rows: int) -> float:
    start = time.perf_counter()
    for _ in batches:
        pass
    return rows / (time.perf_counter() - start)


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        one = make_split(Path(folder), rows, 1)
        several = make_split(Path(folder), rows, SHARDS)
        methods = {
            "Split.batches, 1 shard": lambda e: rate(one.batches(BATCH, seed=0, epoch=e), rows),
            f"Split.batches, {SHARDS} shards": lambda e: rate(
                several.batches(BATCH, seed=0, epoch=e), rows
            ),
            "Split.batches, file order": lambda e: rate(one.batches(BATCH), rows),
            "indexing the matrix": lambda e: rate(plain(one, e), rows),
            "DataLoader(TensorDataset)": lambda e: rate(loader(one, e), LOADER_ROWS),
        }
        measured: dict[str, list[float]] = {name: [] for name in methods}
        for epoch in range(REPEATS):
            for name, method in methods.items():
                measured[name].append(method(epoch))
    print(f"{rows:,} rows of {FIELDS} ids, batches of {BATCH}, median of {REPEATS}")
    base = statistics.median(measured["DataLoader(TensorDataset)"])
    for name, rates in measured.items():
        median = statistics.median(rates)
        print(f"{name:28s} {median / 1e6:8.2f} M rows/s {median / base:8.1f} x DataLoader")


if __name__ == "__main__":
    main()
