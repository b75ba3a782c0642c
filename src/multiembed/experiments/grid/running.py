"""Runs the cases of an experiment that are not there yet, several at once, whatever befalls one."""

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from multiembed.base.files import make_folder
from multiembed.data.store.dataset import Dataset, open_dataset
from multiembed.experiments.grid.grid import GridCase
from multiembed.experiments.grid.outcome import (
    Failure,
    GridState,
    Outcome,
    is_finished,
    outcome_of,
)
from multiembed.experiments.grid.pool import Work, run_jobs
from multiembed.models.budget import Budget
from multiembed.runs.building import build_model
from multiembed.training.progress import Observer, TrainingProgress
from multiembed.training.start import train


@runtime_checkable
class GridObserver(Protocol):
    """Whoever watches an experiment."""

    def moved(self, state: GridState) -> None:
        """Hear of a run that went on."""

    def ended(self, state: GridState, case: GridCase, result: Outcome | Failure) -> None:
        """Hear of a run that was finished or given up."""

    def found(self, state: GridState) -> None:
        """Hear, before anything runs, that earlier experiments finished some of the runs."""


def run_cases(
    cases: Sequence[GridCase],
    folder: Path,
    *,
    workers: int | None = None,
    observer: GridObserver | None = None,
) -> GridState:
    """Bring every case to its end under `folder`; killed ones go on where they stopped.

    Args:
        cases: What to run, in this order.
        folder: Holds one directory per run.
        workers: How many runs at once, each in a process of its own, which shares the cores;
            `None` runs one after another in this process.
        observer: Told of every step.
    """
    make_folder(folder)
    ledger = Ledger(cases, folder, observer)
    ledger.state.workers = min(workers or 1, max(1, len(cases)))
    ledger.collect_finished()
    run_jobs(ledger, workers=workers)
    return ledger.ended_state()


class Ledger:
    """The state of an experiment, and what every run still costs."""

    def __init__(
        self, cases: Sequence[GridCase], folder: Path, observer: GridObserver | None
    ) -> None:
        self.folder = folder
        self.observer = observer
        self.state = GridState(deque(cases))
        self._order = {case.name: place for place, case in enumerate(cases)}
        self._work: dict[str, float] = {}
        self._work_done = self._seconds = 0.0
        self._datasets: dict[Path, Dataset] = {}

    @property
    def waiting(self) -> deque[GridCase]:
        """The runs that have not begun."""
        return self.state.waiting

    @property
    def work(self) -> Work[GridCase]:
        """What brings one to its end."""
        return run_case

    def run(self, case: GridCase, observer: Observer) -> Outcome:
        """Bring one to its end in this process."""
        return run_case(case, self.folder, observer, dataset=self.dataset(case))

    def dataset(self, case: GridCase) -> Dataset:
        """Return the dataset of a case; each is opened once."""
        if case.dataset not in self._datasets:
            self._datasets[case.dataset] = open_dataset(case.dataset)
        return self._datasets[case.dataset]

    def collect_finished(self) -> None:
        """Take over what earlier experiments finished, and estimate what the others take."""
        cases, self.state.waiting = list(self.state.waiting), deque()
        for case in cases:
            if is_finished(self.folder / case.name):
                outcome = outcome_of(self.folder / case.name, self.dataset(case))
                self._weigh(case, flops=outcome.flops, embedding=outcome.parameters_embedding)
                self._done(case, outcome)
            else:
                self.state.waiting.append(case)
        budgets: dict[tuple[Path, str], Budget] = {}
        for case in self.state.waiting:
            model = case.dataset, case.config.model.model_dump_json()
            if model not in budgets:  # that of runs which differ in their seed is the same
                budgets[model] = _budget(case, self.dataset(case))
            flops, parameters = budgets[model].flops.total, budgets[model].parameters.embedding
            self._weigh(case, flops=flops, embedding=parameters)
        self.state.work_left = sum(self._work[case.name] for case in self.state.waiting)
        if self.state.done and self.observer is not None:
            self.observer.found(self.state)

    def _weigh(self, case: GridCase, *, flops: int, embedding: int) -> None:
        """Estimate the operations of an epoch, for guesses at the time left.

        A training step takes three forward passes, some 15 operations per number of the tables,
        which dense Adam moves whether or not a row was met, and some 100 per number that is looked
        up: these are moved rather than computed with.
        """
        dataset = self.dataset(case)
        rows = dataset.schema.splits["train"].rows
        steps = rows / case.config.training.batch_size
        looked_up = len(dataset.cardinalities) * embedding / sum(dataset.cardinalities)
        work = (3.0 * flops + 100.0 * looked_up) * rows + 15.0 * embedding * steps
        self._work[case.name] = work

    def begin(self, case: GridCase) -> None:
        """Note that a run begins."""
        self.state.running[case.name] = None
        if self.observer is not None:
            self.observer.moved(self.state)

    def move(self, case: GridCase, progress: TrainingProgress) -> None:
        """Note how far a run is."""
        self.state.running[case.name] = progress
        if self.observer is not None:
            self.observer.moved(self.state)

    def end(self, case: GridCase, result: Outcome | str) -> None:
        """Note how a run ended: in words, if it could not be finished."""
        ended = Failure(case, result) if isinstance(result, str) else result
        self.state.running.pop(case.name, None)
        self.state.work_left -= self._work[case.name]
        if isinstance(ended, Failure):
            self.state.failed.append(ended)
        else:
            self._done(case, ended)
        if self.observer is not None:
            self.observer.ended(self.state, case, ended)

    def ended_state(self) -> GridState:
        """Return the state with all runs in the order that was asked for, whichever ended first."""
        self.state.done.sort(key=lambda run: self._order[run[0].name])
        self.state.failed.sort(key=lambda failure: self._order[failure.case.name])
        return self.state

    def _done(self, case: GridCase, outcome: Outcome) -> None:
        self.state.done.append((case, outcome))
        self._work_done += self._work[case.name]
        self._seconds += outcome.seconds
        self.state.seconds_per_work = self._seconds / self._work_done


def _budget(case: GridCase, dataset: Dataset) -> Budget:
    """Return what a model costs; it is built without memory for its numbers."""
    with torch.device("meta"):
        return build_model(case.config, *dataset.schema.sizes).summary()


def run_case(
    case: GridCase,
    folder: Path,
    observer: Observer | None = None,
    *,
    dataset: Dataset | None = None,
) -> Outcome:
    """Train one case, or go on with it, and measure it.

    Args:
        case: What to run.
        folder: Holds one directory per run.
        observer: Told of the training's steps.
        dataset: That of the case, where it is open already.

    Raises:
        InputError: If its configuration or its dataset does not allow it.
    """
    path = folder / case.name
    dataset = dataset or open_dataset(case.dataset)
    if not is_finished(path):
        train(case.config, dataset=dataset, run=path, resume=True, observer=observer)
    return outcome_of(path, dataset)
