"""An experiment's runs on a Ray cluster: the same runs, wherever there is room for one.

Every machine must see the dataset and the folder of the runs under the same path: a run that was
killed with its machine goes on from its last checkpoint on another.
"""

import logging
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import ray
import ray.exceptions
import torch
from ray import ObjectRef
from ray.util.queue import Queue

from multiembed.base.errors import ConfigError
from multiembed.base.files import make_folder
from multiembed.base.memory import keep_freed_memory
from multiembed.experiments.grid.grid import GridCase
from multiembed.experiments.grid.outcome import GridState
from multiembed.experiments.grid.pool import (
    FAILURES,
    Job,
    Jobs,
    JobT,
    ProgressSender,
    Work,
    one_line,
)
from multiembed.experiments.grid.running import GridObserver, Ledger

LISTEN_SECONDS = 0.5
"""Between two looks at what the runs have said."""
CONNECT_SECONDS = 10.0
"""Longest wait for a cluster's answer."""


def run_cases_on_ray(
    cases: Sequence[GridCase], folder: Path, *, address: str, observer: GridObserver | None = None
) -> GridState:
    """Bring every case to its end under `folder`, on whatever the cluster has free.

    A run takes as many cores as its `training.threads`, one if that is not given, and one GPU
    where the cluster has any. Interrupted, it cancels what runs; a later call goes on from there.

    Args:
        cases: What to run.
        folder: Holds one directory per run; seen by all machines.
        address: Of a running cluster, `auto` for the one this machine belongs to, or `local` for
            one that is started for this call.
        observer: Told of every step.

    Raises:
        ConfigError: If there is no cluster at that address.
    """
    folder = folder.resolve()
    make_folder(folder)
    there = [replace(case, dataset=case.dataset.resolve()) for case in cases]
    ledger = Ledger(there, folder, observer)
    ledger.collect_finished()
    ledger.state.workers = max(1, len(ledger.waiting))
    run_on_ray(ledger, address)
    return ledger.ended_state()


def run_on_ray(jobs: Jobs[JobT], address: str) -> None:
    """Bring all that wait to their end on a cluster; the arguments are those above.

    Raises:
        ConfigError: If there is no cluster at that address.
    """
    if jobs.waiting:
        with _cluster(address):
            _run(jobs)


@contextmanager
def _cluster(address: str) -> Iterator[None]:
    try:
        _knock(address)
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"ray must be the address of a running cluster, got {address}: {one_line(error)}"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """See that somebody listens at `host:port`: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()


def _run(jobs: Jobs[JobT]) -> None:
    """Hand all runs to the cluster, and hear of them until the last has ended."""
    home = Queue(actor_options={"num_cpus": 0})
    work = ray.remote(_work)
    resources = ray.cluster_resources()
    left: dict[ObjectRef, JobT] = {}
    for job in jobs.waiting:
        asked = work.options(**_needs(job, resources))
        left[asked.remote(jobs.work, job, jobs.folder, home)] = job
    try:
        while left:
            ended, _ = ray.wait(list(left), timeout=LISTEN_SECONDS)
            _listen(home, jobs, {job.name: job for job in left.values()})
            for reference in ended:
                job = left.pop(reference)
                if job in jobs.waiting:
                    jobs.waiting.remove(job)
                jobs.end(job, _result(reference))
    finally:
        for reference in left:
            ray.cancel(reference, force=True)


def _needs(job: Job, resources: Mapping[str, float]) -> dict[str, float]:
    """Return what a run asks of the machine it goes to."""
    on_gpu = resources.get("GPU", 0) >= 1 and job.config.training.device != "cpu"
    threads = float(job.config.training.threads or 1)
    return {"num_cpus": min(threads, resources.get("CPU", 1.0)), "num_gpus": float(on_gpu)}


def _listen(home: Queue, jobs: Jobs[JobT], known: Mapping[str, JobT]) -> None:
    """Note what the runs have said since the last time; their first word is that they began."""
    for name, progress in home.get_nowait_batch(home.qsize()):
        job = known.get(name)
        if job is None:
            continue  # it has ended since
        if job in jobs.waiting:
            jobs.waiting.remove(job)
            jobs.begin(job)
        if progress is not None:
            jobs.move(job, progress)


def _result(reference: ObjectRef) -> object:
    """Return what came of a run, or why nothing did, were it that its machine is gone."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        return one_line(error)


def _work(work: Work[JobT], job: JobT, folder: Path, home: Queue) -> object:
    """Do one job somewhere on the cluster; return what came of it, or why nothing did."""
    keep_freed_memory()
    torch.set_num_threads(job.config.training.threads or 1)
    home.put((job.name, None))
    there = ProgressSender(lambda progress: home.put((job.name, progress)))
    try:
        return work(job, folder, there)
    except FAILURES as error:
        return one_line(error)
