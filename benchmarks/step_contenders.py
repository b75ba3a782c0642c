"""One contender of bench_step.py, which starts it: multiembed's trainer, or the textbook.

python benchmarks/step_contenders.py '{"name": "textbook", "data": FOLDER, …}'
"""

import json
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from bench_optimizer import Ids
from textbook import TextbookModel, loader
from turns import for_ever, serve, timed_step

from multiembed.allocator import keep_freed_memory
from multiembed.config import RunConfig
from multiembed.data.dataset import open_dataset
from multiembed.training.checkpoint import RunDirectory
from multiembed.training.trainer import Trainer

BATCH = 2048
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-6


def multiembed(spec, folder):
    """Return the trainer's batches and its step, after tables were trained for a while."""
    training = {"table_optimizer": "deferred_adam", "batch_size": BATCH, "device": "cpu"}
    if spec["precision"] is not None:
        training["precision"] = spec["precision"]
    model = {"architecture": spec["architecture"], "dim": spec["dim"], "sets": spec["sets"]}
    config = RunConfig.model_validate({"model": model, "training": training}).resolved()
    dataset = open_dataset(spec["data"])
    trainer = Trainer(config, dataset, RunDirectory(folder))
    trainer.model.train()
    warm_up(trainer.tables, dataset.cardinalities, spec["warmup"])

    def epoch():
        trainer.state.batch = 0
        yield from trainer._epoch()
        trainer.state.epoch += 1

    return for_ever(epoch), trainer._step, trainer.model


def warm_up(tables, cardinalities, steps):
    """Let rows lag as they do in the middle of a training; the rest of the model needs no past."""
    ids = Ids(cardinalities, seed=1)
    for _ in range(steps):
        embeddings = tables.lookup(ids.batch())
        embeddings.backward(torch.randn_like(embeddings) * 1e-5)
        tables.step()


def textbook(spec):
    """Return batches, a step and the model, as a textbook has them."""
    dataset = open_dataset(spec["data"])
    rows = dataset.split("train")
    model = TextbookModel(
        spec["architecture"], dataset.cardinalities, dim=spec["dim"], sets=spec["sets"]
    )
    adam = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    batches = loader(np.array(rows.ids), np.array(rows.labels), BATCH, shuffle=True)

    def step(batch):
        ids, labels = batch
        adam.zero_grad()
        F.binary_cross_entropy_with_logits(model(ids), labels.float()).backward()
        adam.step()

    model.train()
    return for_ever(lambda: batches), step, model


def main():
    spec = json.loads(sys.argv[1])
    torch.set_num_threads(spec["threads"])
    torch.manual_seed(0)
    if spec["tuned"]:
        keep_freed_memory()  # as the command line does
    with tempfile.TemporaryDirectory() as folder:
        ours = spec["name"] == "multiembed"
        batches, step, model = multiembed(spec, Path(folder) / "run") if ours else textbook(spec)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        work = partial(timed_step, batches, step, spec["clock"])
        serve(work, {"parameters": parameters})


if __name__ == "__main__":
    main()
