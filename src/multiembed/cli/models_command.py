"""`multiembed models`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from multiembed.base.errors import ConfigError
from multiembed.cli.console import JsonOption, app, out, write
from multiembed.data.store.dataset import open_dataset
from multiembed.models.interactions.architectures import ARCHITECTURES
from multiembed.models.naming import Scaling
from multiembed.models.sizes import SizedModel, sized_models


@app.command()
def models(
    dataset: Annotated[Path, typer.Argument(help="An encoded dataset; it gives the fields.")],
    architectures: Annotated[str, typer.Option(help="Names, by commas.")] = ",".join(ARCHITECTURES),
    sizes: Annotated[str, typer.Option(help="Multiples of the base size, by commas.")] = "1,4,10",
    scaling: Annotated[str, typer.Option(help="single, multi or both.")] = "single,multi",
    json_: JsonOption = None,
) -> None:
    """Show what every architecture costs at every size: parameters, FLOPs per example."""
    rows = sized_models(
        open_dataset(dataset).cardinalities,
        architectures=[name.strip() for name in architectures.split(",")],
        sizes=_sizes(sizes),
        scalings=_scalings(scaling),
    )
    if json_ is not None:
        write(json.dumps([asdict(row) for row in rows], indent=2), json_)
        return
    out.print(_table(rows))


def _table(rows: list[SizedModel]) -> Table:
    table = Table(caption="P: parameters, F: forward FLOPs per example, both in millions")
    table.add_column("model")
    for heading in ("dim", "sets", "P table", "P inter.", "P head", "F inter.", "F head"):
        table.add_column(heading, justify="right")
    for at, row in enumerate(rows):
        parameters, flops = row.budget.parameters, row.budget.flops
        counts = (parameters.embedding, parameters.interaction, parameters.head)
        counts += (flops.interaction, flops.head)
        name = f"{row.architecture} {row.scaling} {row.size}x"
        last = at + 1 == len(rows) or rows[at + 1].architecture != row.architecture
        numbers = (f"{count / 1e6:,.2f}" for count in counts)
        table.add_row(name, str(row.dim), str(row.sets), *numbers, end_section=last)
    return table


def _sizes(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ConfigError(f"sizes must be whole numbers by commas, got '{text}'")
    return [int(part) for part in parts]


def _scalings(text: str) -> list[Scaling]:
    known: dict[str, Scaling] = {"single": "single", "multi": "multi"}
    names = [part.strip() for part in text.split(",")]
    for name in names:
        if name not in known:
            raise ConfigError(f"scaling must be single, multi or both by a comma, got '{name}'")
    return [known[name] for name in names]
