"""`multiembed calibrate`."""

from pathlib import Path
from typing import Annotated

import typer

from multiembed.cli.console import app, out
from multiembed.runs.calibration import Method
from multiembed.runs.metrics import expected_calibration_error, reliability_curve
from multiembed.runs.run import load_run
from multiembed.serving.calibrate import calibrate as calibrate_run


@app.command()
def calibrate(
    run: Annotated[Path, typer.Argument(help="A trained run whose dataset is there.")],
    method: Annotated[
        Method, typer.Option(help="Any rising function, or a line on the logit for few rows.")
    ] = "isotonic",
    split: Annotated[str, typer.Option(help="Rows to fit to.")] = "valid",
) -> None:
    """Fit a calibration and keep it in the run: predict, export and the API then apply it."""
    trained = load_run(run)
    calibration = calibrate_run(trained, method, split=split)
    scores = trained.score("test")
    errors = [
        expected_calibration_error(reliability_curve(scores.labels, probabilities))
        for probabilities in (scores.probabilities, calibration.apply(scores.probabilities))
    ]
    out.print(
        f"expected calibration error on test: {errors[0]:.6f} before, {errors[1]:.6f} after",
        highlight=False,
    )
