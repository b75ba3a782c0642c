"""Commands about data: `prepare`."""

import tempfile
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from multiembed.base.errors import ConfigError
from multiembed.base.validation import checked
from multiembed.cli.console import Watcher, app, out, table_of
from multiembed.data.options import PrepareOptions
from multiembed.data.prepare import Preview, preview
from multiembed.data.prepare import prepare as prepare_dataset
from multiembed.data.sources.file_series import RawSource
from multiembed.data.sources.formats import FORMATS, is_embedded
from multiembed.data.store.schema import SPLITS, Schema

DEFAULTS = PrepareOptions()


@app.command("prepare")
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
    format: Annotated[
        str | None,
        typer.Option(
            metavar=f"<{'|'.join(FORMATS)}>",
            help="Layout of the raw rows. Default: flights, else table.",
        ),
    ] = None,
    train: Annotated[
        list[str] | None, typer.Option(help="File, directory or pattern to train on; repeatable.")
    ] = None,
    valid: Annotated[
        list[str] | None, typer.Option(help="The same to validate on; repeatable.")
    ] = None,
    test: Annotated[list[str] | None, typer.Option(help="The same to test on; repeatable.")] = None,
    label: Annotated[str | None, typer.Option(help="Label column of a table.")] = None,
    min_count: Annotated[
        int | None,
        typer.Option(
            help="Rarer values become 'other'. Default: "
            + ", ".join(f"{format.min_count} {name}" for name, format in FORMATS.items())
            + "."
        ),
    ] = None,
    field_min_count: Annotated[
        list[str] | None, typer.Option(metavar="FIELD=N", help="The same for a field; repeatable.")
    ] = None,
    max_values: Annotated[
        int | None, typer.Option(help="Most values kept for a field. Default: all.")
    ] = None,
    field_max_values: Annotated[
        list[str] | None, typer.Option(metavar="FIELD=N", help="The same for a field; repeatable.")
    ] = None,
    hash_size: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=N", help="Hash a field's values to N; repeatable."),
    ] = None,
    vocabulary: Annotated[
        Literal["train", "all"], typer.Option(help="Rows that values are counted on.")
    ] = DEFAULTS.vocabulary,
    numeric_rule: Annotated[
        Literal["log", "quantiles", "as_is"], typer.Option(help="How numbers become categories.")
    ] = DEFAULTS.numeric_rule,
    categorical: Annotated[
        list[str] | None, typer.Option(help="Column to take as categories; repeatable.")
    ] = None,
    numeric: Annotated[
        list[str] | None, typer.Option(help="Column to take as numbers; repeatable.")
    ] = None,
    date: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN[=FORMAT]",
            help="Column of moments, taken as hour and weekday: iso (default), s or ms since "
            "1970, or a format such as %y%m%d%H; repeatable.",
        ),
    ] = None,
    multivalued: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=TEXT",
            help="Column whose cells hold several values with this text between them, such as "
            "genres='|'; a model reads their mean or sum; repeatable.",
        ),
    ] = None,
    max_cell_values: Annotated[
        int, typer.Option(help="Most values kept of such a cell, the first ones.")
    ] = DEFAULTS.max_cell_values,
    split_by: Annotated[
        str | None,
        typer.Option(help="Column in whose order (time) the first 80% train, the last 10% test."),
    ] = None,
    split_by_group: Annotated[
        str | None, typer.Option(help="Column (user) whose equal values stay in one split.")
    ] = None,
    max_bad_rows: Annotated[
        int, typer.Option(help="Most unreadable rows to leave out.")
    ] = DEFAULTS.max_bad_rows,
    seed: Annotated[int, typer.Option(help="Seed of the 8:1:1 split.")] = DEFAULTS.seed,
    overwrite: Annotated[
        bool, typer.Option(help="Replace an encoded dataset.")
    ] = DEFAULTS.overwrite,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what the first 100,000 rows become, and stop.")
    ] = False,
) -> None:
    """Encode raw rows: split, count values, write ids that training maps from disk.

    A call that was killed goes on where it stopped when it is made again.
    """
    source, dataset = _source(paths, {"train": train, "valid": valid, "test": test}, dry_run)
    options = checked(
        PrepareOptions,
        {
            "format": format or (str(source) if is_embedded(source) else "table"),
            "label": label,
            "min_count": min_count,
            "field_min_counts": _numbers("field_min_count", field_min_count),
            "max_values": max_values,
            "field_max_values": _numbers("field_max_values", field_max_values),
            "hash_sizes": _numbers("hash_size", hash_size),
            "vocabulary": vocabulary,
            "numeric_rule": numeric_rule,
            "categorical_columns": tuple(categorical or ()),
            "numeric_columns": tuple(numeric or ()),
            "dates": _dates(date),
            "multivalued": _delimiters(multivalued),
            "max_cell_values": max_cell_values,
            "split_by": split_by,
            "split_by_group": split_by_group,
            "max_bad_rows": max_bad_rows,
            "seed": seed,
            "overwrite": overwrite,
        },
    )
    if dry_run:
        with tempfile.TemporaryDirectory() as downloads:
            _print_preview(preview(source, options, Path(downloads)))
        return
    started = time.perf_counter()
    with Watcher() as watcher:
        schema = prepare_dataset(source, dataset, options, progress=watcher.advance)
    _print_schema(schema, dataset, time.perf_counter() - started)


def _source(
    paths: list[str], splits: dict[str, list[str] | None], dry_run: bool
) -> tuple[RawSource, Path]:
    """Tell the raw rows from the directory to write."""
    given = {name: files for name, files in splits.items() if files}
    if given:
        if len(paths) > 1:
            raise ConfigError(
                f"SOURCE must be left out if files are given by split, got {paths[0]}"
            )
        return given, Path(paths[-1])
    if len(paths) == 1 and dry_run:
        return paths[0], Path()
    if len(paths) != 2:
        raise ConfigError(f"SOURCE and DATASET must be two paths, got {len(paths)}")
    return paths[0], Path(paths[1])


def _numbers(option: str, given: list[str] | None) -> dict[str, int]:
    numbers = {}
    for one in given or ():
        name, _, number = one.rpartition("=")
        if not name or not number.isdecimal():
            raise ConfigError(f"{option} must be FIELD=N, got {one!r}")
        numbers[name] = int(number)
    return numbers


def _dates(given: list[str] | None) -> dict[str, str]:
    pairs = [one.partition("=") for one in given or ()]
    return {name: format or "iso" for name, _, format in pairs}


def _delimiters(given: list[str] | None) -> dict[str, str]:
    pairs = [one.partition("=") for one in given or ()]
    for name, _, delimiter in pairs:
        if not name or not delimiter:
            raise ConfigError(f"multivalued must be COLUMN=TEXT, got {name!r}")
    return {name: delimiter for name, _, delimiter in pairs}


def _print_preview(found: Preview) -> None:
    names, numbers = ("field", "kind", "rule"), ("values", "ids", "rare", "missing")
    table = table_of(names, numbers, title=f"first {found.rows:,} rows; nothing was written")
    for one in found.fields:
        field = one.field
        rule = field.date.part if field.date else field.numeric.rule if field.numeric else ""
        rule = f"split at {field.delimiter!r}" if field.multivalued else rule
        rule = f"hash to {field.hash_size:,}" if field.hash_size else rule
        shares = [f"{one.rare:.2%}", f"{one.missing:.2%}"]
        table.add_row(
            field.name, field.kind, rule, f"{one.values:,}", f"{field.cardinality:,}", *shares
        )
    out.print(table)
    out.print(
        f"label {found.label}: {found.positives:.1%} positive, {found.bad_rows:,} unreadable rows",
    )


def _print_schema(schema: Schema, dataset: Path, seconds: float) -> None:
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
