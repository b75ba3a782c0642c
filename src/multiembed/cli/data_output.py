"""What `prepare` prints: the fields of a dataset, or what the first rows would become."""

from collections.abc import Iterable
from pathlib import Path

from multiembed.cli.console import out, table_of
from multiembed.data.prepare import Preview
from multiembed.data.remarks import dataset_remarks
from multiembed.data.store.schema import SPLITS, Schema


def print_preview(found: Preview) -> None:
    """Print a table with one line per field that there would be."""
    names, numbers = ("field", "kind", "rule"), ("values", "ids", "rare", "missing")
    table = table_of(names, numbers, title=f"first {found.rows:,} rows; nothing was written")
    for one in found.fields:
        field = one.field
        rule = field.date.part if field.date else field.numeric.rule if field.numeric else ""
        rule += f", as {field.number.embedding}" if field.number else ""
        rule = f"split at {field.delimiter!r}" if field.delimiter else rule
        rule = "list" if field.multivalued and not field.delimiter else rule
        rule = f"hash to {field.hash_size:,}" if field.hash_size else rule
        shares = [f"{one.rare:.2%}", f"{one.missing:.2%}"]
        numbers = (f"{one.values:,}", f"{field.cardinality:,}", *shares)
        table.add_row(field.name, field.kind_in_words, rule, *numbers)
    out.print(table)
    out.print(
        f"label {found.label}: {found.positives:.1%} positive, {found.bad_rows:,} unreadable rows",
    )
    print_remarks(found.remarks)


def print_remarks(remarks: Iterable[str]) -> None:
    """Say below a table what is worth a look."""
    for line in remarks:
        out.print(line, soft_wrap=True)


def print_schema(schema: Schema, dataset: Path | str, seconds: float) -> None:
    """Print a table with one line per field, and what was written in how many seconds."""
    headings = ("ids", "other: train", "valid", "test")
    table = table_of(("field", "kind"), headings, title=f"{dataset}")
    rows = {name: max(1, split.rows) for name, split in schema.splits.items()}
    for field in schema.fields:
        shares = [f"{field.other.get(name, 0) / rows[name]:.2%}" for name in SPLITS]
        table.add_row(field.name, field.kind_in_words, f"{field.cardinality:,}", *shares)
    out.print(table)
    sizes = ", ".join(
        f"{name} {split.rows:,} rows ({split.positives / max(1, split.rows):.1%} positive)"
        for name, split in schema.splits.items()
    )
    out.print(sizes)
    for remark in dataset_remarks(schema):
        out.print(remark, soft_wrap=True)
    for field in schema.fields:
        if field.cut:
            share = field.cut / sum(rows.values())
            out.print(
                f"{field.name}: {share:.2%} of rows have more than {field.slots} values; the "
                f"{'last' if field.shares else 'first'} {field.slots} were kept",
            )
        if field.empty:
            out.print(f"{field.name}: {field.empty / sum(rows.values()):.2%} of rows have no value")
    speed = sum(split.rows for split in schema.splits.values()) / max(1e-9, seconds)
    out.print(f"{seconds:,.1f} s, {speed:,.0f} rows/s")
    if schema.bad_rows.count:
        out.print(
            f"{schema.bad_rows.count:,} unreadable rows were left out, first:", highlight=True
        )
        for line in schema.bad_rows.first:
            out.print(f"  {line}")
