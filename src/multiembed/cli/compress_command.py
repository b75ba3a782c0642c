"""`multiembed compress`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from multiembed.cli.console import app, out
from multiembed.runs.compress import Compression, compress_run


@app.command()
def compress(
    run: Annotated[Path, typer.Argument(help="A trained run.")],
    out_: Annotated[Path, typer.Argument(metavar="OUT", help="Directory to write to.")],
    keep: Annotated[
        float, typer.Option(help="Share of the energy of every table to keep, above 0 to 1.")
    ] = 0.99,
) -> None:
    """Store every table in the few directions that carry it; say what that saves and costs."""
    done = compress_run(run, out_, keep=keep)
    out.print(_field_table(done))
    saved = 1 - done.bytes_after / done.bytes_before
    out.print(
        f"tables {_megabytes(done.bytes_before)} -> {_megabytes(done.bytes_after)} "
        f"({saved:.0%} saved)",
        highlight=False,
    )
    for measure in ("auc", "log_loss"):
        before, after = done.before[measure], done.after[measure]
        out.print(
            f"test {measure.replace('auc', 'AUC').replace('_', ' ')} {before:.6f} -> {after:.6f} "
            f"({after - before:+.6f})",
            highlight=False,
        )
    out.print(f"written to {out_}", highlight=False)


def _field_table(done: Compression) -> Table:
    table = Table(title=f"Needed dims carry {done.keep:.4g} of a table, its mean apart")
    table.add_column("field")
    for heading in ("rows", "dims", "needed", "stored", "MB before", "MB after"):
        table.add_column(heading, justify="right")
    for field in done.fields:
        table.add_row(
            field.name,
            f"{field.rows:,}",
            f"{field.columns}",
            f"{field.needed}",
            f"{field.stored}",
            _megabytes(field.bytes_before).removesuffix(" MB"),
            _megabytes(field.bytes_after).removesuffix(" MB"),
        )
    return table


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.3f} MB"
