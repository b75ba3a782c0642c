"""What all commands share: the application, two consoles, a progress bar, files to write."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from multiembed.base.errors import ConfigError
from multiembed.training.progress import Progress as TrainingProgress

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
out = Console()
err = Console(stderr=True)

JsonOption = Annotated[
    str | None, typer.Option("--json", help="Write JSON to this file; - for standard output.")
]


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
            f"{record['rows_per_second'] / 1e3:,.0f}k rows/s",
            highlight=False,
        )

    def warned(self, message: str) -> None:
        """Print one line of warning."""
        err.print(
            f"{self.prefix}warning: {message}",
            style="yellow",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )

    def announce(self, name: str) -> None:
        """Begin every line with the name of the model under way."""
        self.prefix = f"{name}  "


def write(text: str, target: str) -> None:
    """Write text to a file, or to standard output for `-`."""
    if target == "-":
        sys.stdout.write(text + "\n")
        return
    try:
        Path(target).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{target} must be writable, got: {error.strerror}") from None
