"""The command that compares our recipes with others' models: `compare`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typing_extensions import override

from multiembed.base.errors import DataError
from multiembed.cli.console import (
    JsonOption,
    OutArgument,
    SetOption,
    Watcher,
    app,
    err,
    out,
    table_of,
    write,
)


class CompareWatcher(Watcher):
    """Prints a line for every contender, too."""

    @override
    def evaluated(self, record: Mapping[str, int | float]) -> None:
        """Print one short line per evaluation."""
        quality = f"AUC {record['auc']:.5f}  log loss {record['log_loss']:.5f}"
        err.print(f"{self.prefix}epoch {record['epoch']:g}  {quality}")

    def ended(self, title: str, result: Any) -> None:  # noqa: ANN401
        """Say how good a contender is, or why it is not fitted."""
        if isinstance(result, str):
            err.print(f"{title} failed: {result}", style="red", soft_wrap=True)
            return
        seed = f", seed {result.seed}" if result.seed else ""
        err.print(
            f"{title}{seed}  test AUC {result.test['auc']:.5f}  "
            f"log loss {result.test['log_loss']:.5f}  {result.seconds:,.1f} s"
        )


@app.command("compare")
def compare_command(
    dataset: Annotated[Path, typer.Argument(help="An encoded dataset.")],
    out_: OutArgument,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="Contenders: base_rate, logistic_regression, lightgbm, catboost, multiembed. "
            "Default: all.",
        ),
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Recipe of ours; repeatable. Default: all."),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, max=1000, help="Trainings of each that draws anything.")
    ] = 1,
    set_: SetOption = None,
    json_: JsonOption = None,
) -> None:
    """Say what is worth it: our recipes beside trees and regression, on the same rows.

    A call that was killed goes on where it stopped when it is made again.
    """
    from multiembed.experiments.compare.comparing import compare

    names = [] if only is None else [name.strip() for name in only.split(",")]
    watcher = CompareWatcher()
    with watcher:
        found = compare(
            dataset,
            out_,
            only=names,
            recipes=recipe or [],
            assignments=set_ or [],
            seeds=seeds,
            observer=watcher,
        )
    if json_ is not None:
        write(json.dumps(found.to_dict(), indent=2), json_)
    if json_ != "-":
        _show(found, out_)
    if found.failures:
        failed = "; ".join(f"{who}: {why}" for who, why in found.failures.items())
        raise DataError(f"not fitted: {failed}")


def _show(found: Any, folder: Path) -> None:  # noqa: ANN401
    from multiembed.experiments.compare.compare_page import difference_cells, quality_cells

    headings = ("test AUC", "log loss", "pred./obs.", "seconds")
    table = table_of(("contender",), headings, open_=True)
    for one in found.standings:
        table.add_row(*quality_cells(one))
    table.caption = f"{found.threads_in_words} for each; seconds: of a fit and its scoring"
    out.print(table)
    reference = found.named(found.reference)
    headings = ("AUC", "95% interval", "log loss", "95% interval")
    table = table_of((f"less {reference.title}",), headings, open_=True)
    for name, of in found.differences.items():
        cells = {"auc": of.auc, "log_loss": of.log_loss}
        table.add_row(*difference_cells(found.named(name).title, cells))
    table.caption = f"intervals {found.basis}"
    if found.differences:
        out.print(table)
    for sentence in (*found.notes, *found.verdict):
        out.print(sentence)
    out.print(f"{folder}/report.html explains it; {folder}/results.json has all numbers")
