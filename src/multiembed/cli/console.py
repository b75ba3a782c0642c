"""What all commands share: the application, two consoles, options, who watches, files to write."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from multiembed.base.errors import ConfigError
from multiembed.base.files import write_text
from multiembed.experiments.grid.grid import GridCase
from multiembed.experiments.grid.outcome import Failure, GridState, Outcome, write_results
from multiembed.experiments.grid.running import run_cases
from multiembed.training.progress import TrainingProgress

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

RunArgument = Annotated[Path, typer.Argument(help="A trained run.")]
OutArgument = Annotated[Path, typer.Argument(metavar="OUT", help="Directory to write to.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="training.max_epochs=5 and the like, for all; repeatable."),
]
WorkersOption = Annotated[int, typer.Option(min=1, help="Runs at once; they share the cores.")]
RayOption = Annotated[
    str | None, typer.Option(help="Address of a Ray cluster to run on, or auto, or local.")
]
JsonOption = Annotated[
    str | None, typer.Option("--json", help="Write JSON to this file; - for standard output.")
]

_SHOWN = 8
"""Finished runs on the screen, the newest."""


class Watcher:
    """Draws a bar on standard error where that is a terminal, and prints every evaluation."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=err,
            transient=True,
            disable=not err.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self.prefix = ""

    def __enter__(self) -> "Watcher":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Show how much of a stage is done."""
        if stage not in self._tasks:
            for task in self._tasks.values():
                self._bar.update(task, visible=False)
            self._tasks[stage] = self._bar.add_task(stage, total=total, note=note)
        self._bar.update(self._tasks[stage], completed=done, total=total, note=note)

    def stepped(self, progress: TrainingProgress) -> None:
        """Show training under way."""
        note = f"loss {progress.loss:.4f}  {progress.rows_per_second:,.0f} rows/s"
        self.advance(f"{self.prefix}epoch {progress.epoch}", progress.step, progress.steps, note)

    def evaluated(self, record: Mapping[str, int | float]) -> None:
        """Print one line per evaluation."""
        err.print(
            f"{self.prefix}epoch {record['epoch']:g}  AUC {record['auc']:.5f}  "
            f"log loss {record['log_loss']:.5f}  "
            f"abundance {record['mean_information_abundance']:.2f}  "
            f"{record['rows_per_second'] / 1e3:,.0f}k rows/s"
        )

    def warned(self, message: str) -> None:
        """Print one line of warning."""
        text = f"{self.prefix}warning: {message}"
        err.print(text, style="yellow", markup=False, soft_wrap=True)

    def announce(self, name: str) -> None:
        """Begin every line with the name of the model under way."""
        self.prefix = f"{name}  "


def write(text: str, target: str) -> None:
    """Write text to a file, or to standard output for `-`."""
    if target == "-":
        sys.stdout.write(text + "\n")
        return
    write_text(Path(target), text)


def table_of(
    left: Sequence[str], right: Sequence[str], *, open_: bool = False, title: str | None = None
) -> Table:
    """Return a table without rows.

    Args:
        left: Headings of columns that begin where they begin: names.
        right: Headings of the columns after them, which end where they end: numbers.
        open_: Without lines, which leaves a narrow screen to its numbers; only names wrap.
        title: Stands above.
    """
    table = Table(title=title)
    if open_:
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in left:
        table.add_column(heading)
    for heading in right:
        table.add_column(heading, justify="right", no_wrap=open_)
    return table


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
            err.print(line + _left(state), markup=False, soft_wrap=True)


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
