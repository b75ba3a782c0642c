"""Runs the cases of an experiment that are not there yet, several at once, whatever befalls one."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from multiembed.base.errors import InputError
from multiembed.base.memory import keep_freed_memory
from multiembed.data.store.dataset import open_dataset
from multiembed.experiments.grid.grid import Case
from multiembed.experiments.grid.outcome import Outcome, is_finished, outcome_of
from multiembed.runs.run import build_model
from multiembed.training.progress import Observer, Progress
from multiembed.training.start import train

FAILURES = (InputError, MemoryError, RuntimeError)
"""What may befall one run while others go on; torch says RuntimeError when memory runs out."""

PRELOADED = [__name__, "torch._dynamo", "pandas"]
"""Imported once, before processes fork: a run would wait seconds for them. Torch's optimizers load
the second, pyarrow the third where it is installed."""


@dataclass(frozen=True)
class Failure:
    """A run that could not be finished, and why."""

    case: Case
    reason: str


@dataclass
class GridState:
    """Where an experiment is."""

    waiting: deque[Case]
    running: dict[str, Progress | None] = field(default_factory=dict)
    """By name, how far each run is; `None` before its first step."""
    done: list[tuple[Case, Outcome]] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    work_left: float = 0.0
    """Operations of an epoch of all runs that have not ended."""
    seconds_per_work: float | None = None
    """As the finished runs took; `None` before the first."""
    workers: int = 1

    @property
    def total(self) -> int:
        """How many runs there are."""
        return len(self.waiting) + len(self.running) + len(self.done) + len(self.failed)

    @property
    def seconds_left(self) -> float | None:
        """Time until all have ended, were they like those that have; `None` before the first."""
        if self.seconds_per_work is None:
            return None
        return self.work_left * self.seconds_per_work / self.workers


@runtime_checkable
class GridObserver(Protocol):
    """Whoever watches an experiment."""

    def moved(self, state: GridState) -> None:
        """Hear of a run that went on."""

    def ended(self, state: GridState, case: Case, result: Outcome | Failure) -> None:
        """Hear of a run that was finished or given up."""

    def found(self, state: GridState) -> None:
        """Hear, before anything runs, that earlier experiments finished some of the runs."""


def run_cases(
    cases: Sequence[Case],
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
    folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(cases, folder, observer)
    ledger.state.workers = min(workers or 1, max(1, len(cases)))
    ledger.collect_finished()
    if workers is None:
        _run_here(ledger)
    else:
        _run_in_processes(ledger, workers)
    return ledger.state


class Ledger:
    """The state of an experiment, and what every run still costs."""

    def __init__(self, cases: Sequence[Case], folder: Path, observer: GridObserver | None) -> None:
        self.folder = folder
        self.observer = observer
        self.state = GridState(deque(cases))
        self._work = {case.name: expected_work(case) for case in cases}
        self._work_done = self._seconds = 0.0
        self.state.work_left = sum(self._work.values())

    def collect_finished(self) -> None:
        """Take over what earlier experiments finished."""
        waiting = list(self.state.waiting)
        for case in waiting:
            if is_finished(self.folder / case.name):
                self.state.waiting.remove(case)
                self._count(case, outcome_of(self.folder / case.name, open_dataset(case.dataset)))
        if self.state.done and self.observer is not None:
            self.observer.found(self.state)

    def begin(self, case: Case) -> None:
        """Note that a run begins."""
        self.state.running[case.name] = None
        if self.observer is not None:
            self.observer.moved(self.state)

    def move(self, case: Case, progress: Progress) -> None:
        """Note how far a run is."""
        self.state.running[case.name] = progress
        if self.observer is not None:
            self.observer.moved(self.state)

    def end(self, case: Case, result: Outcome | Failure) -> None:
        """Note how a run ended."""
        self.state.running.pop(case.name, None)
        self._count(case, result)
        if self.observer is not None:
            self.observer.ended(self.state, case, result)

    def _count(self, case: Case, result: Outcome | Failure) -> None:
        work = self._work[case.name]
        self.state.work_left -= work
        if isinstance(result, Failure):
            self.state.failed.append(result)
        else:
            self.state.done.append((case, result))
            self._work_done += work
            self._seconds += result.seconds
            self.state.seconds_per_work = self._seconds / self._work_done


def expected_work(case: Case) -> float:
    """Estimate the operations of an epoch, for guesses at the time left.

    A training step takes three forward passes, some 15 operations per number of the tables, which
    dense Adam moves whether or not a row was met, and some 100 per number that is looked up: these
    are moved rather than computed with.
    """
    dataset = open_dataset(case.dataset)
    rows = dataset.schema.splits["train"].rows
    with torch.device("meta"):
        model = build_model(case.config, dataset.cardinalities)
    budget = model.summary()
    steps = rows / case.config.training.batch_size
    looked_up = len(dataset.cardinalities) * model.embedding.weight.shape[1]
    per_row = 3.0 * budget.flops.total + 100.0 * looked_up
    return per_row * rows + 15.0 * budget.parameters.embedding * steps


def run_case(case: Case, folder: Path, observer: Observer | None = None) -> Outcome:
    """Train one case, or go on with it, and measure it.

    Raises:
        InputError: If its configuration or its dataset does not allow it.
    """
    path = folder / case.name
    dataset = open_dataset(case.dataset)
    if not is_finished(path):
        train(case.config, dataset=dataset, run=path, resume=True, observer=observer)
    return outcome_of(path, dataset)


@dataclass(frozen=True)
class _Here:
    """Passes the progress of a run in this process on."""

    ledger: Ledger
    case: Case

    def stepped(self, progress: Progress) -> None:
        self.ledger.move(self.case, progress)

    def evaluated(self, record: Mapping[str, int | float]) -> None:
        """Say nothing: the end of a run says it all."""

    def warned(self, message: str) -> None:
        """Say nothing: the run keeps its warnings."""


def _run_here(ledger: Ledger) -> None:
    while ledger.state.waiting:
        case = ledger.state.waiting.popleft()
        ledger.begin(case)
        try:
            ledger.end(case, run_case(case, ledger.folder, _Here(ledger, case)))
        except FAILURES as error:
            ledger.end(case, Failure(case, one_line(error)))


@dataclass(frozen=True)
class _There:
    """Sends the progress of a run in another process home."""

    home: Connection

    def stepped(self, progress: Progress) -> None:
        self.home.send(progress)

    def evaluated(self, record: Mapping[str, int | float]) -> None:
        """Say nothing: the end of a run says it all."""

    def warned(self, message: str) -> None:
        """Say nothing: the run keeps its warnings."""


def _run_in_processes(ledger: Ledger, workers: int) -> None:
    """Keep `workers` processes busy, each with one run: its memory ends with it."""
    running: dict[Connection, tuple[Case, BaseProcess]] = {}
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
                if isinstance(result, Progress):
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
    connection: Connection, case: Case, process: BaseProcess
) -> Progress | Outcome | Failure:
    """Return what a process sent; its last word is how the run ended."""
    try:
        message = connection.recv()
    except EOFError:
        process.join()
        return Failure(case, f"its process ended with exit code {process.exitcode}")
    if isinstance(message, Progress):
        return message
    connection.close()
    process.join()
    return Failure(case, message) if isinstance(message, str) else message


def _start(case: Case, folder: Path, workers: int, slot: int) -> tuple[Connection, BaseProcess]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    ours, theirs = context.Pipe(duplex=False)
    threads = max(1, torch.get_num_threads() // workers)
    process = context.Process(
        target=_work, args=(case, folder, theirs, threads, slot), name=case.name, daemon=True
    )
    process.start()
    theirs.close()
    return ours, process


def _work(case: Case, folder: Path, home: Connection, threads: int, slot: int) -> None:
    """Run one case in a process of its own and send home how it ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # home decides what an interrupt ends
    threading.Thread(target=_end_with_home, daemon=True).start()
    keep_freed_memory()
    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        torch.cuda.set_device(slot % torch.cuda.device_count())
    try:
        home.send(run_case(case, folder, _There(home)))
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
