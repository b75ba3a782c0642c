"""Runs the trainings of an experiment, several at once, each in a process of its own."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import torch

from multiembed.base.errors import InputError, WriteError
from multiembed.base.memory import keep_freed_memory
from multiembed.config import RunConfig
from multiembed.training.progress import Observer, TrainingProgress

if TYPE_CHECKING:  # Windows has only the second
    from multiprocessing.context import ForkServerContext, SpawnContext

FAILURES = (InputError, MemoryError, RuntimeError)
"""What may befall one run while others go on; torch says RuntimeError when memory runs out."""

PRELOADED = ["multiembed.experiments.grid.running", "torch._dynamo", "pandas"]
"""Imported once, before processes fork: a run would wait seconds for them. Torch's optimizers load
the second, pyarrow the third where it is installed."""


@runtime_checkable
class Job(Protocol):
    """One training of an experiment."""

    @property
    def name(self) -> str:
        """What no other training of the experiment is called."""
        ...

    @property
    def config(self) -> RunConfig:
        """Whose `training` says what it needs of a machine."""
        ...


JobT = TypeVar("JobT", bound=Job)
Work = Callable[[JobT, Path, Observer], Any]
"""Does a job below a folder, and returns what came of it: a function that processes can import."""


@runtime_checkable
class Jobs(Protocol[JobT]):
    """Keeps the books: which trainings wait, and what became of the others."""

    folder: Path
    """Where their runs are."""

    @property
    def waiting(self) -> deque[JobT]:
        """Those that have not begun."""
        ...

    @property
    def work(self) -> Work[JobT]:
        """What is done with each in another process."""
        ...

    def run(self, job: JobT, observer: Observer, /) -> Any:  # noqa: ANN401
        """Do the same in this process."""

    def begin(self, job: JobT, /) -> None:
        """Note that one begins."""

    def move(self, job: JobT, progress: TrainingProgress, /) -> None:
        """Note how far one is."""

    def end(self, job: JobT, result: Any, /) -> None:  # noqa: ANN401
        """Note what came of one: what its work returned, or in words why nothing did."""


@dataclass(frozen=True)
class ProgressSender:
    """Sends the progress of a run to whoever keeps the books."""

    send: Callable[[TrainingProgress], object]

    def stepped(self, progress: TrainingProgress) -> None:
        """Send it on."""
        self.send(progress)

    def evaluated(self, record: Mapping[str, int | float]) -> None:
        """Say nothing: the end of a run says it all."""

    def warned(self, message: str) -> None:
        """Say nothing: the run keeps its warnings."""


def run_jobs(jobs: Jobs[JobT], *, workers: int | None) -> None:
    """Bring all that wait to their end.

    Args:
        jobs: Which they are; it hears of every step.
        workers: How many at once, each in a process of its own, which shares the cores; `None`
            runs one after another in this process.
    """
    if workers is None:
        _run_here(jobs)
    else:
        _run_in_processes(jobs, workers)


def _run_here(jobs: Jobs[JobT]) -> None:
    while jobs.waiting:
        job = jobs.waiting.popleft()
        jobs.begin(job)
        try:
            jobs.end(job, jobs.run(job, ProgressSender(partial(jobs.move, job))))
        except WriteError:
            raise  # nor could any other run be written
        except FAILURES as error:
            jobs.end(job, one_line(error))


def _run_in_processes(jobs: Jobs[JobT], workers: int) -> None:
    """Keep `workers` processes busy, each with one run: its memory ends with it."""
    running: dict[Connection, tuple[JobT, BaseProcess]] = {}
    free = deque(range(workers))
    slots: dict[str, int] = {}
    try:
        while jobs.waiting or running:
            while jobs.waiting and free:
                job = jobs.waiting.popleft()
                slots[job.name] = free.popleft()
                connection, process = _start(jobs, job, workers, slots[job.name])
                running[connection] = job, process
                jobs.begin(job)
            for connection in _ready(running):
                job, process = running[connection]
                result = _heard(connection, process)
                if isinstance(result, TrainingProgress):
                    jobs.move(job, result)
                    continue
                del running[connection]
                free.append(slots.pop(job.name))
                jobs.end(job, result)
    finally:
        for _, process in running.values():
            process.terminate()
            process.join()


def _ready(running: Mapping[Connection, object]) -> Iterator[Connection]:
    return (one for one in wait(list(running)) if isinstance(one, Connection))


def _heard(connection: Connection, process: BaseProcess) -> object:
    """Return what a process sent; its last word is how the run ended."""
    try:
        message = connection.recv()
    except EOFError:
        process.join()
        return f"its process ended with exit code {process.exitcode}"
    if isinstance(message, TrainingProgress):
        return message
    if isinstance(message, WriteError):
        raise message  # nor could any other run be written
    connection.close()
    process.join()
    return message


def _processes() -> "ForkServerContext | SpawnContext":
    """Return how processes are made: forked from one that has all imports, where that can be."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _start(jobs: Jobs[JobT], job: JobT, workers: int, slot: int) -> tuple[Connection, BaseProcess]:
    context = _processes()
    ours, theirs = context.Pipe(duplex=False)
    threads = max(1, torch.get_num_threads() // workers)
    asked = jobs.work, job, jobs.folder, theirs, threads, slot
    process = context.Process(target=_work, args=asked, name=job.name, daemon=True)
    process.start()
    theirs.close()
    return ours, process


def _work(
    work: Work[JobT], job: JobT, folder: Path, home: Connection, threads: int, slot: int
) -> None:
    """Do one job in a process of its own and send home how it ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # home decides what an interrupt ends
    threading.Thread(target=_end_with_home, daemon=True).start()
    keep_freed_memory()
    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        torch.cuda.set_device(slot % torch.cuda.device_count())
    try:
        home.send(work(job, folder, ProgressSender(home.send)))
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
