"""Commands of one model: its cost, its training, its quality, its collapse, and its use."""

import json
import shlex
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from multiembed.base.errors import ConfigError, DataError, WriteError, without_secrets
from multiembed.base.validation import known_name
from multiembed.cli.console import JsonOption, OutArgument, RunArgument, Watcher, app, out, write
from multiembed.models.interactions.architectures import ARCHITECTURES
from multiembed.models.naming import Scaling
from multiembed.models.vector_settings import parse_pretrained
from multiembed.runs.given_config import configured


@app.command("train")
def train_command(
    dataset: Annotated[Path, typer.Argument(help="An encoded dataset.")],
    run: Annotated[Path, typer.Argument(help="Directory to write the run to.")],
    config: Annotated[
        Path | None, typer.Option(help="TOML configuration; what it leaves open is the paper's.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(metavar="robust|paper", help="Says what is not given. Default: robust."),
    ] = None,
    architecture: Annotated[str | None, typer.Option(help="dnn, dcnv2, …")] = None,
    dim: Annotated[int | None, typer.Option(help="Size of one set's embedding.")] = None,
    sets: Annotated[int | None, typer.Option(help="Number of embedding sets.")] = None,
    size: Annotated[int | None, typer.Option(help="Multiple of the paper's base size.")] = None,
    scaling: Annotated[str | None, typer.Option(help="How to reach it: single or multi.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of initialisation, order, dropout.")] = None,
    pretrained: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=FILE",
            help="Vectors of a field's values: Parquet, .npz, .npy or word2vec's text; behind it "
            ",sets=0+1 or ,trained or ,values=FILE. Repeatable.",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="training.learning_rate=0.01 and the like; repeatable."),
    ] = None,
    from_: Annotated[
        Path | None,
        typer.Option("--from", help="A finished run to begin with; by default as configured."),
    ] = None,
    carry_moments: Annotated[
        bool, typer.Option("--carry-moments", help="With --from: optimizers go on, too.")
    ] = False,
    resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Begin anew in a run's directory.")] = False,
) -> None:
    """Train a model by a recipe, and by what is given in its place."""
    from multiembed.base.workplaces import workplace_of
    from multiembed.data.remarks import rare_remark
    from multiembed.runs.calibration import read_self_calibrated
    from multiembed.serving.card import write_card
    from multiembed.training.start import train

    vectors = dict(map(parse_pretrained, pretrained or []))
    flags: dict[str | tuple[str, ...], object] = {
        "model.architecture": architecture,
        "model.dim": dim,
        "model.sets": sets,
        "model.size": size,
        "model.scaling": scaling,
        "training.seed": seed,
        **{
            ("model", "pretrained", field, key): value
            for field, settings in vectors.items()
            for key, value in settings.items()
        },
    }
    unchanged = all(not given for given in (config, recipe, set_)) and all(
        flag is None for flag in flags.values()
    )
    if config is None and from_ is not None:
        own = run / "config.toml"
        config = own if resume and own.is_file() else from_ / "config.toml"
    known = resume or from_ is not None
    asked = None
    if not (known and unchanged):
        configured(config, set_ or [], flags).resolved()  # what is wrong is said before data open
        base = _recipe(recipe, dataset, config, run if resume else None)
        asked = configured(config, set_ or [], flags, base=base)
    try:
        with Watcher() as watcher:
            finished = train(
                asked,
                dataset=dataset,
                run=run,
                start_from=from_,
                carry_moments=carry_moments,
                resume=resume,
                overwrite=overwrite,
                observer=watcher,
            )
    except WriteError as error:
        begun = (run, workplace_of(run) / run.name)
        kept = any((place / "last.safetensors").exists() for place in begun)
        what = "its last checkpoint is kept: --resume goes on" if kept else "no checkpoint is there"
        raise DataError(f"{error} ({what})") from None
    write_card(finished)
    best = finished.best_state
    out.print(
        f"best on validation: AUC {best['auc']:.5f}, log loss {best['log_loss']:.5f} "
        f"at step {best['step']}; written to {run}",
    )
    for remark in rare_remark(finished.schema, auc=best["auc"]):
        out.print(remark)
    calibrated = read_self_calibrated(finished.directory.summary)
    if calibrated is not None:
        out.print(calibrated.words)
    for field, of in (finished.config.model.pretrained or {}).items():
        out.print(f"{field}: {of.described()}")


def _recipe(
    name: str | None, dataset: Path, file: Path | None, resumed: Path | None
) -> dict[str, Any] | None:
    """Return what a recipe says: that of the run to go on, else the default where no file decides.

    Args:
        name: The one that was asked for.
        dataset: Whose rows it may depend on.
        file: A configuration.
        resumed: The run to go on.
    """
    from multiembed.config import read_config
    from multiembed.data.store.dataset import open_dataset
    from multiembed.runs.recipe import RECIPES, recipe_table

    if name is None and file is None and resumed and (resumed / "config.toml").is_file():
        name = read_config(resumed / "config.toml").recipe
    elif name is None and file is None:
        name = RECIPES[0]
    return None if name is None else recipe_table(name, open_dataset(dataset).schema)


@app.command("export")
def export_command(
    run: RunArgument,
    out_: Annotated[Path, typer.Argument(metavar="OUT", help="New directory for the bundle.")],
    format: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            help="onnx: needs onnxruntime to run; torch: needs torch alone.",
        ),
    ] = "onnx",
    rows: Annotated[
        str | None,
        typer.Option(help="Raw rows to check it on. Default: the dataset's test split."),
    ] = None,
) -> None:
    """Write a bundle that turns raw values into probabilities without this library."""
    from multiembed.runs.run import load_run
    from multiembed.serving.export import EXPORT_FORMATS, export

    known_name(format, EXPORT_FORMATS, subject="format")  # before a run is opened
    parity = export(load_run(run), out_, format=format, rows=rows)
    out.print(
        f"within {parity.largest_difference:.1e} of the run on {parity.rows:,} rows; "
        f"written to {out_}",
    )


@app.command("embeddings")
def embeddings_command(
    run: RunArgument,
    out_: Annotated[Path, typer.Argument(metavar="OUT", help="New directory for Parquet files.")],
) -> None:
    """Write embedding tables with the values behind their rows, one Parquet file per field."""
    from multiembed.runs.run import load_run
    from multiembed.serving.export import write_embeddings

    names = write_embeddings(load_run(run), out_)
    out.print(f"{len(names)} tables written to {out_}")


@app.command("models")
def models_command(
    dataset: Annotated[Path, typer.Argument(help="An encoded dataset; it gives the fields.")],
    architectures: Annotated[str, typer.Option(help="Names, by commas.")] = ",".join(ARCHITECTURES),
    sizes: Annotated[str, typer.Option(help="Multiples of the base size, by commas.")] = "1,4,10",
    scaling: Annotated[str, typer.Option(help="single, multi or both.")] = "single,multi",
    json_: JsonOption = None,
) -> None:
    """Show what every architecture costs at every size: parameters, FLOPs per example."""
    from multiembed.cli.run_output import costs_table
    from multiembed.data.store.dataset import open_dataset
    from multiembed.models.budget import sized_models

    opened = open_dataset(dataset)
    rows = sized_models(
        opened.cardinalities,
        shares=opened.shares,
        architectures=[name.strip() for name in architectures.split(",")],
        sizes=_sizes(sizes),
        scalings=_scalings(scaling),
    )
    if json_ is not None:
        write(json.dumps([asdict(row) for row in rows], indent=2), json_)
        return
    out.print(costs_table(rows))


def _sizes(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) < 10 for part in parts):
        raise ConfigError(f"sizes must be whole numbers by commas, got '{text}'")
    return [int(part) for part in parts]


def _scalings(text: str) -> list[Scaling]:
    known: dict[str, Scaling] = {"single": "single", "multi": "multi"}
    names = [part.strip() for part in text.split(",")]
    for name in names:
        if name not in known:
            raise ConfigError(f"scaling must be single, multi or both by a comma, got '{name}'")
    return [known[name] for name in names]


@app.command("diagnose")
def diagnose_command(
    source: Annotated[
        list[Path],
        typer.Argument(
            help="A run, a checkpoint or a file of vectors; several, oldest first, are compared."
        ),
    ],
    cardinalities: Annotated[
        str | None,
        typer.Option(help="Field sizes by commas, or a file of them, for one table of all fields."),
    ] = None,
    counts: Annotated[
        Path | None,
        typer.Option(help="Parquet, CSV or NumPy: training rows per row, or per field and id."),
    ] = None,
    tables: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Names of tables; repeatable.")
    ] = None,
    not_: Annotated[
        list[str] | None,
        typer.Option("--not", metavar="PATTERN", help="Names of no tables; repeatable."),
    ] = None,
    split_sets: Annotated[
        int | None,
        typer.Option(help="Compare the columns of a model with one set as so many sets."),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page to this file.")] = None,
    json_: JsonOption = None,
) -> None:
    """Say whether embeddings are collapsed, where, and because of whom; or how they changed."""
    from multiembed.cli.over_time_output import show_over_time
    from multiembed.diagnosis.diagnose import diagnose
    from multiembed.diagnosis.readers.cardinalities import parse_cardinalities
    from multiembed.diagnosis.terminal import terminal_table

    sizes = None if cardinalities is None else parse_cardinalities(cardinalities)
    if len(source) > 1:
        one = {"--counts": counts, "--tables": tables, "--not": not_, "--split-sets": split_sets}
        return show_over_time(source, sizes, one, html=html, json_=json_)
    with Watcher() as watcher:
        diagnosis = diagnose(
            source[0],
            counts=counts,
            tables=tables or (),
            leave_out=not_ or (),
            cardinalities=sizes,
            split_sets=split_sets,
            progress=lambda done, total: watcher.advance("fields", done, total),
        )
    command = without_secrets(shlex.join(["multiembed", *sys.argv[1:]]))
    diagnosis = replace(diagnosis, origin=replace(diagnosis.origin, command=command))
    if html is not None:
        write(diagnosis.to_html(), str(html))
    if json_ is not None:
        write(diagnosis.to_json(), json_)
    if json_ != "-":
        out.print(terminal_table(diagnosis))


@app.command("compress")
def compress_command(
    run: RunArgument,
    out_: OutArgument,
    keep: Annotated[
        float, typer.Option(help="Share of the energy of every table to keep, above 0 to 1.")
    ] = 0.99,
) -> None:
    """Store every table in the few directions that carry it; say what that saves and costs."""
    from multiembed.cli.run_output import compression_table, megabytes
    from multiembed.runs.compress import compress_run

    done = compress_run(run, out_, keep=keep)
    out.print(compression_table(done))
    saved = 1 - done.bytes_after / done.bytes_before
    out.print(
        f"tables {megabytes(done.bytes_before)} -> {megabytes(done.bytes_after)} "
        f"({saved:.0%} saved)",
    )
    for name in ("auc", "log_loss"):
        before, after = done.before[name], done.after[name]
        if before is None or after is None:  # a test split of one class
            continue
        out.print(
            f"test {name.replace('auc', 'AUC').replace('_', ' ')} {before:.6f} -> {after:.6f} "
            f"({after - before:+.6f})",
        )
    out.print(f"written to {out_}")
