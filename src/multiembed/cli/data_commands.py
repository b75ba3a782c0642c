"""Commands about data: `prepare`."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from multiembed.base.errors import ConfigError
from multiembed.base.validation import checked
from multiembed.cli.console import Watcher, app
from multiembed.cli.option_flags import takes_options
from multiembed.data.options import PrepareOptions

_Source = str | Mapping[str, Sequence[str]]


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
    from multiembed.cli.data_output import print_preview, print_remarks, print_schema
    from multiembed.data.prepare import prepare, preview

    source, dataset = _source(paths, {"train": train, "valid": valid, "test": test}, dry_run)
    asked = checked(PrepareOptions, options)
    if dry_run:
        with tempfile.TemporaryDirectory() as downloads:
            print_preview(preview(source, asked, Path(downloads)))
        return
    started = time.perf_counter()
    with Watcher() as watcher:
        remarks: list[str] = []
        schema = prepare(source, dataset, asked, progress=watcher.advance, remark=remarks.append)
    print_schema(schema, dataset, time.perf_counter() - started)
    print_remarks(remarks)


def _source(
    paths: list[str], splits: dict[str, list[str] | None], dry_run: bool
) -> tuple[_Source, Path | str]:
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
