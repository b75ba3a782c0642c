"""`multiembed diagnose`."""

from pathlib import Path
from typing import Annotated

import typer

from multiembed.cli.console import JsonOption, Watcher, app, out, write
from multiembed.diagnosis.diagnose import diagnose as diagnose_tables
from multiembed.diagnosis.readers.cardinalities import parse_cardinalities
from multiembed.report.terminal import terminal_table


@app.command()
def diagnose(
    source: Annotated[Path, typer.Argument(help="A run directory or a checkpoint.")],
    cardinalities: Annotated[
        str | None,
        typer.Option(help="Field sizes by commas, or a file of them, for one table of all fields."),
    ] = None,
    split_sets: Annotated[
        int | None,
        typer.Option(help="Compare the columns of a model with one set as so many sets."),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page to this file.")] = None,
    json_: JsonOption = None,
) -> None:
    """Say whether embeddings are collapsed, where, and because of whom."""
    with Watcher() as watcher:
        diagnosis = diagnose_tables(
            source,
            cardinalities=None if cardinalities is None else parse_cardinalities(cardinalities),
            split_sets=split_sets,
            progress=lambda done, total: watcher.advance("fields", done, total),
        )
    if html is not None:
        write(diagnosis.to_html(), str(html))
    if json_ is not None:
        write(diagnosis.to_json(), json_)
    if json_ != "-":
        out.print(terminal_table(diagnosis))
