"""`multiembed embeddings`."""

from pathlib import Path
from typing import Annotated

import typer

from multiembed.cli.console import app, out
from multiembed.runs.run import load_run
from multiembed.serving.embeddings import write_embeddings


@app.command()
def embeddings(
    run: Annotated[Path, typer.Argument(help="A trained run.")],
    out_: Annotated[Path, typer.Argument(metavar="OUT", help="New directory for Parquet files.")],
) -> None:
    """Write embedding tables with the values behind their rows, one Parquet file per field."""
    names = write_embeddings(load_run(run), out_)
    out.print(f"{len(names)} tables written to {out_}", highlight=False)
