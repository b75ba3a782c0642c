"""FuxiCTR's DCNv2 as a contender of bench_step.py; runs in an environment that has FuxiCTR.

FuxiCTR 2.3.10 from PyPI comes without its model zoo, so its stacked DCNv2 is put together here
from its own layers; embeddings, loss, optimizer, data loader and training step are FuxiCTR's.
Its L2 regulariser is off, which is faster: it reads every table at every step.

    python -m venv fuxictr-env
    fuxictr-env/bin/pip install torch==2.13.0
    fuxictr-env/bin/pip install fuxictr==2.3.10
    python benchmarks/bench_step.py --fuxictr fuxictr-env/bin/python
"""

# ruff: noqa: D101, D102

import json
import sys
import tempfile
from collections import OrderedDict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders.npz_dataloader import NpzDataLoader
from fuxictr.pytorch.layers import CrossNetV2, FeatureEmbedding, MLP_Block
from fuxictr.pytorch.models import BaseModel
from torch import nn
from turns import for_ever, serve, timed_step

BATCH = 2048


class DCNv2(BaseModel):
    def __init__(self, feature_map, dim, folder):
        super().__init__(feature_map, verbose=0, model_root=folder, metrics=["AUC"])
        width = feature_map.sum_emb_out_dim()
        self.embedding_layer = FeatureEmbedding(feature_map, dim)
        self.crossnet = CrossNetV2(width, 4)
        self.stacked_dnn = MLP_Block(width, [400, 400], dropout_rates=0.2, batch_norm=True)
        self.fc = nn.Linear(400, 1)
        self.compile("adam", "binary_crossentropy", lr=1e-3)
        self.reset_parameters()
        self.model_to_device()
        self._max_gradient_norm = 10.0  # what its fit() sets

    def forward(self, inputs):
        x = self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)
        logits = self.fc(self.stacked_dnn(self.crossnet(x)))
        return {"y_pred": self.output_activation(logits)}


def described(cardinalities, dim, folder):
    """Return FuxiCTR's description of the fields."""
    feature_map = FeatureMap("bench", folder)
    feature_map.features = OrderedDict(
        (f"field{i}", {"source": "", "type": "categorical", "vocab_size": size})
        for i, size in enumerate(cardinalities)
    )
    feature_map.labels = ["label"]
    feature_map.default_emb_dim = dim
    feature_map.num_fields = len(cardinalities)
    feature_map.set_column_index()
    return feature_map


def main():
    spec = json.loads(sys.argv[1])
    torch.set_num_threads(spec["threads"])
    data = Path(spec["data"])
    ids, labels = np.load(data / "ids.npy"), np.load(data / "labels.npy")
    with tempfile.TemporaryDirectory() as folder:
        feature_map = described(json.loads((data / "sizes.json").read_text()), spec["dim"], folder)
        columns = {f"field{i}": column for i, column in enumerate(ids.T)}
        np.savez(Path(folder) / "rows.npz", label=labels, **columns)
        rows = NpzDataLoader(
            feature_map, f"{folder}/rows.npz", batch_size=BATCH, shuffle=True, num_workers=0
        )
        model = DCNv2(feature_map, spec["dim"], folder)
        model.train()
        parameters = sum(parameter.numel() for parameter in model.parameters())
        batches = for_ever(lambda: rows)
        work = partial(timed_step, batches, model.train_step, spec["clock"])
        serve(work, {"parameters": parameters})


if __name__ == "__main__":
    main()
