"""Commands about data: `prepare`."""

import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from multiembed.base.errors import ConfigError
from multiembed.base.validation import checked
from multiembed.cli.console import Watcher, app, out, table_of
from multiembed.cli.option_flags import takes_options
from multiembed.data.options import PrepareOptions
from multiembed.data.prepare import Preview, preview
from multiembed.data.prepare import prepare as prepare_dataset
from multiembed.data.remarks import dataset_remarks
from multiembed.data.sources.formats import is_embedded
from multiembed.data.sources.found_files import RawSource
from multiembed.data.store.schema import SPLITS, Schema


@app.command("prepare")
@takes_options(PrepareOptions)
def prepare_command(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="[SOURCE] DATASET",
            help="SOURCE: a file, directory, 'pattern' or URL of raw rows (the word flights: real "
            "flight records); left out if --train, --valid and --test are given. "
            "DATASET: directory to write.",
        ),
    ],
    train: Annotated[
        list[str] | None, typer.Option(help="File, directory or pattern to train on; repeatable.")
    ] = None,
    valid: Annotated[
        list[str] | None, typer.Option(help="The same to validate on; repeatable.")
    ] = None,
    test: Annotated[list[str] | None, typer.Option(help="The same to test on; repeatable.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what the first 100,000 rows become, and stop.")
    ] = False,
    *,
    options: dict[str, object],
) -> None:
    """Encode raw rows: split, count values, write ids that training maps from disk.

    A call that was killed goes on where it stopped when it is made again.
    """
    source, dataset = _source(paths, {"train": train, "valid": valid, "test": test}, dry_run)
    usual = {"format": str(source) if is_embedded(source) else "table"}
    asked = checked(PrepareOptions, usual | options)
    if dry_run:
        with tempfile.TemporaryDirectory() as downloads:
            _print_preview(preview(source, asked, Path(downloads)))
        return
    started = time.perf_counter()
    with Watcher() as watcher:
        remarks: list[str] = []
        schema = prepare_dataset(
            source, dataset, asked, progress=watcher.advance, remark=remarks.append
        )
    _print_schema(schema, dataset, time.perf_counter() - started)
    _print_remarks(remarks)


def _source(
    paths: list[str], splits: dict[str, list[str] | None], dry_run: bool
) -> tuple[RawSource, Path | str]:
    """Tell the raw rows from the directory to write."""
    given = {name: files for name, files in splits.items() if files}
    if given:
        if len(paths) > 1:
            raise ConfigError(
                f"SOURCE must be left out if files are given by split, got {paths[0]}"
            )
        return given, paths[-1]
    if len(paths) == 1 and dry_run:
        return paths[0], Path()
    if len(paths) != 2:
        raise ConfigError(f"SOURCE and DATASET must be two paths, got {len(paths)}")
    return paths[0], paths[1]


def _print_preview(found: Preview) -> None:
    names, numbers = ("field", "kind", "rule"), ("values", "ids", "rare", "missing")
    table = table_of(names, numbers, title=f"first {found.rows:,} rows; nothing was written")
    for one in found.fields:
        field = one.field
        rule = field.date.part if field.date else field.numeric.rule if field.numeric else ""
        rule = f"split at {field.delimiter!r}" if field.delimiter else rule
        rule = "list" if field.multivalued and not field.delimiter else rule
        rule = f"hash to {field.hash_size:,}" if field.hash_size else rule
        shares = [f"{one.rare:.2%}", f"{one.missing:.2%}"]
        table.add_row(
            field.name, field.kind, rule, f"{one.values:,}", f"{field.cardinality:,}", *shares
        )
    out.print(table)
    out.print(
        f"label {found.label}: {found.positives:.1%} positive, {found.bad_rows:,} unreadable rows",
    )
    _print_remarks(found.remarks)


def _print_remarks(remarks: Iterable[str]) -> None:
    """Say below a table what is worth a look."""
    for line in remarks:
        out.print(line, markup=False, highlight=False, soft_wrap=True)


def _print_schema(schema: Schema, dataset: Path | str, seconds: float) -> None:
    headings = ("ids", "other: train", "valid", "test")
    table = table_of(("field", "kind"), headings, title=f"{dataset}")
    rows = {name: max(1, split.rows) for name, split in schema.splits.items()}
    for field in schema.fields:
        shares = [f"{field.other.get(name, 0) / rows[name]:.2%}" for name in SPLITS]
        table.add_row(field.name, field.kind, f"{field.cardinality:,}", *shares)
    out.print(table)
    sizes = ", ".join(
        f"{name} {split.rows:,} rows ({split.positives / max(1, split.rows):.1%} positive)"
        for name, split in schema.splits.items()
    )
    out.print(sizes)
    for remark in dataset_remarks(schema):
        out.print(remark, markup=False, soft_wrap=True)
    for field in schema.fields:
        if field.cut:
            share = field.cut / sum(rows.values())
            out.print(
                f"{field.name}: {share:.2%} of rows have more than {field.slots} values; the first "
                f"{field.slots} were kept",
            )
    speed = sum(split.rows for split in schema.splits.values()) / max(1e-9, seconds)
    out.print(f"{seconds:,.1f} s, {speed:,.0f} rows/s")
    if schema.bad_rows.count:
        out.print(
            f"{schema.bad_rows.count:,} unreadable rows were left out, first:", highlight=True
        )
        for line in schema.bad_rows.first:
            out.print(f"  {line}")
