"""Training as a call: settle the configuration, take the directory, run."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from multiembed.base.errors import ConfigError
from multiembed.config import RunConfig, read_config
from multiembed.data.store.dataset import Dataset, open_dataset
from multiembed.data.store.schema import Schema
from multiembed.kernels.setting import using_kernels
from multiembed.runs.building import check_trainable
from multiembed.runs.directory import RunDirectory
from multiembed.runs.run import Run, check_dataset
from multiembed.training.progress import Observer
from multiembed.training.trackers import Tracking
from multiembed.training.trainer import Trainer


def train(
    config: RunConfig | None,
    *,
    dataset: Dataset | Path | str | None = None,
    run: Path | str,
    resume: bool = False,
    overwrite: bool = False,
    observer: Observer | None = None,
) -> Run:
    """Train a model on an encoded dataset and return the finished run.

    The random numbers of the caller, its number of threads and its kernels are left as they were.

    Example:
        >>> import multiembed as me
        >>> from multiembed.testing.planted_clicks import PlantedClicks, write_planted
        >>> _ = write_planted("clicks", PlantedClicks(cardinalities=(20, 8), ranks=2, rows=2000))
        >>> model = me.ModelConfig(architecture="dnn", dim=2, sets=2, options={"hidden": [4]})
        >>> training = me.TrainingConfig(max_epochs=2, batch_size=256, threads=1)
        >>> config = me.RunConfig(model=model, training=training)
        >>> run = me.train(config, dataset="clicks", run="run")
        >>> [record["epoch"] for record in run.records]  # one evaluation per epoch
        [1, 2]

    Args:
        config: What to train and how; None with `resume` takes the run's own.
        dataset: An encoded dataset, if `config` does not name it.
        run: Directory to write.
        resume: Go on from the run's last checkpoint; the result has the same bytes as an
            uninterrupted training on the same machine with the same number of threads.
        overwrite: Begin anew in a directory that holds a run.
        observer: Told of every 20th step, of evaluations, and of warnings.

    Raises:
        ConfigError: If the configuration is contradictory, differs from that of the run being
            resumed, names a tracker that is not installed, or the directory is taken.
        DataError: If the dataset cannot be read, or is not the resumed run's.
    """
    target = RunDirectory(os.path.realpath(run) if Path(run).is_symlink() else run)
    directory = target.writing_to(resume=resume, overwrite=overwrite)
    config = _settle_config(config, dataset, directory, resume=resume)
    opened = dataset if isinstance(dataset, Dataset) else open_dataset(Path(str(config.dataset)))
    if config.model.table_dims is not None:
        raise ConfigError("model.table_dims must be absent in training, got a compressed model")
    check_trainable(config, opened.cardinalities, directory.path)
    # Before the directory is touched: what is wrong must cost no run.
    tracking = Tracking(config.training.trackers, directory.path, observer)
    _check_resumed(directory, opened, resume=resume)
    with (
        directory.claimed(target, anew=overwrite),
        using_kernels(config.training.kernels),
        _cpu_threads(config.training.threads),
        torch.random.fork_rng(devices=_cuda_devices()),
    ):
        trainer = Trainer(config, opened, directory, observer, tracking)
        if resume and directory.last.exists():
            trainer.load()
        trainer.run()
    return Run(target.path, model=trainer.model)


def _settle_config(
    config: RunConfig | None,
    dataset: Dataset | Path | str | None,
    directory: RunDirectory,
    *,
    resume: bool,
) -> RunConfig:
    """Resolve the configuration; when resuming, it must be the run's own."""
    of_run = read_config(directory.config) if resume and directory.config.exists() else None
    if config is None:
        if of_run is None:
            raise ConfigError(f"{directory.path} must hold a run to resume, got none")
        return of_run
    if dataset is not None:
        path = dataset.path if isinstance(dataset, Dataset) else Path(dataset)
        config = config.model_copy(update={"dataset": str(path.resolve())})
    if config.dataset is None:
        raise ConfigError("dataset must be given, got none")
    config = config.resolved()
    if of_run is not None and config != of_run:
        raise ConfigError(
            f"{directory.path} must be resumed with its own configuration, got another"
        )
    return config


def _check_resumed(directory: RunDirectory, dataset: Dataset, *, resume: bool) -> None:
    if resume and directory.config.exists():
        check_dataset(dataset, Schema.load(directory.schema), directory.path)


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
