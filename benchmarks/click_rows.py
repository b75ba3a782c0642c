"""Encoded rows with ids like Criteo's, as `multiembed prepare` would leave them."""

import json

import numpy as np
from bench_optimizer import BATCH, Ids

from multiembed.data.store.schema import Field, Schema, SplitSummary
from multiembed.data.store.shards import Batch, shard_name, write_shard

SHARE_OF_CLICKS = 0.256
FEW = 2 * BATCH


def write_dataset(folder, sizes, *, train, test=FEW):
    """Write a dataset for multiembed, and its training split as arrays for everybody."""
    ids = Ids(sizes)
    summaries = {}
    for name, rows in {"train": train, "valid": FEW, "test": test}.items():
        drawn = np.concatenate([ids.batch().numpy() for _ in range(-(-rows // BATCH))])[:rows]
        labels = (ids.random.random(rows) < SHARE_OF_CLICKS).astype(np.uint8)
        (folder / name).mkdir(parents=True)
        write_shard(folder / name / shard_name(0), Batch(drawn, labels))
        summaries[name] = SplitSummary(rows=rows, positives=int(labels.sum()))
        if name == "train":
            np.save(folder / "ids.npy", drawn)
            np.save(folder / "labels.npy", labels)
    fields = tuple(
        Field(name=f"field{i}", kind="categorical", cardinality=size, min_count=1)
        for i, size in enumerate(sizes)
    )
    (folder / "vocabulary").mkdir()
    Schema(label="label", fields=fields, splits=summaries).save(folder)
    (folder / "sizes.json").write_text(json.dumps(list(sizes)))
