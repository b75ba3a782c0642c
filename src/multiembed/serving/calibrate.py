"""Calibration fitted on a split that training did not learn from."""

import numpy as np
import scipy  # scipy loads `optimize`, a tenth of our start, when it is first asked for
from jaxtyping import Float, Int
from scipy.special import expit, logit

from multiembed.base.errors import DataError
from multiembed.runs.calibration import SMALLEST, Calibration, Method, weights_name
from multiembed.runs.run import Run

NARROWEST = 0.01
"""Of the logit: a hundredth of the odds."""


def calibrate(run: Run, method: Method = "isotonic", *, split: str = "valid") -> Calibration:
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
        run: A trained run whose dataset is there.
        method: `isotonic`: any rising function; `platt`: a line on the logit, for few rows.
        split: Rows to fit to.

    Raises:
        DataError: If the dataset is not there, or the rows are of one class.
    """
    scores = run.score(split)
    positives, rows = int(scores.labels.sum()), len(scores.labels)
    if not 0 < positives < rows:
        raise DataError(
            f"split {split} must hold rows of both classes, got {positives} positives in {rows}"
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
    """Fit slope and intercept of the logit by maximum likelihood (Platt, 1999)."""
    p = np.clip(probabilities.astype(np.float64), SMALLEST, 1 - SMALLEST)
    mass = np.ones(len(labels)) if row_weights is None else row_weights.astype(np.float64)
    share = mass / mass.sum()
    inputs = np.stack([logit(p), np.ones(len(p))])

    def loss(line: Float[np.ndarray, " 2"]) -> tuple[float, Float[np.ndarray, " 2"]]:
        z = line @ inputs
        value = share @ (np.logaddexp(0, z) - labels * z)
        return float(value), inputs @ (share * (expit(z) - labels))

    slope, intercept = scipy.optimize.minimize(
        loss, np.array([1.0, 0.0]), jac=True, method="BFGS"
    ).x
    return Calibration(
        method="platt", weights=weights, slope=float(slope), intercept=float(intercept)
    )
