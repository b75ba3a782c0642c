"""How the runs of an experiment are shown while they run; its results are written after each."""

from collections.abc import Sequence
from pathlib import Path

from rich.live import Live
from rich.table import Table
from rich.text import Text

from multiembed.base.errors import ConfigError
from multiembed.cli.console import err
from multiembed.experiments.grid.grid import GridCase
from multiembed.experiments.grid.outcome import Failure, GridState, Outcome, write_results
from multiembed.experiments.grid.running import run_cases

_SHOWN = 8
"""Finished runs on the screen, the newest."""


class GridWatcher:
    """Watches an experiment, and writes its results after every run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._live = Live(console=err, transient=True, auto_refresh=False)

    def __enter__(self) -> "GridWatcher":
        if err.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if err.is_terminal:
            self._live.stop()

    def moved(self, state: GridState) -> None:
        """Show how far the runs are."""
        if err.is_terminal:
            self._live.update(_screen(state), refresh=True)

    def found(self, state: GridState) -> None:
        """Say how many runs need not be run."""
        self._show(state, f"{len(state.done)} of {state.total} runs are there")

    def ended(self, state: GridState, case: GridCase, result: Outcome | Failure) -> None:
        """Say how a run ended."""
        at = f"[{len(state.done) + len(state.failed)}/{state.total}]"
        self._show(state, f"{at} {_said(case, result)}")

    def _show(self, state: GridState, line: str) -> None:
        write_results(self._folder, state)
        if err.is_terminal:
            self._live.update(_screen(state), refresh=True)
        else:
            err.print(line + _left(state), soft_wrap=True)


def run_watched(
    cases: Sequence[GridCase], folder: Path, *, workers: int, ray: str | None
) -> GridState:
    """Run an experiment, here or on the Ray cluster at an address, and show how it goes."""
    runs = folder / "runs"
    if ray is None:
        with GridWatcher(folder) as watcher:
            return run_cases(cases, runs, workers=workers, observer=watcher)
    try:
        from multiembed.cluster.ray_grid import run_cases_on_ray
    except ImportError:
        raise ConfigError("ray must be installed: pip install 'multiembed[cluster]'") from None
    with GridWatcher(folder) as watcher:
        return run_cases_on_ray(cases, runs, address=ray, observer=watcher)


def _screen(state: GridState) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("run", "how far"):
        table.add_column(heading, no_wrap=True)
    for case, outcome in state.done[-_SHOWN:]:
        table.add_row(case.name, f"test AUC {outcome.test_auc:.5f}, {outcome.seconds:.0f} s")
    for failure in state.failed[-_SHOWN:]:
        table.add_row(failure.case.name, Text(failure.reason, style="red"))
    for name, progress in state.running.items():
        far = "begins" if progress is None else f"epoch {progress.epoch}, step {progress.step}"
        of = "" if progress is None else f" of {progress.steps}, loss {progress.loss:.4f}"
        table.add_row(Text(name, style="bold"), far + of)
    counts = f"{len(state.done)} done, {len(state.running)} running, {len(state.waiting)} left"
    failed = f", {len(state.failed)} failed" if state.failed else ""
    table.caption = counts + failed + _left(state)
    return table


def _said(case: GridCase, result: Outcome | Failure) -> str:
    if isinstance(result, Failure):
        return f"{case.name} failed: {result.reason}"
    return f"{case.name} test AUC {result.test_auc:.5f} in {result.seconds:.0f} s"


def _left(state: GridState) -> str:
    seconds = state.seconds_left
    if seconds is None or seconds < 1:
        return ""
    hours, minutes = divmod(round(seconds / 60), 60)
    return f", about {hours} h {minutes:02} min left"
