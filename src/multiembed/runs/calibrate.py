"""Calibration fitted on a split that training did not learn from."""

from pathlib import Path

import numpy as np
import scipy  # scipy loads `optimize`, a tenth of our start, when it is first asked for
from jaxtyping import Float, Int
from scipy.special import expit, logit

from multiembed.base.errors import DataError
from multiembed.runs.calibration import (
    CALIBRATED_FROM,
    CALIBRATED_TO,
    SMALLEST,
    Calibration,
    Method,
    SelfCalibrated,
    weights_name,
)
from multiembed.runs.evaluation import Scores
from multiembed.runs.metrics import calibration_ratio
from multiembed.runs.run import Run, load_run

FOR_SLOPE, FOR_ISOTONIC = 20, 10_000
"""Rows of the rarer class: below, a slope that is fitted errs by more than none; from the second,
any rising function may err less than a line on the logit (results/calibration_methods_*.md)."""
NARROWEST = 0.01
"""Of the logit: a hundredth of the odds."""


def calibrate(
    run: Run | Path | str, method: Method = "isotonic", *, split: str = "valid"
) -> Calibration:
    """Fit a calibration to a run and keep it there; its predictions are calibrated from then on.

        >>> import multiembed as me
        >>> import polars as pl
        >>> pl.DataFrame({"click": [0, 1] * 20, "site": list("aabbc") * 8}).write_csv("shown.csv")
        >>> options = me.PrepareOptions(format="table", label="click")
        >>> _ = me.prepare("shown.csv", "shown_encoded", options)
        >>> config = me.RunConfig(
        ...     model=me.ModelConfig(architecture="dnn", dim=2, options={"hidden": [4]}),
        ...     training=me.TrainingConfig(max_epochs=1),
        ... )
        >>> run = me.train(config, dataset=me.open_dataset("shown_encoded"), run="shown_run")
        >>> calibration = me.calibrate(run, "platt")
        >>> calibration.apply(run.score("test").probabilities).shape
        (4,)

    Args:
        run: A trained run, or its directory, whose dataset is there.
        method: `isotonic`: any rising function; `platt`: a line on the logit, for few rows.
        split: Rows to fit to.

    Raises:
        DataError: If the dataset is not there, or the rows are of one class.
    """
    run = load_run(run)
    return _fitted(run, method, run.score(split, calibrated=False))


def self_calibrate(run: Run) -> SelfCalibrated:
    """Calibrate a run as its training says, and return what came of it.

    Raises:
        DataError: As `calibrate`.
    """
    setting, ratio = run.config.training.calibration, float(run.best_state["calibration_ratio"])
    if setting == "none" or (setting == "auto" and CALIBRATED_FROM <= ratio <= CALIBRATED_TO):
        return SelfCalibrated(ratio=ratio, method=None, after=ratio)
    scores = run.score("valid", calibrated=False)
    many = _rarer(scores.labels) >= FOR_ISOTONIC
    method = setting if setting != "auto" else "isotonic" if many else "platt"
    after = _fitted(run, method, scores).apply(scores.probabilities)
    after = calibration_ratio(scores.labels, after, scores.weights)
    return SelfCalibrated(ratio=ratio, method=method, after=after)


def _fitted(run: Run, method: Method, scores: Scores) -> Calibration:
    """Fit a calibration to scored rows and keep it in the run."""
    positives, rows = int(scores.labels.sum()), len(scores.labels)
    if not 0 < positives < rows:
        raise DataError(
            f"split {scores.split} must hold rows of both classes, got {positives} positives in "
            f"{rows}"
        )
    name = weights_name(run.best_state)
    fit = {"isotonic": fit_isotonic, "platt": fit_platt}[method]
    calibration = fit(scores.labels, scores.probabilities, name, scores.weights)
    calibration.save(run.directory.calibration)
    return calibration


def fit_isotonic(
    labels: Int[np.ndarray, " rows"],
    probabilities: Float[np.ndarray, " rows"],
    weights: str,
    row_weights: Float[np.ndarray, " rows"] | None = None,
) -> Calibration:
    """Fit the rising function with the least squared error (Zadrozny and Elkan, KDD 2002).

    Where it rises within less than `NARROWEST` of a logit, it rises over one such cell: else two
    machines that round the last digit differently would disagree by a whole step.
    """
    before, row_of = np.unique(probabilities.astype(np.float64), return_inverse=True)
    mass = np.ones(len(labels)) if row_weights is None else row_weights.astype(np.float64)
    counted = np.bincount(row_of, weights=mass)
    shares = np.bincount(row_of, weights=mass * labels) / counted
    after = scipy.optimize.isotonic_regression(shares, weights=counted).x
    # Only the ends of the steps matter: between equal values the lines are level.
    inner = np.zeros(len(after), bool)
    inner[1:-1] = (after[:-2] == after[1:-1]) & (after[1:-1] == after[2:])
    cells = np.floor(logit(np.clip(before[~inner], SMALLEST, 1 - SMALLEST)) / NARROWEST)
    borders = expit(np.unique([cells, cells + 1]) * NARROWEST)
    heights = np.clip(np.interp(borders, before, after), 0, 1)
    points = np.stack([borders, heights], axis=1)
    return Calibration(
        method="isotonic", weights=weights, points=tuple(map(tuple, points.tolist()))
    )


def fit_platt(
    labels: Int[np.ndarray, " rows"],
    probabilities: Float[np.ndarray, " rows"],
    weights: str,
    row_weights: Float[np.ndarray, " rows"] | None = None,
) -> Calibration:
    """Fit slope and intercept of the logit by maximum likelihood (Platt, 1999).

    The slope stays 1 where a class has fewer than `FOR_SLOPE` rows, or where the line would fall.
    """
    # DIFFERS: Platt fits to shares of (n + 1) / (n + 2) and 1 / (n + 2) instead of 1 and 0, for few
    # rows; here the mean of what is predicted is that of what is observed, however few there are.
    z = logit(np.clip(probabilities.astype(np.float64), SMALLEST, 1 - SMALLEST))
    mass = np.ones(len(labels)) if row_weights is None else row_weights.astype(np.float64)
    level, slope, intercept = np.ones((1, len(z))), 0.0, 0.0
    if _rarer(labels) >= FOR_SLOPE:
        start = np.array([1.0, 0.0])
        slope, intercept = _likeliest(
            labels, mass, np.zeros(len(z)), np.stack([z, level[0]]), start
        )
    if slope <= 0:
        slope, (intercept,) = 1.0, _likeliest(labels, mass, z, level, np.zeros(1))
    return Calibration(
        method="platt", weights=weights, slope=float(slope), intercept=float(intercept)
    )


def _likeliest(
    labels: Int[np.ndarray, " rows"],
    mass: Float[np.ndarray, " rows"],
    offset: Float[np.ndarray, " rows"],
    inputs: Float[np.ndarray, "inputs rows"],
    start: Float[np.ndarray, " inputs"],
) -> Float[np.ndarray, " inputs"]:
    """Return the coefficients of a logistic regression on inputs beside an offset."""
    # Per row of the rarer class, so that the optimizer's tolerance is a share of these.
    share = mass / min(mass @ labels, mass @ (1 - labels))

    def loss(line: Float[np.ndarray, " inputs"]) -> tuple[float, Float[np.ndarray, " inputs"]]:
        z = offset + line @ inputs
        value = share @ (np.logaddexp(0, z) - labels * z)
        return float(value), inputs @ (share * (expit(z) - labels))

    return scipy.optimize.minimize(loss, start, jac=True, method="BFGS").x


def _rarer(labels: Int[np.ndarray, " rows"]) -> int:
    """Count the rows of the class that has fewer."""
    positives = int(np.count_nonzero(labels))
    return min(positives, len(labels) - positives)
