"""`multiembed scale`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from multiembed.base.errors import ConfigError, DataError
from multiembed.base.validation import checked
from multiembed.cli.console import app, out, write
from multiembed.cli.watching import run_watched
from multiembed.data.store.dataset import open_dataset
from multiembed.experiments.analysis.advice import ABUNDANCE_QUESTION, advise
from multiembed.experiments.analysis.advice_page import advice_page
from multiembed.experiments.analysis.averages import averages, printed_average
from multiembed.experiments.analysis.statistics import Spread
from multiembed.experiments.analysis.variants import Contrast, contrasts
from multiembed.experiments.grid.grid import Grid, expand, merged, read_grid
from multiembed.experiments.grid.results import Point, points, write_results
from multiembed.overrides import configured


@app.command()
def scale(
    dataset: Annotated[Path, typer.Argument(help="An encoded dataset.")],
    out_: Annotated[Path, typer.Argument(metavar="OUT", help="Directory to write to.")],
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
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="training.max_epochs=5 and the like, for all; repeatable."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Runs at once; they share the cores.")] = 1,
    ray: Annotated[
        str | None,
        typer.Option(help="Address of a Ray cluster to run on, or auto, or local."),
    ] = None,
) -> None:
    """Train a model at several sizes and say what scaling it brings; finished runs are kept."""
    flags = {"architectures": _names(architectures), "sizes": _names(sizes)}
    flags |= {"scaling": _names(scaling), "seeds": seeds}
    flags |= {"shares": _names(shares), "folds": folds}
    asked = _grid(grid, flags, set_ or [])
    opened = open_dataset(dataset)
    cases = expand(asked, opened, out_ / "datasets")
    state = run_watched(cases, out_, workers=workers, ray=ray)
    write_results(out_, state)
    if not state.done:
        raise DataError(f"{out_}: all {len(state.failed)} runs failed: {state.failed[0].reason}")
    found = points(state.done)
    out.print(points_table(found))
    if together := [printed_average(row) for row in averages(found)]:
        out.print(averages_table(together))
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
        out.print(recommendation.text, highlight=False)
        out.print(f"Confidence: {recommendation.confidence}.", highlight=False)
    if advice.held_out_words is not None:
        out.print(advice.held_out_words, highlight=False)
        out.print(f"{ABUNDANCE_QUESTION} {advice.abundance_words}", highlight=False)
    out.print(f"{folder}/advice.html explains it; {folder}/results.csv has every run")


def points_table(found: list[Point]) -> Table:
    """Return one line per point of a grid: means and deviations over seeds."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.caption = "±: over seeds and folds; abund.: information abundance, mean over fields"
    table.add_column("model")  # on a narrow screen it is names that wrap, not numbers
    for heading in ("dim", "params", "AUC", "±", "log loss", "±", "abund.", "/rand.", "n"):
        table.add_column(heading, justify="right", no_wrap=True)
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


def averages_table(lines: list[dict[str, str]]) -> Table:
    """Return one line per size and way: what it brings on average over architectures."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in lines[0]:
        table.add_column(heading, justify="right", no_wrap=True)
    for line in lines:
        table.add_row(*line.values())
    return table


def contrasts_table(compared: list[Contrast], first: str) -> Table:
    """Return one line per variant, point and measure: what it changes, beside what seeds do."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.caption = f"change: less {first}, pair by pair; ±: of {first} over seeds and folds"
    for heading in ("model", "variant"):
        table.add_column(heading)
    table.add_column("of", no_wrap=True)
    for heading in ("change", "95% interval", "±"):
        table.add_column(heading, justify="right", no_wrap=True)
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
    return checked(Grid, table | {key: value for key, value in flags.items() if value is not None})


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",")]
