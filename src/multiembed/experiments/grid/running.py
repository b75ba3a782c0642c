"""Runs the cases of an experiment that are not there yet, several at once, whatever befalls one."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from multiembed.base.errors import InputError, WriteError
from multiembed.base.files import make_folder
from multiembed.base.memory import keep_freed_memory
from multiembed.data.store.dataset import Dataset, open_dataset
from multiembed.experiments.grid.grid import GridCase
from multiembed.experiments.grid.outcome import (
    Failure,
    GridState,
    Outcome,
    is_finished,
    outcome_of,
)
from multiembed.models.budget import Budget
from multiembed.runs.building import build_model
from multiembed.training.progress import Observer, TrainingProgress
from multiembed.training.start import train

if TYPE_CHECKING:  # Windows has only the second
    from multiprocessing.context import ForkServerContext, SpawnContext

FAILURES = (InputError, MemoryError, RuntimeError)
"""What may befall one run while others go on; torch says RuntimeError when memory runs out."""

PRELOADED = [__name__, "torch._dynamo", "pandas"]
"""Imported once, before processes fork: a run would wait seconds for them. Torch's optimizers load
the second, pyarrow the third where it is installed."""


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
    if workers is None:
        _run_here(ledger)
    else:
        _run_in_processes(ledger, workers)
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

    def end(self, case: GridCase, result: Outcome | Failure) -> None:
        """Note how a run ended."""
        self.state.running.pop(case.name, None)
        self.state.work_left -= self._work[case.name]
        if isinstance(result, Failure):
            self.state.failed.append(result)
        else:
            self._done(case, result)
        if self.observer is not None:
            self.observer.ended(self.state, case, result)

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


@dataclass(frozen=True)
class ProgressSender:
    """Sends the progress of a run to whoever keeps the ledger."""

    send: Callable[[TrainingProgress], object]

    def stepped(self, progress: TrainingProgress) -> None:
        """Send it on."""
        self.send(progress)

    def evaluated(self, record: Mapping[str, int | float]) -> None:
        """Say nothing: the end of a run says it all."""

    def warned(self, message: str) -> None:
        """Say nothing: the run keeps its warnings."""


def _run_here(ledger: Ledger) -> None:
    while ledger.state.waiting:
        case = ledger.state.waiting.popleft()
        ledger.begin(case)
        try:
            here, dataset = ProgressSender(partial(ledger.move, case)), ledger.dataset(case)
            ledger.end(case, run_case(case, ledger.folder, here, dataset=dataset))
        except WriteError:
            raise  # nor could any other run be written
        except FAILURES as error:
            ledger.end(case, Failure(case, one_line(error)))


def _run_in_processes(ledger: Ledger, workers: int) -> None:
    """Keep `workers` processes busy, each with one run: its memory ends with it."""
    running: dict[Connection, tuple[GridCase, BaseProcess]] = {}
    free = deque(range(workers))
    slots: dict[str, int] = {}
    try:
        while ledger.state.waiting or running:
            while ledger.state.waiting and free:
                case = ledger.state.waiting.popleft()
                slots[case.name] = free.popleft()
                connection, process = _start(case, ledger.folder, workers, slots[case.name])
                running[connection] = case, process
                ledger.begin(case)
            for connection in _ready(running):
                case, process = running[connection]
                result = _heard(connection, case, process)
                if isinstance(result, TrainingProgress):
                    ledger.move(case, result)
                    continue
                del running[connection]
                free.append(slots.pop(case.name))
                ledger.end(case, result)
    finally:
        for _, process in running.values():
            process.terminate()
            process.join()


def _ready(running: Mapping[Connection, object]) -> Iterator[Connection]:
    return (one for one in wait(list(running)) if isinstance(one, Connection))


def _heard(
    connection: Connection, case: GridCase, process: BaseProcess
) -> TrainingProgress | Outcome | Failure:
    """Return what a process sent; its last word is how the run ended."""
    try:
        message = connection.recv()
    except EOFError:
        process.join()
        return Failure(case, f"its process ended with exit code {process.exitcode}")
    if isinstance(message, TrainingProgress):
        return message
    if isinstance(message, WriteError):
        raise message  # nor could any other run be written
    connection.close()
    process.join()
    return Failure(case, message) if isinstance(message, str) else message


def _processes() -> "ForkServerContext | SpawnContext":
    """Return how processes are made: forked from one that has all imports, where that can be."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _start(case: GridCase, folder: Path, workers: int, slot: int) -> tuple[Connection, BaseProcess]:
    context = _processes()
    ours, theirs = context.Pipe(duplex=False)
    threads = max(1, torch.get_num_threads() // workers)
    process = context.Process(
        target=_work, args=(case, folder, theirs, threads, slot), name=case.name, daemon=True
    )
    process.start()
    theirs.close()
    return ours, process


def _work(case: GridCase, folder: Path, home: Connection, threads: int, slot: int) -> None:
    """Run one case in a process of its own and send home how it ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # home decides what an interrupt ends
    threading.Thread(target=_end_with_home, daemon=True).start()
    keep_freed_memory()
    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        torch.cuda.set_device(slot % torch.cuda.device_count())
    try:
        home.send(run_case(case, folder, ProgressSender(home.send)))
    except WriteError as error:
        home.send(error)
    except FAILURES as error:
        home.send(one_line(error))


def _end_with_home() -> None:
    """End this process when the one that started it is gone: its runs may begin again any time."""
    home = multiprocessing.parent_process()
    assert home is not None
    home.join()
    os._exit(1)


def one_line(error: BaseException) -> str:
    """Return what an error says, or its name where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
