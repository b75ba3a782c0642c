"""Commands that score rows: how good a run is, its calibration, and rows of others."""

import json
import time
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from multiembed.base.errors import ConfigError
from multiembed.base.files import write_text
from multiembed.base.validation import checked
from multiembed.cli.by_output import by_tables
from multiembed.cli.console import JsonOption, RunArgument, Watcher, app, out, table_of, write
from multiembed.cli.option_flags import takes_options
from multiembed.data.sources.read_options import ReadOptions
from multiembed.serving.output_formats import OUTPUTS


@app.command("evaluate")
def evaluate_command(
    run: RunArgument,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    group: Annotated[
        str | None,
        typer.Option(help="Field, or kept column, within whose values to measure AUC too."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(help="Field, or kept column, such as a day: quality and drift in each value."),
    ] = None,
    on: Annotated[
        Path | None,
        typer.Option(metavar="DATASET", help="Other rows, prepared --like the run or its dataset."),
    ] = None,
    page: Annotated[
        Path | None, typer.Option(metavar="HTML", help="With --by: write its charts to this file.")
    ] = None,
    calibrated: Annotated[
        bool, typer.Option(help="Apply the calibration that is kept with the run.")
    ] = False,
    json_: JsonOption = None,
) -> None:
    """Measure a trained run on a split of its dataset, or of another one."""
    from multiembed.data.store.dataset import open_dataset
    from multiembed.diagnosis.by_group_page import by_group_page
    from multiembed.runs.by_group import drift_by, to_json
    from multiembed.runs.evaluation import measure
    from multiembed.runs.run import load_run

    if page is not None and by is None:
        raise ConfigError("page must stand with by, got none")
    trained = load_run(run)
    dataset = None if on is None else open_dataset(on)
    scores = trained.score(split, dataset=dataset, calibrated=calibrated)
    result = measure(scores, group=group)
    groups = () if by is None else drift_by(scores, by, trained.row_counts)
    curve = scores.curve
    if by is not None and page is not None:
        write_text(page, by_group_page(str(run), by, groups))
    if json_ is not None:
        record = {**result, "reliability": [of.model_dump() for of in curve]}
        if groups:
            record["by"] = to_json(groups)
        write(json.dumps(record, indent=2), json_)
        return
    out.print(_measures(result, title=f"{run}, {split} split"))
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
    for found in by_tables(by, groups):
        out.print(found)


def _measures(result: dict[str, float | None], *, title: str) -> Table:
    table = Table("measure", "value", title=title)
    for name, value in result.items():
        whole = name.endswith(("rows", "left_out"))
        shown = "undefined" if value is None else f"{value:,.0f}" if whole else f"{value:.6f}"
        table.add_row(name.replace("_", " "), shown)
    return table


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
@takes_options(ReadOptions, "max_download_bytes", "max_download_seconds")
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
    *,
    options: dict[str, object],
) -> None:
    """Write raw rows, in their order, with the probability of a click."""
    from multiembed.data.sources.formats import download_limits
    from multiembed.runs.run import load_run
    from multiembed.serving.predict import predict

    limits = download_limits(checked(ReadOptions, options))
    trained = load_run(run)
    started = time.monotonic()
    with Watcher() as watcher:
        rows = predict(
            trained,
            raw,
            out_,
            column=column,
            strict=strict,
            limits=limits,
            progress=lambda done, total: watcher.advance("predict", done, total),
        )
    speed = rows / (time.monotonic() - started)
    for remark in rows.remarks:
        watcher.warned(remark)
    if json_ is not None:
        write(rows.to_json(), json_)
    if json_ != "-":
        out.print(f"{rows:,} rows at {speed:,.0f} rows/s; written to {out_}")
