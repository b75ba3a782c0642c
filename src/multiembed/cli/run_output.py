"""Tables of what one model costs, and of what compressing it saves."""

from rich.table import Table

from multiembed.cli.console import table_of
from multiembed.models.budget import SizedModel
from multiembed.runs.compress import Compression


def costs_table(rows: list[SizedModel]) -> Table:
    """Return one line per model: parameters and operations, part by part."""
    headings = ("dim", "sets", "P table", "P inter.", "P head", "F inter.", "F head")
    table = table_of(("model",), headings)
    table.caption = "P: parameters, F: forward FLOPs per example, both in millions"
    for at, row in enumerate(rows):
        parameters, flops = row.budget.parameters, row.budget.flops
        counts = (parameters.embedding, parameters.interaction, parameters.head)
        counts += (flops.interaction, flops.head)
        name = f"{row.architecture} {row.scaling} {row.size}x"
        last = at + 1 == len(rows) or rows[at + 1].architecture != row.architecture
        numbers = (f"{count / 1e6:,.2f}" for count in counts)
        table.add_row(name, str(row.dim), str(row.sets), *numbers, end_section=last)
    return table


def compression_table(done: Compression) -> Table:
    """Return one line per field: what of its table was kept."""
    title = f"Needed dims carry {done.keep:.4g} of a table, its mean apart"
    headings = ("rows", "dims", "needed", "stored", "MB before", "MB after")
    table = table_of(("field",), headings, title=title)
    for field in done.fields:
        table.add_row(
            field.name,
            f"{field.rows:,}",
            f"{field.columns}",
            f"{field.needed}",
            f"{field.stored}",
            megabytes(field.bytes_before).removesuffix(" MB"),
            megabytes(field.bytes_after).removesuffix(" MB"),
        )
    return table


def megabytes(size: int) -> str:
    """Write a number of bytes in millions."""
    return f"{size / 1e6:,.3f} MB"
