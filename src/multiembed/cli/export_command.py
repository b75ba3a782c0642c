"""`multiembed export`."""

from pathlib import Path
from typing import Annotated

import typer

from multiembed.cli.console import app, out
from multiembed.runs.run import load_run
from multiembed.serving.bundle import Format
from multiembed.serving.export import export as export_run


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A trained run.")],
    out_: Annotated[Path, typer.Argument(metavar="OUT", help="New directory for the bundle.")],
    format: Annotated[
        Format, typer.Option(help="onnx: needs onnxruntime to run; torch: needs torch alone.")
    ] = "onnx",
    rows: Annotated[
        str | None,
        typer.Option(help="Raw rows to check it on. Default: the dataset's test split."),
    ] = None,
) -> None:
    """Write a bundle that turns raw values into probabilities without this library."""
    parity = export_run(load_run(run), out_, format=format, rows=rows)
    out.print(
        f"within {parity.largest_difference:.1e} of the run on {parity.rows:,} rows; "
        f"written to {out_}",
        highlight=False,
    )
