"""Commands that score rows: how good a run is, its calibration, and rows of others."""

import json
import time
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from multiembed.cli.console import JsonOption, RunArgument, Watcher, app, out, table_of, write
from multiembed.serving.output_formats import OUTPUTS


@app.command("evaluate")
def evaluate_command(
    run: RunArgument,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    group: Annotated[
        str | None,
        typer.Option(help="Field, or kept column, within whose values to measure AUC too."),
    ] = None,
    calibrated: Annotated[
        bool, typer.Option(help="Apply the calibration that is kept with the run.")
    ] = False,
    json_: JsonOption = None,
) -> None:
    """Measure a trained run on a split of its dataset."""
    from multiembed.runs.evaluation import measure
    from multiembed.runs.run import load_run

    scores = load_run(run).score(split, calibrated=calibrated)
    result = measure(scores, group=group)
    curve = scores.curve
    if json_ is not None:
        record = {**result, "reliability": [of.model_dump() for of in curve]}
        write(json.dumps(record, indent=2), json_)
        return
    table = Table("measure", "value", title=f"{run}, {split} split")
    for name, value in result.items():
        whole = name.endswith(("rows", "left_out"))
        shown = "undefined" if value is None else f"{value:,.0f}" if whole else f"{value:.6f}"
        table.add_row(name.replace("_", " "), shown)
    out.print(table)
    if result.get("group_auc_left_out"):
        out.print(
            f"{result['group_auc_left_out']:,.0f} rows are in no group: {group} is missing, or "
            f"other and not kept (prepare --keep {group})"
        )
    title = "reliability, in bins of equal mass"
    bins = table_of((), ("rows", "predicted", "observed"), title=title)
    for of in curve:
        bins.add_row(f"{of.rows:,}", f"{of.predicted:.4%}", f"{of.observed:.4%}")
    out.print(bins)


@app.command("calibrate")
def calibrate_command(
    run: Annotated[Path, typer.Argument(help="A trained run whose dataset is there.")],
    method: Annotated[
        Literal["isotonic", "platt"],
        typer.Option(help="Any rising function, or a line on the logit for few rows."),
    ] = "isotonic",
    split: Annotated[str, typer.Option(help="Rows to fit to.")] = "valid",
) -> None:
    """Fit a calibration and keep it in the run: predict, export and the API then apply it."""
    from multiembed.runs.metrics import expected_calibration_error
    from multiembed.runs.run import load_run
    from multiembed.serving.calibrate import calibrate

    trained = load_run(run)
    calibration = calibrate(trained, method, split=split)
    scores = trained.score("test")
    after = scores._replace(probabilities=calibration.apply(scores.probabilities))
    errors = [expected_calibration_error(of.curve) for of in (scores, after)]
    out.print(
        f"expected calibration error on test: {errors[0]:.6f} before, {errors[1]:.6f} after",
    )


@app.command("predict")
def predict_command(
    run: RunArgument,
    raw: Annotated[
        str, typer.Argument(help="Raw rows of the format the dataset came from; label optional.")
    ],
    out_: Annotated[
        Path, typer.Argument(metavar="OUT", help=f"File to write: {' '.join(OUTPUTS)}")
    ],
    column: Annotated[str, typer.Option(help="Name of the new column.")] = "probability",
    strict: Annotated[
        bool, typer.Option("--strict", help="Write nothing if values are far from training's.")
    ] = False,
    json_: JsonOption = None,
) -> None:
    """Write raw rows, in their order, with the probability of a click."""
    from multiembed.runs.run import load_run
    from multiembed.serving.predict import predict

    trained = load_run(run)
    started = time.monotonic()
    with Watcher() as watcher:
        rows = predict(
            trained,
            raw,
            out_,
            column=column,
            strict=strict,
            progress=lambda done, total: watcher.advance("predict", done, total),
        )
    speed = rows / (time.monotonic() - started)
    for remark in rows.remarks:
        watcher.warned(remark)
    if json_ is not None:
        write(rows.to_json(), json_)
    if json_ != "-":
        out.print(f"{rows:,} rows at {speed:,.0f} rows/s; written to {out_}")
