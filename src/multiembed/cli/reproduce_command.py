"""`multiembed reproduce`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from multiembed.base.errors import ConfigError, DataError, InputError
from multiembed.base.validation import checked, known_name
from multiembed.cli.console import app, err, out
from multiembed.cli.watching import run_watched
from multiembed.data.store.dataset import open_dataset
from multiembed.experiments.analysis.plots import require_matplotlib
from multiembed.experiments.grid.grid import Case, Grid, distinct
from multiembed.experiments.grid.outcome import Outcome
from multiembed.experiments.paper.item_files import write_analysis, write_page
from multiembed.experiments.paper.items import ITEMS
from multiembed.experiments.paper.study import Analysis, Scope, Study
from multiembed.overrides import configured


@app.command()
def reproduce(
    item: Annotated[str, typer.Argument(help="table1 … table7, figure1 … figure17, or all.")],
    dataset: Annotated[Path, typer.Option(help="An encoded dataset.")],
    out_: Annotated[Path, typer.Option("--out", help="Directory to write to.")] = Path("paper"),
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each model.")] = 3,
    sizes: Annotated[
        str | None, typer.Option(help="Multiples of the base, by commas, in place of the paper's.")
    ] = None,
    shares: Annotated[
        str | None, typer.Option(help="Shares of the rows, by commas, in place of Table 2's.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="training.max_epochs=5 and the like, for all; repeatable."),
    ] = None,
    protocol: Annotated[
        Literal["paper", "reference"],
        typer.Option(help="What the paper says, or what its code runs: no shuffle, IPNN at 10."),
    ] = "paper",
    checkpoint: Annotated[
        Path | None, typer.Option(help="A local language model's, for figure11.")
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(min=3, help="Deal all rows into so many parts and test each once."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Runs at once; they share the cores.")] = 1,
    ray: Annotated[
        str | None,
        typer.Option(help="Address of a Ray cluster to run on, or auto, or local."),
    ] = None,
) -> None:
    """Make a table or a figure of the paper, published beside measured; runs are shared."""
    names = _names(item, checkpoint)
    require_matplotlib()
    amounts = checked(
        Grid,
        {
            key: [part.strip() for part in text.split(",")]
            for key, text in (("sizes", sizes), ("shares", shares))
            if text is not None
        },
    )
    scope = Scope(
        dataset=open_dataset(dataset),
        folder=out_,
        seeds=seeds,
        folds=folds,
        sizes=None if sizes is None else tuple(sorted(set(amounts.sizes))),
        shares=None if shares is None else amounts.shares,
        settings=configured(None, set_ or [], {}).model_dump(mode="json", exclude_unset=True),
        checkpoint=checkpoint,
        reference=protocol == "reference",
    )
    plans = {name: ITEMS[name].plan(scope) for name in names}
    cases = distinct(case for plan in plans.values() for case in plan)
    done = run_watched(cases, out_, workers=workers, ray=ray).done if cases else []
    outcomes = {case.name: outcome for case, outcome in done}
    found, failures = _analyse(plans, outcomes, scope)
    if item == "all" and found:
        page = write_page(out_, found, dataset=str(dataset))
        out.print(f"All on one page: {page}", highlight=False)
    if failures:
        raise DataError("; ".join(failures))


def _names(item: str, checkpoint: Path | None) -> list[str]:
    """Return the items that were asked for; `all` is all that can be made."""
    if item == "all":
        twice = {"table5", "table6"}  # they are Table 1 again
        if checkpoint is None:
            twice.add("figure11")
        return [name for name in ITEMS if name not in twice]
    if item == "figure7":
        raise ConfigError("item must be measured, got figure7, a drawing of the architecture")
    known_name(item, [*ITEMS, "all"], subject="item")
    if item == "figure11" and checkpoint is None:
        raise ConfigError("figure11 must have --checkpoint, a local T5 or the like, got none")
    return [item]


def _analyse(
    plans: dict[str, list[Case]], outcomes: dict[str, Outcome], scope: Scope
) -> tuple[dict[str, tuple[str, Analysis]], list[str]]:
    """Print and write every item; one that cannot be made does not stop the others."""
    found, failures = {}, []
    for name, plan in plans.items():
        item = ITEMS[name]
        try:
            analysis = item.analyse(Study(scope, plan, outcomes))
            paths = write_analysis(name, analysis, scope.folder)
        except InputError as error:
            failures.append(f"{name}: {error}")
            continue
        found[name] = item.title, analysis
        out.print(f"{name}: {item.title}", style="bold", highlight=False)
        for lines in analysis.tables:
            out.print(_table(lines))
        for finding in analysis.findings:
            out.print(finding, highlight=False)
        err.print("written: " + ", ".join(str(path) for path in paths), soft_wrap=True)
    return found, failures


def _table(lines: Sequence[Mapping[str, str]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    columns = list(dict.fromkeys(column for line in lines for column in line))
    for at, column in enumerate(columns):
        table.add_column(column, justify="left" if at == 0 else "right", no_wrap=True)
    for line in lines:
        table.add_row(*(line.get(column, "") for column in columns))
    return table
