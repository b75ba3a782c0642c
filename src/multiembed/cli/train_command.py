"""`multiembed train` and `multiembed evaluate`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from multiembed.cli.console import JsonOption, Watcher, app, out, write
from multiembed.overrides import configured
from multiembed.runs.metrics import ReliabilityBin, reliability_curve
from multiembed.runs.run import load_run, measure
from multiembed.serving.card import write_card
from multiembed.training.start import train as train_run


@app.command()
def train(
    dataset: Annotated[Path, typer.Argument(help="An encoded dataset.")],
    run: Annotated[Path, typer.Argument(help="Directory to write the run to.")],
    config: Annotated[Path | None, typer.Option(help="TOML configuration.")] = None,
    architecture: Annotated[str | None, typer.Option(help="dnn, dcnv2, …")] = None,
    dim: Annotated[int | None, typer.Option(help="Size of one set's embedding.")] = None,
    sets: Annotated[int | None, typer.Option(help="Number of embedding sets.")] = None,
    size: Annotated[int | None, typer.Option(help="Multiple of the paper's base size.")] = None,
    scaling: Annotated[str | None, typer.Option(help="How to reach it: single or multi.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of initialisation, order, dropout.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="training.learning_rate=0.01 and the like; repeatable."),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Begin anew in a run's directory.")] = False,
) -> None:
    """Train a model; the paper's protocol and hyperparameters unless told otherwise."""
    flags = {
        "model.architecture": architecture,
        "model.dim": dim,
        "model.sets": sets,
        "model.size": size,
        "model.scaling": scaling,
        "training.seed": seed,
    }
    unchanged = config is None and not set_ and all(flag is None for flag in flags.values())
    asked = None if resume and unchanged else configured(config, set_ or [], flags)
    with Watcher() as watcher:
        finished = train_run(
            asked, dataset=dataset, run=run, resume=resume, overwrite=overwrite, observer=watcher
        )
    write_card(finished)
    best = finished.best_state
    out.print(
        f"best on validation: AUC {best['auc']:.5f}, log loss {best['log_loss']:.5f} "
        f"at step {best['step']}; written to {run}",
        highlight=False,
    )


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="A trained run.")],
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    group: Annotated[
        str | None, typer.Option(help="Field within whose values to measure AUC too.")
    ] = None,
    calibrated: Annotated[
        bool, typer.Option(help="Apply the calibration that is kept with the run.")
    ] = False,
    json_: JsonOption = None,
) -> None:
    """Measure a trained run on a split of its dataset."""
    scores = load_run(run).score(split, calibrated=calibrated)
    result = measure(scores, group=group)
    curve = reliability_curve(scores.labels, scores.probabilities)
    if json_ is not None:
        record = {**result, "reliability": [of._asdict() for of in curve]}
        write(json.dumps(record, indent=2), json_)
        return
    table = Table("measure", "value", title=f"{run}, {split} split")
    for name, value in result.items():
        table.add_row(
            name.replace("_", " "), f"{value:,.0f}" if name.endswith("rows") else f"{value:.6f}"
        )
    out.print(table)
    out.print(_reliability_table(curve))


def _reliability_table(curve: list[ReliabilityBin]) -> Table:
    table = Table(title="reliability, in bins of equal mass")
    for heading in ("rows", "predicted", "observed"):
        table.add_column(heading, justify="right")
    for of in curve:
        table.add_row(f"{of.rows:,}", f"{of.predicted:.4%}", f"{of.observed:.4%}")
    return table
