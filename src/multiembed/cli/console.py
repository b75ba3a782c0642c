"""What all commands share: the application, two consoles, options, who watches, files to write."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from multiembed.base.errors import UNSEEN, shown
from multiembed.base.files import write_text

if TYPE_CHECKING:
    from multiembed.training.progress import TrainingProgress
else:
    TrainingProgress = Any  # this room's own files load no other room until a command needs it

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Terminal(Console):
    """Prints names as they are: nothing in them is markup, and control characters are escapes."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)

    @override
    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str(shown(text), **how)

    @override
    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        for segment in super().render(renderable, options):  # of texts that others put together
            unseen = not segment.control and UNSEEN.search(segment.text.replace("\n", ""))
            yield Segment(_lines_shown(segment.text), segment.style) if unseen else segment


def _lines_shown(text: str) -> str:
    return "\n".join(map(shown, text.split("\n")))


out = Terminal()
err = Terminal(stderr=True)

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


class Watcher:
    """Draws a bar on standard error where that is a terminal, and prints every evaluation."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}", markup=False),
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
        err.print(text, style="yellow", soft_wrap=True)

    def announce(self, name: str) -> None:
        """Begin every line with the name of the model under way."""
        self.prefix = f"{name}  "


def write(text: str, target: str) -> None:
    """Write a page or JSON to a file; JSON, for `-`, to standard output."""
    if target != "-":
        write_text(Path(target), text)
        return
    for line in text.split("\n"):  # which hold strings alone that JSON has escapes for
        sys.stdout.write(UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", line) + "\n")


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
