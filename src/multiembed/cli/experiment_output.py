"""What commands of many runs print: points of a grid, contrasts, advice, items of the paper."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from multiembed.base.errors import InputError
from multiembed.cli.console import err, out, table_of, write
from multiembed.experiments.analysis.advice import ABUNDANCE_QUESTION, advise
from multiembed.experiments.analysis.advice_page import advice_page
from multiembed.experiments.analysis.scaling import averages, printed_average
from multiembed.experiments.analysis.statistics import Contrast, contrasts
from multiembed.experiments.demo import DemoRow
from multiembed.experiments.grid.grid import GridCase
from multiembed.experiments.grid.outcome import Outcome, Point, Spread, points
from multiembed.experiments.paper.item_files import write_analysis
from multiembed.experiments.paper.study import ITEMS, Analysis, Scope, Study


def show_points(done: Sequence[tuple[GridCase, Outcome]], first: str, folder: Path) -> None:
    """Print what finished runs say of scaling, and write the page with the advice.

    Args:
        done: The runs.
        first: The variant that the others are compared with.
        folder: Of the experiment.
    """
    found = points(done)
    out.print(_points_table(found))
    if together := [printed_average(row) for row in averages(found)]:
        out.print(_lines_table(together, left=0))
    if compared := contrasts(found, first):
        out.print(_contrasts_table(compared, first))
    _show_advice(found, folder)


def _show_advice(found: list[Point], folder: Path) -> None:
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


def _points_table(found: list[Point]) -> Table:
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


def _contrasts_table(compared: list[Contrast], first: str) -> Table:
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


def show_items(
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


def demo_table(rows: list[DemoRow]) -> Table:
    """Return one line per model: its size, its quality, its collapse."""
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
