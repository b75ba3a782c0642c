"""Commands of many runs: `scale`, `reproduce`, `demo`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from multiembed.base.errors import ConfigError, DataError, InputError
from multiembed.base.validation import checked, known_name
from multiembed.cli.console import (
    OutArgument,
    RayOption,
    SetOption,
    Watcher,
    WorkersOption,
    app,
    err,
    out,
    run_watched,
    table_of,
    write,
)
from multiembed.config import configured
from multiembed.data.store.dataset import open_dataset
from multiembed.experiments.analysis.advice import ABUNDANCE_QUESTION, advise
from multiembed.experiments.analysis.advice_page import advice_page
from multiembed.experiments.analysis.scaling import averages, printed_average
from multiembed.experiments.analysis.statistics import Contrast, contrasts
from multiembed.experiments.demo import DemoRow, run_demo
from multiembed.experiments.grid.grid import Grid, GridCase, distinct, expand, merged, read_grid
from multiembed.experiments.grid.outcome import Outcome, Point, Spread, points, write_results
from multiembed.experiments.paper.item_files import require_matplotlib, write_analysis, write_page
from multiembed.experiments.paper.study import ITEMS, Analysis, Item, Scope, Study


@app.command("scale")
def scale_command(
    dataset: Annotated[Path, typer.Argument(help="An encoded dataset.")],
    out_: OutArgument,
    grid: Annotated[
        Path | None, typer.Option(help="TOML file of a grid; flags take precedence.")
    ] = None,
    architectures: Annotated[
        str | None, typer.Option(help="Names, by commas. Default: dcnv2.")
    ] = None,
    sizes: Annotated[
        str | None, typer.Option(help="Multiples of the base size. Default: 1,2,4,10.")
    ] = None,
    scaling: Annotated[
        str | None, typer.Option(help="single, multi or both. Default: single,multi.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Trainings of each. Default: 3.")] = None,
    shares: Annotated[
        str | None, typer.Option(help="Shares of the training rows, by commas. Default: 1.")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="Deal all rows into so many parts and test each once.")
    ] = None,
    set_: SetOption = None,
    workers: WorkersOption = 1,
    ray: RayOption = None,
) -> None:
    """Train a model at several sizes and say what scaling it brings; finished runs are kept."""
    lists = {"architectures": architectures, "sizes": sizes, "scaling": scaling, "shares": shares}
    numbers = {name: n for name, n in {"seeds": seeds, "folds": folds}.items() if n is not None}
    asked = _grid(grid, _parts(lists) | numbers, set_ or [])
    opened = open_dataset(dataset)
    cases = expand(asked, opened, out_ / "datasets")
    state = run_watched(cases, out_, workers=workers, ray=ray)
    write_results(out_, state)
    if not state.done:
        raise DataError(f"{out_}: all {len(state.failed)} runs failed: {state.failed[0].reason}")
    found = points(state.done)
    out.print(points_table(found))
    if together := [printed_average(row) for row in averages(found)]:
        out.print(_lines_table(together, left=0))
    first = next(iter(asked.variants), "")
    if compared := contrasts(found, first):
        out.print(contrasts_table(compared, first))
    _advise(found, out_)
    if state.failed:
        raise DataError(f"{len(state.failed)} of {len(cases)} runs failed: see {out_}/results.json")


def _advise(found: list[Point], folder: Path) -> None:
    advice = advise(found)
    write(advice_page(advice), str(folder / "advice.html"))
    for recommendation in advice.recommendations:
        out.print(recommendation.text)
        out.print(f"Confidence: {recommendation.confidence}.")
    if advice.held_out_words is not None:
        out.print(advice.held_out_words)
        out.print(f"{ABUNDANCE_QUESTION} {advice.abundance_words}")
    files = f"{folder}/advice.html explains it; {folder}/results.csv has every run"
    out.print(files, highlight=True)


def points_table(found: list[Point]) -> Table:
    """Return one line per point of a grid: means and deviations over seeds."""
    headings = ("dim", "params", "AUC", "±", "log loss", "±", "abund.", "/rand.", "n")
    table = table_of(("model",), headings, open_=True)
    table.caption = "±: over seeds and folds; abund.: information abundance, mean over fields"
    for point in found:
        first = point.outcomes[0]
        auc, loss = point.spread("test_auc"), point.spread("test_log_loss")
        table.add_row(
            point.labels.point,
            f"{first.sets}x{first.dim}" if first.sets > 1 else str(first.dim),
            f"{first.parameters / 1e6:.2f}M",
            *(f"{auc.mean:.5f}", _deviation(auc), f"{loss.mean:.5f}", _deviation(loss)),
            f"{point.spread('information_abundance').mean:.2f}",
            f"{point.spread('normalized_information_abundance').mean:.2f}",
            str(auc.count),
        )
    return table


def contrasts_table(compared: list[Contrast], first: str) -> Table:
    """Return one line per variant, point and measure: what it changes, beside what seeds do."""
    names, numbers = ("model", "variant", "of"), ("change", "95% interval", "±")
    table = table_of(names, numbers, open_=True)
    table.columns[2].no_wrap = True
    table.caption = f"change: less {first}, pair by pair; ±: of {first} over seeds and folds"
    for one in compared:
        found = one.difference
        table.add_row(
            one.model,
            one.variant,
            one.measure,
            f"{found.difference:+.5f}",
            "" if found.count < 2 else f"{found.t.low:+.5f} to {found.t.high:+.5f}",
            _deviation(one.first),
        )
    return table


def _deviation(spread: Spread) -> str:
    return "" if spread.count < 2 else f"{spread.std:.5f}".removeprefix("0")


def _grid(file: Path | None, flags: dict[str, Any], assignments: list[str]) -> Grid:
    settings = configured(None, assignments, {})
    table = {} if file is None else read_grid(file).model_dump(exclude_unset=True)
    common = settings.model_dump(mode="json", exclude_unset=True)
    if "dataset" in common:
        raise ConfigError("--set dataset must be left out, got one: DATASET says it")
    table = merged(table, common)
    return checked(Grid, table | flags)


def _parts(lists: Mapping[str, str | None]) -> dict[str, Any]:
    """Return what stands between commas, of those flags that were given."""
    given = {name: text for name, text in lists.items() if text is not None}
    return {name: [part.strip() for part in text.split(",")] for name, text in given.items()}


@app.command("reproduce")
def reproduce_command(
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
    set_: SetOption = None,
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
    workers: WorkersOption = 1,
    ray: RayOption = None,
) -> None:
    """Make a table or a figure of the paper, published beside measured; runs are shared."""
    names = _items(item, checkpoint)
    require_matplotlib()
    amounts = checked(Grid, _parts({"sizes": sizes, "shares": shares}))
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
        out.print(f"All on one page: {page}")
    if failures:
        raise DataError("; ".join(failures))


def _items(item: str, checkpoint: Path | None) -> list[str]:
    """Return the items that were asked for; `all` is all that can be made."""
    if item == "all":
        names: dict[Item, str] = {}
        for name, one in ITEMS.items():
            names.setdefault(one, name)  # Tables 5 and 6 are Table 1 again
        return [name for one, name in names.items() if checkpoint or not one.needs_checkpoint]
    if item == "figure7":
        raise ConfigError("item must be measured, got figure7, a drawing of the architecture")
    known_name(item, [*ITEMS, "all"], subject="item")
    if ITEMS[item].needs_checkpoint and checkpoint is None:
        raise ConfigError(f"{item} must have --checkpoint, a local T5 or the like, got none")
    return [item]


def _analyse(
    plans: dict[str, list[GridCase]], outcomes: dict[str, Outcome], scope: Scope
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
        out.print(f"{name}: {item.title}", style="bold")
        for lines in analysis.tables:
            out.print(_lines_table(lines))
        for finding in analysis.findings:
            out.print(finding)
        written = "written: " + ", ".join(map(str, paths))
        err.print(written, soft_wrap=True, highlight=True)
    return found, failures


def _lines_table(lines: Sequence[Mapping[str, str]], *, left: int = 1) -> Table:
    """Return lines as a table, whose first `left` columns begin where they begin."""
    columns = list(dict.fromkeys(column for line in lines for column in line))
    table = table_of(columns[:left], columns[left:], open_=True)
    for column in table.columns:
        column.no_wrap = True
    for line in lines:
        table.add_row(*(line.get(column, "") for column in columns))
    return table


@app.command("demo")
def demo_command(
    out_: OutArgument = Path("demo"),
) -> None:
    """Train three models on real flight records and compare their collapse; minutes."""
    with Watcher() as watcher:
        result = run_demo(out_, watcher)
    out.print(_demo_table(result.rows))
    for sentence in result.findings:
        out.print(sentence)
    out.print(f"Report: {result.report}")


def _demo_table(rows: list[DemoRow]) -> Table:
    headings = ("size", "test AUC", "log loss", "raw", "centred", "of null", "sec.")
    title = "DCNv2 on flight records: arrived more than 15 minutes late?"
    table = table_of(("model",), headings, title=title)
    for column in table.columns:
        column.no_wrap = True
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
    table.caption = (
        "size: parameters. raw, centred, of null (share of a random table's): "
        "information abundance, mean over fields"
    )
    return table
