"""Training as a call: settle the configuration, take the directory, run."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from multiembed.base.errors import ConfigError
from multiembed.config import RunConfig, StartConfig, read_config
from multiembed.data.store.dataset import Dataset, open_dataset
from multiembed.data.store.schema import Schema
from multiembed.kernels.setting import using_kernels
from multiembed.runs.building import check_trainable
from multiembed.runs.directory import RunDirectory
from multiembed.runs.recipe import RECIPES, recipe
from multiembed.runs.run import Run, check_dataset
from multiembed.training.predecessor import Predecessor, read_predecessor
from multiembed.training.progress import Observer
from multiembed.training.trackers import Tracking
from multiembed.training.trainer import Trainer
from multiembed.training.vector_matching import FieldVectors, read_pretrained, with_record_of


def train(
    config: RunConfig | None,
    *,
    dataset: Dataset | Path | str | None = None,
    run: Path | str,
    start_from: Run | Path | str | None = None,
    carry_moments: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    observer: Observer | None = None,
) -> Run:
    """Train a model on an encoded dataset and return the finished run.

    The caller's random numbers, number of threads and kernels are left as they were.

    Example:
        >>> import multiembed as me
        >>> from multiembed.testing.planted_clicks import PlantedClicks, write_planted
        >>> _ = write_planted("clicks", PlantedClicks(cardinalities=(20, 8), ranks=2, rows=2000))
        >>> model = me.ModelConfig(architecture="dnn", dim=2, sets=2, options={"hidden": [4]})
        >>> config = me.RunConfig(model=model, training=me.TrainingConfig(max_epochs=2, threads=1))
        >>> run = me.train(config, dataset="clicks", run="run")
        >>> [record["epoch"] for record in run.records]  # one evaluation per epoch
        [1, 2]

    Args:
        config: What to train and how; None: as the run to resume or start from, else a recipe.
        dataset: An encoded dataset, if `config` does not name it.
        run: Directory to write.
        start_from: A finished run to begin with, whose vocabulary the dataset's grew out of.
        carry_moments: Whether optimizers and random numbers go on where it stopped, too.
        resume: Go on from the last checkpoint; the same machine and threads give the same bytes.
        overwrite: Begin anew in a directory that holds a run.
        observer: Told of every 20th step, of evaluations, and of warnings.

    Raises:
        ConfigError: If the configuration contradicts itself, a tracker is absent, or `run` taken.
        DataError: If the dataset cannot be read, or does not fit the run to go on from.
    """
    target = RunDirectory(os.path.realpath(run) if Path(run).is_symlink() else run)
    directory = target.writing_to(resume=resume, overwrite=overwrite)
    start = _start(start_from, moments=carry_moments)
    config = _settle_config(config, dataset, directory, start, resume=resume)
    opened = open_dataset(dataset if isinstance(dataset, Dataset) else str(config.dataset))
    # Before the directory is touched: what is wrong must cost no run.
    begun = resume and directory.config.exists() and directory.last.exists()
    config, vectors = _vectors(config, opened, observer, known=begun)
    earlier = _check(config, opened, directory, resume=resume, begun=begun)
    tracking = Tracking(config.training.trackers, directory.path, observer)
    with (
        directory.claimed(target, anew=overwrite),
        using_kernels(config.training.kernels),
        _cpu_threads(config.training.threads),
        torch.random.fork_rng(devices=_cuda_devices()),
    ):
        trainer = Trainer(config, opened, directory, observer, tracking, earlier, vectors)
        if begun:
            trainer.load()
        trainer.run()
    return Run(target.path, model=trainer.model)


def _start(earlier: Run | Path | str | None, *, moments: bool) -> StartConfig | None:
    if earlier is None and moments:
        raise ConfigError("carry_moments must stand with start_from, got none")
    if earlier is None:
        return None
    path = earlier.path if isinstance(earlier, Run) else Path(earlier)
    return StartConfig(run=str(path.resolve()), moments=moments)


def _beginning(
    config: RunConfig | None, start: StartConfig | None, dataset: Dataset | Path | str | None
) -> RunConfig:
    """Return a configuration that names the run to start from; by default it is that run's own."""
    if config is None and start is not None:
        config = read_config(RunDirectory(start.run).config)
    elif config is None:
        if dataset is None:
            raise ConfigError("dataset must be given, got none")
        config = recipe(RECIPES[0], dataset)
    start = start or config.start
    if start is not None:
        start = start.model_copy(update={"run": str(Path(start.run).resolve())})
    return config.model_copy(update={"start": start})


def _settle_config(
    config: RunConfig | None,
    dataset: Dataset | Path | str | None,
    directory: RunDirectory,
    start: StartConfig | None,
    *,
    resume: bool,
) -> RunConfig:
    """Resolve the configuration; when resuming, it must be the run's own."""
    of_run = read_config(directory.config) if resume and directory.config.exists() else None
    if config is None and of_run is not None and start in (None, of_run.start):
        return of_run
    if resume and config is None and of_run is None and start is None:
        raise ConfigError(f"{directory.path} must hold a run to resume, got none")
    config = _beginning(config or of_run, start, dataset)
    if dataset is not None:
        path = dataset.path if isinstance(dataset, Dataset) else Path(dataset)
        config = config.model_copy(update={"dataset": str(path.resolve())})
    if config.dataset is None:
        raise ConfigError("dataset must be given, got none")
    config = config.resolved()
    parent = None if config.start is None else RunDirectory(config.start.run).config
    before = read_config(parent) if of_run is None and parent and parent.is_file() else of_run
    config = config if before is None else with_record_of(before, config)
    if of_run is not None and config != of_run:
        raise ConfigError(
            f"{directory.path} must be resumed with its own configuration, got another"
        )
    return config


def _vectors(
    config: RunConfig, dataset: Dataset, observer: Observer | None, *, known: bool
) -> tuple[RunConfig, dict[int, FieldVectors]]:
    """Read pretrained vectors, unless the run that training goes on from holds them."""
    if known or config.start is not None:
        return config, {}
    config, vectors = read_pretrained(config, dataset)
    for of in vectors.values():
        if of.remark and observer is not None:
            observer.warned(of.remark)
    return config, vectors


def _check(
    config: RunConfig, dataset: Dataset, directory: RunDirectory, *, resume: bool, begun: bool
) -> Predecessor | None:
    """Refuse what cannot be trained; return the run to start from, where training is to begin."""
    if config.model.table_dims is not None:
        raise ConfigError("model.table_dims must be absent in training, got a compressed model")
    for field in dataset.field_names:  # which the run keeps a copy of
        dataset.vocabulary(field)
    check_trainable(config, dataset.schema.sizes, directory.path)
    if resume and directory.config.exists():
        check_dataset(dataset, Schema.load(directory.schema), directory.path)
    return None if begun or config.start is None else read_predecessor(config, dataset)


@contextmanager
def _cpu_threads(threads: int | None) -> Iterator[None]:
    """Run a block with a number of CPU threads, and restore it."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cuda_devices() -> list[int]:
    return [torch.cuda.current_device()] if torch.cuda.is_available() else []
