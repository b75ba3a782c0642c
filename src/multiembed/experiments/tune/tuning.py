"""Tuning as a call: trials until there are as many as asked for, and what is told of them."""

import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from multiembed.base.errors import ConfigError
from multiembed.data.store.dataset import Dataset, open_dataset
from multiembed.experiments.grid.outcome import TRIALS_FILE, experiment_in
from multiembed.experiments.grid.pool import Jobs, run_jobs
from multiembed.experiments.tune.knobs import space_of
from multiembed.experiments.tune.tune_options import TuneOptions
from multiembed.runs.building import check_trainable

if TYPE_CHECKING:  # Optuna is an extra: this file is read without it
    from multiembed.experiments.tune.trial_books import TuneObserver
    from multiembed.experiments.tune.trials import Slot
    from multiembed.experiments.tune.tuned import Tuning
else:
    Slot = TuneObserver = Tuning = Any


def require_optuna() -> None:
    """Refuse to begin without the package that chooses.

    Raises:
        ConfigError: If it is not installed.
    """
    if find_spec("optuna") is None:
        raise ConfigError("optuna must be installed: pip install 'multiembed[tune]'")


def tune(
    dataset: Dataset | Path | str,
    out: Path | str,
    options: TuneOptions | None = None,
    *,
    trials: int = 50,
    time_limit: float | None = None,
    workers: int | None = None,
    observer: TuneObserver | None = None,
    elsewhere: Callable[[Jobs[Slot]], None] | None = None,
) -> Tuning:
    """Train a recipe with other settings, and keep the best by the validation split.

    The first trial is the recipe itself. The test split is never read. A call on the same `out`
    goes on: trials that were killed are taken up where they stopped.

    Example:
        >>> import multiembed as me
        >>> from multiembed.testing.planted_clicks import PlantedClicks, write_planted
        >>> _ = write_planted("clicks", PlantedClicks(cardinalities=(20, 8), ranks=2, rows=2000))
        >>> short = ("training.max_epochs=1", "model.options.hidden=[4]", "training.threads=1")
        >>> options = me.TuneOptions(settings=short, architectures="dnn")
        >>> tuned = me.tune("clicks", "tuned", options, trials=2)
        >>> [record.state for record in tuned.records], tuned.run.config.model.architecture
        (['complete', 'complete'], 'dnn')

    Args:
        dataset: An encoded dataset.
        out: Directory to write; holds `best.toml`, `results.json`, `report.html` and the best run.
        options: What is best, what is varied, what is not.
        trials: How many there are to be, those of earlier calls included.
        time_limit: Seconds after which no trial begins.
        workers: Trials at once, each in a process of its own; None trains in this one.
        observer: Told of every trial.
        elsewhere: Brings trials to their end in place of this machine.

    Raises:
        ConfigError: If Optuna is not installed, an option is of no use, or `out` is another's.
        DataError: If the dataset cannot be read, or the recipe not be trained.
    """
    require_optuna()
    from multiembed.experiments.tune.trial_books import Books

    if trials < 1 or not (time_limit is None or time_limit > 0) or (workers or 1) < 1:
        said = f"{trials}, {time_limit} and {workers}"
        raise ConfigError(f"trials, time_limit and workers must be above 0, got {said}")
    options = options or TuneOptions()
    opened = open_dataset(dataset)
    space = space_of(options, opened.schema)
    folder = Path(out).resolve()
    check_trainable(space.base.resolved(), opened.schema.sizes, folder)
    at_once = torch.get_num_threads() if elsewhere is None else 1
    threads = space.base.training.threads or max(1, at_once // (workers or 1))
    with experiment_in(folder, TRIALS_FILE):
        books = Books(folder, options, space, opened, trials, observer)
        books.fill(threads, None if time_limit is None else time.time() + time_limit)
        (elsewhere or (lambda jobs: run_jobs(jobs, workers=workers)))(books)
        return books.closed()
