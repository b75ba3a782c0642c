"""The command line: parse, call, print. No other module prints."""

import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

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
from rich.table import Table

from multiembed import __version__
from multiembed.collapse.diagnosis import diagnose as diagnose_tables
from multiembed.data.options import Format, PrepareOptions
from multiembed.data.prepare import prepare as prepare_dataset
from multiembed.data.schema import Schema
from multiembed.errors import ConfigError, InputError
from multiembed.experiments.demo import DemoRow, run_demo
from multiembed.overrides import configured
from multiembed.report.terminal import terminal_table
from multiembed.training import Progress as TrainingProgress
from multiembed.training import load_run
from multiembed.training import train as train_run
from multiembed.validation import checked

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
            f"{record['rows_per_second']:,.0f} rows/s",
            highlight=False,
        )

    def announce(self, name: str) -> None:
        """Begin every line with the name of the model under way."""
        self.prefix = f"{name}  "


@app.command()
def prepare(
    source: Annotated[str, typer.Argument(help="A file of raw rows, or the word flights.")],
    dataset: Annotated[Path, typer.Argument(help="Directory to write the encoded dataset to.")],
    format: Annotated[
        Format | None, typer.Option(help="Layout of the raw rows. Default: flights, else table.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Label column of a table.")] = None,
    min_count: Annotated[
        int | None,
        typer.Option(help="Rarer values become 'other'. Default: 10 criteo, 4 avazu, 2 else."),
    ] = None,
    vocabulary: Annotated[
        Literal["train", "all"], typer.Option(help="Rows that values are counted on.")
    ] = "train",
    numeric_rule: Annotated[
        Literal["log", "quantiles"], typer.Option(help="How numbers become categories.")
    ] = "log",
    categorical: Annotated[
        list[str] | None, typer.Option(help="Column to take as categories; repeatable.")
    ] = None,
    numeric: Annotated[
        list[str] | None, typer.Option(help="Column to take as numbers; repeatable.")
    ] = None,
    max_bad_rows: Annotated[int, typer.Option(help="Most unreadable rows to leave out.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the 8:1:1 split.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace an encoded dataset.")] = False,
) -> None:
    """Encode raw rows: split 8:1:1, count values, write ids that training maps from disk."""
    options = checked(
        PrepareOptions,
        {
            "format": format or ("flights" if source == "flights" else "table"),
            "label": label,
            "min_count": min_count,
            "vocabulary": vocabulary,
            "numeric_rule": numeric_rule,
            "categorical_columns": tuple(categorical or ()),
            "numeric_columns": tuple(numeric or ()),
            "max_bad_rows": max_bad_rows,
            "seed": seed,
            "overwrite": overwrite,
        },
    )
    with Watcher() as watcher:
        schema = prepare_dataset(source, dataset, options, progress=watcher.advance)
    _print_schema(schema, dataset)


@app.command()
def train(
    dataset: Annotated[Path, typer.Argument(help="An encoded dataset.")],
    run: Annotated[Path, typer.Argument(help="Directory to write the run to.")],
    config: Annotated[Path | None, typer.Option(help="TOML configuration.")] = None,
    architecture: Annotated[str | None, typer.Option(help="dnn, dcnv2, …")] = None,
    dim: Annotated[int | None, typer.Option(help="Size of one set's embedding.")] = None,
    sets: Annotated[int | None, typer.Option(help="Number of embedding sets.")] = None,
    size: Annotated[int | None, typer.Option(help="Multiple of the paper's base size.")] = None,
    scaling: Annotated[str | None, typer.Option(help="How to reach it: single or multi.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of initialisation, order, dropout.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="training.learning_rate=0.01 and the like; repeatable."),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Begin anew in a run's directory.")] = False,
) -> None:
    """Train a model; the paper's protocol and hyperparameters unless told otherwise."""
    flags = {
        "model.architecture": architecture,
        "model.dim": dim,
        "model.sets": sets,
        "model.size": size,
        "model.scaling": scaling,
        "training.seed": seed,
    }
    unchanged = config is None and not set_ and all(flag is None for flag in flags.values())
    asked = None if resume and unchanged else configured(config, set_ or [], flags)
    with Watcher() as watcher:
        finished = train_run(
            asked, dataset=dataset, run=run, resume=resume, overwrite=overwrite, observer=watcher
        )
    best = finished.best_state
    out.print(
        f"best validation AUC {best['auc']:.5f}, log loss {best['log_loss']:.5f} "
        f"at step {best['step']}; written to {run}",
        highlight=False,
    )


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="A trained run.")],
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    group: Annotated[
        str | None, typer.Option(help="Field within whose values to measure AUC too.")
    ] = None,
    json_: JsonOption = None,
) -> None:
    """Measure a trained run on a split of its dataset."""
    result = load_run(run).evaluate(split, group=group)
    if json_ is not None:
        _write(json.dumps(result, indent=2), json_)
        return
    table = Table("measure", "value", title=f"{run}, {split} split")
    for name, value in result.items():
        table.add_row(
            name.replace("_", " "), f"{value:,.0f}" if name.endswith("rows") else f"{value:.6f}"
        )
    out.print(table)


@app.command()
def diagnose(
    source: Annotated[Path, typer.Argument(help="A run directory or a checkpoint.")],
    html: Annotated[Path | None, typer.Option(help="Write a page to this file.")] = None,
    json_: JsonOption = None,
) -> None:
    """Say whether embeddings are collapsed, where, and because of whom."""
    with Watcher() as watcher:
        diagnosis = diagnose_tables(
            source, progress=lambda done, total: watcher.advance("fields", done, total)
        )
    if html is not None:
        _write(diagnosis.to_html(), str(html))
    if json_ is not None:
        _write(diagnosis.to_json(), json_)
    if json_ != "-":
        out.print(terminal_table(diagnosis))


@app.command()
def demo(
    out_: Annotated[Path, typer.Argument(metavar="OUT", help="Directory to write to.")] = Path(
        "demo"
    ),
) -> None:
    """Train three models on real flight records and compare their collapse; minutes."""
    with Watcher() as watcher:
        result = run_demo(out_, watcher)
    out.print(_demo_table(result.rows))
    for sentence in result.findings:
        out.print(sentence, highlight=False)
    out.print(f"Report: {result.report}", highlight=False)


def _demo_table(rows: list[DemoRow]) -> Table:
    table = Table(title="DCNv2 on flight records: arrived more than 15 minutes late?")
    table.add_column("model")
    for heading in ("parameters", "test AUC", "log loss", "raw", "centred", "of null", "seconds"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row.model,
            f"{row.parameters / 1e6:.2f}M",
            f"{row.test_auc:.5f}",
            f"{row.test_log_loss:.5f}",
            f"{row.abundance:.2f}",
            f"{row.centered_abundance:.2f}",
            f"{row.normalized_abundance:.2f}",
            f"{row.seconds:.0f}",
        )
    table.caption = "raw, centred, of null: information abundance, mean over fields"
    return table


def _print_schema(schema: Schema, dataset: Path) -> None:
    table = Table(title=f"{dataset}")
    for heading in ("field", "kind"):
        table.add_column(heading)
    for heading in ("ids", "other in train", "other in test"):
        table.add_column(heading, justify="right")
    rows = {name: max(1, split.rows) for name, split in schema.splits.items()}
    for field in schema.fields:
        shares = [f"{field.other.get(name, 0) / rows[name]:.2%}" for name in ("train", "test")]
        table.add_row(field.name, field.kind, f"{field.cardinality:,}", *shares)
    out.print(table)
    sizes = ", ".join(
        f"{name} {split.rows:,} rows ({split.positives / max(1, split.rows):.1%} positive)"
        for name, split in schema.splits.items()
    )
    out.print(sizes, highlight=False)
    if schema.bad_rows.count:
        out.print(f"{schema.bad_rows.count:,} unreadable rows were left out, first:")
        for line in schema.bad_rows.first:
            out.print(f"  {line}", highlight=False)


def _write(text: str, target: str) -> None:
    if target == "-":
        sys.stdout.write(text + "\n")
        return
    try:
        Path(target).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{target} must be writable, got: {error.strerror}") from None


def _version(asked: bool | None) -> None:
    if asked:
        out.print(f"multiembed {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool | None,
        typer.Option("--version", callback=_version, is_eager=True, help="Say the version."),
    ] = None,
) -> None:
    """Click-through-rate models that keep getting better as they grow."""


def main() -> int:
    """Run the command line: 0 done, 2 the input is wrong (said in one line), 1 our bug."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        return app(standalone_mode=False, prog_name="multiembed") or 0
    except InputError as error:
        err.print(
            f"multiembed: {error}", style="red", highlight=False, markup=False, soft_wrap=True
        )
    except typer.TyperException as error:
        err.print(error.format_message(), highlight=False, markup=False, soft_wrap=True)
    except KeyboardInterrupt:
        err.print("multiembed: interrupted; what was finished is kept", highlight=False)
        return 130
    return 2
