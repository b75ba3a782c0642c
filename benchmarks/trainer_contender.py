"""The contender of bench_step.py that is multiembed's trainer.

Run: python benchmarks/trainer_contender.py '{"data": FOLDER, "architecture": "dcnv2", …}'
"""

import json
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch
from bench_optimizer import BATCH, Ids
from turns import for_ever, serve, timed_step

from multiembed.base.memory import keep_freed_memory
from multiembed.config import RunConfig
from multiembed.data.store.dataset import open_dataset
from multiembed.runs.directory import RunDirectory
from multiembed.training.trainer import Trainer


def trainer_step(spec, folder):
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

    def step(batch):
        trainer.step(batch, trainer.state.learning_rate)

    return for_ever(epoch), step, trainer.model


def warm_up(tables, cardinalities, steps):
    """Let rows lag as they do in the middle of a training; the rest of the model needs no past."""
    ids = Ids(cardinalities, seed=1)
    slopes = None
    for _ in range(steps):
        embeddings = tables.lookup(ids.batch())
        if slopes is None:
            slopes = torch.randn_like(embeddings).mul_(1e-5)
        embeddings.register_hook(lambda _, slopes=slopes: slopes)
        embeddings.sum().backward()  # from a number, as losses are
        tables.step()
        del embeddings  # or two batches of them would be held


def main():
    spec = json.loads(sys.argv[1])
    torch.set_num_threads(spec["threads"])
    torch.manual_seed(0)
    keep_freed_memory()  # as the command line does
    with tempfile.TemporaryDirectory() as folder:
        batches, step, model = trainer_step(spec, Path(folder) / "run")
        parameters = sum(parameter.numel() for parameter in model.parameters())
        work = partial(timed_step, batches, step, spec["clock"])
        serve(work, {"parameters": parameters})


if __name__ == "__main__":
    main()
