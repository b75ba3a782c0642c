"""Probabilities beside labels: how good they are, over all rows and within groups of rows."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from multiembed.base.errors import DataError
from multiembed.data.store.dataset import Dataset
from multiembed.data.store.kept import groups_of
from multiembed.runs.metrics import (
    ReliabilityBin,
    auc,
    calibration_ratio,
    expected_calibration_error,
    group_auc,
    log_loss,
    normalized_entropy,
    reliability_curve,
)


def quality(
    labels: Int[np.ndarray, " rows"],
    probabilities: Float[np.ndarray, " rows"],
    weights: Float[np.ndarray, " rows"] | None = None,
) -> dict[str, float]:
    """Return AUC, log loss, normalised entropy and calibration ratio.

    Args:
        labels: 0 or 1.
        probabilities: Of label 1.
        weights: What every row counts; the same if not given.

    Raises:
        DataError: If the rows are of one class.
    """
    return {
        "auc": auc(labels, probabilities, weights),
        "log_loss": log_loss(labels, probabilities, weights),
        "normalized_entropy": normalized_entropy(labels, probabilities, weights),
        "calibration_ratio": calibration_ratio(labels, probabilities, weights),
    }


class Scores(NamedTuple):
    """A split with the probabilities of its rows."""

    dataset: Dataset
    split: str
    labels: Int[np.ndarray, " rows"]
    probabilities: Float[np.ndarray, " rows"]
    weights: Float[np.ndarray, " rows"] | None = None

    @property
    def curve(self) -> list[ReliabilityBin]:
        """Predicted beside observed, in bins of equal mass."""
        return reliability_curve(self.labels, self.probabilities, self.weights)


def measure(scores: Scores, *, group: str | None = None) -> dict[str, float | None]:
    """Return the quality of scored rows; with `group`, also the AUC within that column's values.

    Rows that have weights count what these say. What rows of one class, or in no group, leave
    undefined is None. Rows without a value of the group, or whose value is not known, are in no
    group: `group_auc_left_out` of them.

    Raises:
        DataError: If the dataset cannot tell the group's values apart, or none of them has rows of
            both classes.
    """
    labels, probabilities, weights = scores.labels, scores.probabilities, scores.weights
    both = 0 < int(labels.sum()) < len(labels)
    qualities = quality if both else _of_one_class
    result: dict[str, float | None] = {
        "rows": float(len(labels)),
        **qualities(labels, probabilities, weights),
        "mean_probability": float(np.average(probabilities.astype(np.float64), weights=weights)),
        "expected_calibration_error": expected_calibration_error(scores.curve),
    }
    if group is not None:
        groups = groups_of(scores.dataset, scores.split, group)
        known = groups >= 0
        result |= {"group_auc": None, "group_auc_rows": 0.0}
        if both and known.any():
            of_known = None if weights is None else weights[known]
            result["group_auc"], counted = group_auc(
                labels[known], probabilities[known], groups[known], of_known
            )
            result["group_auc_rows"] = float(counted)
        result["group_auc_left_out"] = float(np.count_nonzero(~known))
    return result


def defined(measures: Mapping[str, float | None]) -> dict[str, float]:
    """Return measures that are all there.

    Raises:
        DataError: If one is undefined, since the rows are of one class.
    """
    for name, value in measures.items():
        if value is None:
            raise DataError(f"rows must be of both classes for {name}, got rows of one")
    return {name: value for name, value in measures.items() if value is not None}


def _of_one_class(
    labels: Int[np.ndarray, " rows"],
    probabilities: Float[np.ndarray, " rows"],
    weights: Float[np.ndarray, " rows"] | None,
) -> dict[str, float | None]:
    there = labels.any()
    return {
        "auc": None,
        "log_loss": log_loss(labels, probabilities, weights),
        "normalized_entropy": None,
        "calibration_ratio": calibration_ratio(labels, probabilities, weights) if there else None,
    }
