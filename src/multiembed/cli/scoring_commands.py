"""Commands that score rows: how good a run is, its calibration, and rows of others."""

import json
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from multiembed.base.errors import ConfigError
from multiembed.base.files import write_text
from multiembed.base.validation import checked
from multiembed.cli.console import JsonOption, RunArgument, Watcher, app, out, write
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
    importance: Annotated[
        bool, typer.Option("--importance", help="What each field does: its values are permuted.")
    ] = False,
    repeats: Annotated[int, typer.Option(help="Of --importance: permutations of a field.")] = 5,
    max_rows: Annotated[
        int, typer.Option(help="Of --importance: most rows; of more, so many are drawn.")
    ] = 50_000,
    seed: Annotated[int, typer.Option(help="Of --importance: its draws.")] = 0,
    page: Annotated[
        Path | None,
        typer.Option(metavar="HTML", help="With --by or --importance: write its charts here."),
    ] = None,
    calibrated: Annotated[
        bool | None,
        typer.Option(help="Apply the run's calibration. Default: where its training asked for it."),
    ] = None,
    json_: JsonOption = None,
) -> None:
    """Measure a trained run on a split of its dataset, or of another one."""
    from multiembed.cli.evaluation_output import Evaluation
    from multiembed.data.store.dataset import open_dataset
    from multiembed.runs.by_group import drift_by
    from multiembed.runs.evaluation import measure
    from multiembed.runs.importance import importance as importance_of
    from multiembed.runs.run import load_run

    if page is not None and importance == (by is not None):
        got = "both" if importance else "none"
        raise ConfigError(f"page must stand with by or with importance, got {got}")
    trained = load_run(run)
    dataset = None if on is None else open_dataset(on)
    scores = trained.score(split, dataset=dataset, calibrated=calibrated)
    groups = () if by is None else drift_by(scores, by, trained.row_counts)
    found = None
    if importance:
        with Watcher() as watcher:
            found = importance_of(
                trained,
                split,
                dataset=dataset,
                repeats=repeats,
                seed=seed,
                max_rows=max_rows,
                calibrated=calibrated,
                progress=lambda done, total: watcher.advance("importance", done, total),
            )
    all_ = Evaluation(str(run), scores, measure(scores, group=group), group, by, groups, found)
    if page is not None:
        write_text(page, all_.page())
    if json_ is not None:
        write(json.dumps(all_.to_json(), indent=2), json_)
        return
    for part in all_.shown():
        out.print(part)


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
    from multiembed.runs.calibrate import calibrate
    from multiembed.runs.metrics import expected_calibration_error
    from multiembed.runs.run import load_run

    trained = load_run(run)
    calibration = calibrate(trained, method, split=split)
    scores = trained.score("test", calibrated=False)
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
