"""`multiembed predict`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from multiembed.cli.console import Watcher, app, out
from multiembed.runs.run import load_run
from multiembed.serving.predict import predict as predict_rows


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="A trained run.")],
    raw: Annotated[
        str, typer.Argument(help="Raw rows of the format the dataset came from; label optional.")
    ],
    out_: Annotated[
        Path, typer.Argument(metavar="OUT", help="File to write: .csv .tsv .jsonl .parquet .arrow")
    ],
    column: Annotated[str, typer.Option(help="Name of the new column.")] = "probability",
) -> None:
    """Write raw rows, in their order, with the probability of a click."""
    trained = load_run(run)
    started = time.monotonic()
    with Watcher() as watcher:
        rows = predict_rows(
            trained,
            raw,
            out_,
            column=column,
            progress=lambda done, total: watcher.advance("predict", done, total),
        )
    speed = rows / (time.monotonic() - started)
    out.print(f"{rows:,} rows at {speed:,.0f} rows/s; written to {out_}", highlight=False)
