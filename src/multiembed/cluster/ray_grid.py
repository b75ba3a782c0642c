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
from multiembed.experiments.grid.outcome import Failure, GridState, Outcome
from multiembed.experiments.grid.running import (
    FAILURES,
    GridObserver,
    Ledger,
    ProgressSender,
    one_line,
    run_case,
)

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
    ledger = Ledger(cases, folder, observer)
    ledger.collect_finished()
    if ledger.state.waiting:
        with _cluster(address):
            _run(ledger)
    return ledger.ended_state()


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


def _run(ledger: Ledger) -> None:
    """Hand all runs to the cluster, and hear of them until the last has ended."""
    home = Queue(actor_options={"num_cpus": 0})
    work = ray.remote(_work)
    resources = ray.cluster_resources()
    ledger.state.workers = max(1, min(int(resources.get("CPU", 1)), len(ledger.state.waiting)))
    cases = {case.name: case for case in ledger.state.waiting}
    left: dict[ObjectRef, GridCase] = {}
    for case in cases.values():
        needs = _needs(case, resources)
        there = replace(case, dataset=case.dataset.resolve())
        left[work.options(**needs).remote(there, ledger.folder, home)] = case
    try:
        while left:
            ended, _ = ray.wait(list(left), timeout=LISTEN_SECONDS)
            _listen(home, ledger, cases)
            for reference in ended:
                case = left.pop(reference)
                if case in ledger.state.waiting:
                    ledger.state.waiting.remove(case)
                ledger.end(case, _result(reference, case))
    finally:
        for reference in left:
            ray.cancel(reference, force=True)


def _needs(case: GridCase, resources: Mapping[str, float]) -> dict[str, float]:
    """Return what a run asks of the machine it goes to."""
    on_gpu = resources.get("GPU", 0) >= 1 and case.config.training.device != "cpu"
    threads = float(case.config.training.threads or 1)
    return {"num_cpus": min(threads, resources.get("CPU", 1.0)), "num_gpus": float(on_gpu)}


def _listen(home: Queue, ledger: Ledger, cases: dict[str, GridCase]) -> None:
    """Note what the runs have said since the last time; their first word is that they began."""
    for name, progress in home.get_nowait_batch(home.qsize()):
        case = cases[name]
        if case in ledger.state.waiting:
            ledger.state.waiting.remove(case)
            ledger.begin(case)
        if progress is not None and name in ledger.state.running:
            ledger.move(case, progress)


def _result(reference: ObjectRef, case: GridCase) -> Outcome | Failure:
    """Return how a run ended, were it with its machine."""
    try:
        found = ray.get(reference)
    except ray.exceptions.RayError as error:
        return Failure(case, one_line(error))
    return Failure(case, found) if isinstance(found, str) else found


def _work(case: GridCase, folder: Path, home: Queue) -> Outcome | str:
    """Run one case somewhere on the cluster; return what came of it, or why nothing did."""
    keep_freed_memory()
    torch.set_num_threads(case.config.training.threads or 1)
    home.put((case.name, None))
    there = ProgressSender(lambda progress: home.put((case.name, progress)))
    try:
        return run_case(case, folder, there)
    except FAILURES as error:
        return one_line(error)
