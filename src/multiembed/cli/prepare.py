"""`multiembed prepare`."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from multiembed.cli.console import Watcher, app, out
from multiembed.data.options import Format, PrepareOptions
from multiembed.data.prepare import prepare as prepare_dataset
from multiembed.data.schema import Schema
from multiembed.validation import checked


@app.command()
def prepare(
    source: Annotated[str, typer.Argument(help="A file of raw rows, or the word flights.")],
    dataset: Annotated[Path, typer.Argument(help="Directory to write the encoded dataset to.")],
    format: Annotated[
        Format | None, typer.Option(help="Layout of the raw rows. Default: flights, else table.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Label column of a table.")] = None,
    min_count: Annotated[
        int | None,
        typer.Option(help="Rarer values become 'other'. Default: 10 criteo, 4 avazu, 2 else."),
    ] = None,
    vocabulary: Annotated[
        Literal["train", "all"], typer.Option(help="Rows that values are counted on.")
    ] = "train",
    numeric_rule: Annotated[
        Literal["log", "quantiles"], typer.Option(help="How numbers become categories.")
    ] = "log",
    categorical: Annotated[
        list[str] | None, typer.Option(help="Column to take as categories; repeatable.")
    ] = None,
    numeric: Annotated[
        list[str] | None, typer.Option(help="Column to take as numbers; repeatable.")
    ] = None,
    max_bad_rows: Annotated[int, typer.Option(help="Most unreadable rows to leave out.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the 8:1:1 split.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace an encoded dataset.")] = False,
) -> None:
    """Encode raw rows: split 8:1:1, count values, write ids that training maps from disk."""
    options = checked(
        PrepareOptions,
        {
            "format": format or ("flights" if source == "flights" else "table"),
            "label": label,
            "min_count": min_count,
            "vocabulary": vocabulary,
            "numeric_rule": numeric_rule,
            "categorical_columns": tuple(categorical or ()),
            "numeric_columns": tuple(numeric or ()),
            "max_bad_rows": max_bad_rows,
            "seed": seed,
            "overwrite": overwrite,
        },
    )
    with Watcher() as watcher:
        schema = prepare_dataset(source, dataset, options, progress=watcher.advance)
    _print_schema(schema, dataset)


def _print_schema(schema: Schema, dataset: Path) -> None:
    table = Table(title=f"{dataset}")
    for heading in ("field", "kind"):
        table.add_column(heading)
    for heading in ("ids", "other in train", "other in test"):
        table.add_column(heading, justify="right")
    rows = {name: max(1, split.rows) for name, split in schema.splits.items()}
    for field in schema.fields:
        shares = [f"{field.other.get(name, 0) / rows[name]:.2%}" for name in ("train", "test")]
        table.add_row(field.name, field.kind, f"{field.cardinality:,}", *shares)
    out.print(table)
    sizes = ", ".join(
        f"{name} {split.rows:,} rows ({split.positives / max(1, split.rows):.1%} positive)"
        for name, split in schema.splits.items()
    )
    out.print(sizes, highlight=False)
    if schema.bad_rows.count:
        out.print(f"{schema.bad_rows.count:,} unreadable rows were left out, first:")
        for line in schema.bad_rows.first:
            out.print(f"  {line}", highlight=False)
