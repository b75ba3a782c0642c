"""Measures of predicted probabilities: ranking, log loss, calibration; and a run's reliability."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float, Int, Shaped
from pydantic import BaseModel, ConfigDict, Field, ValidationError, computed_field, model_validator

from multiembed.base.errors import DataError

_Labels = Shaped[np.ndarray, " rows"]
_Scores = Float[np.ndarray, " scores"]

LARGEST = 2**20
"""Bytes of a file that is read: a curve has a few dozen bins."""
MOST_ROWS = 2**53
"""Above it, floats no longer count one by one."""

SPLIT_NAMES = {"train": "training", "valid": "validation", "test": "test"}
"""What reports call the splits."""

Share = Annotated[float, Field(ge=0, le=1)]


class ReliabilityBin(BaseModel):
    """Rows of similar probabilities."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    rows: Annotated[int, Field(ge=1, le=MOST_ROWS)]
    predicted: Share
    """Their mean probability."""
    observed: Share
    """Their share of positives."""


def auc(labels: _Labels, scores: _Scores) -> float:
    """Return the area under the ROC curve, ties counted half: exact, not binned.

    Scores of float32 are sorted together with their labels as one integer
    `(float bits << 1) | label`; the counts are whole numbers until the last division.

    Raises:
        DataError: If there is no row of either class, or a score is NaN.
    """
    _check(labels, scores)
    positives = int(np.count_nonzero(labels))
    negatives = len(labels) - positives
    if positives == 0 or negatives == 0:
        raise DataError(
            f"AUC needs rows of both classes, got {positives} positives and {negatives} negatives"
        )
    order, is_positive = _sorted_keys(labels, scores)
    last_of_tie = np.flatnonzero(np.append(order[1:] != order[:-1], True))
    positives_up_to = np.cumsum(is_positive, dtype=np.int64)[last_of_tie]
    negatives_up_to = last_of_tie + 1 - positives_up_to
    positives_in_tie = np.diff(positives_up_to, prepend=0)
    # Twice the negatives below, plus those tied: an integer.
    twice_below = negatives_up_to + np.concatenate([[0], negatives_up_to[:-1]])
    twice_wins = int(np.dot(positives_in_tie, twice_below))
    return twice_wins / (2 * positives * negatives)


def log_loss(labels: _Labels, probabilities: _Scores) -> float:
    """Return the mean binary cross-entropy in nats.

    Probabilities are kept half a float32 step away from 0 and 1, so that one certain and wrong
    row costs about 17 nats instead of infinity.

    Raises:
        DataError: If there is no row, or a probability is NaN or outside 0 to 1.
    """
    _check(labels, probabilities)
    _check_range(probabilities)
    margin = float(np.finfo(np.float32).eps) / 2
    clipped = np.clip(probabilities.astype(np.float64), margin, 1 - margin)
    of_label = np.where(labels.astype(bool), clipped, 1 - clipped)
    return float(-np.log(of_label).mean())


def normalized_entropy(labels: _Labels, probabilities: _Scores) -> float:
    """Return the log loss over that of always predicting the share of positives.

    1 means nothing was learnt beyond the mean (He et al., ADKDD 2014, section 3).

    Raises:
        DataError: As `log_loss`, and if the rows are of one class.
    """
    share = float(np.mean(labels.astype(np.float64)))
    if share in (0.0, 1.0):
        raise DataError(f"normalised entropy needs rows of both classes, got positives {share:.0%}")
    base = -(share * np.log(share) + (1 - share) * np.log1p(-share))
    return log_loss(labels, probabilities) / float(base)


def calibration_ratio(labels: _Labels, probabilities: _Scores) -> float:
    """Return the expected over the observed number of positives: 1 is calibrated on average.

    Raises:
        DataError: If there is no positive, or a probability is NaN or outside 0 to 1.
    """
    _check(labels, probabilities)
    _check_range(probabilities)
    positives = int(np.count_nonzero(labels))
    if positives == 0:
        raise DataError("calibration ratio needs a positive row, got none")
    return float(probabilities.sum(dtype=np.float64)) / positives


def reliability_curve(
    labels: _Labels, probabilities: _Scores, *, bins: int = 15
) -> list[ReliabilityBin]:
    """Compare predicted with observed in bins of equal mass, from low to high probabilities.

    Every bin has as many rows as the others, up to ties: equal probabilities share a bin.

    Raises:
        DataError: If there is no row, or a probability is NaN or outside 0 to 1.
    """
    _check(labels, probabilities)
    _check_range(probabilities)
    order = np.argsort(probabilities, kind="stable")
    ordered, positive = probabilities[order].astype(np.float64), labels[order] != 0
    last = np.maximum(np.arange(1, bins + 1) * len(order) // bins, 1) - 1
    ends = np.unique(np.searchsorted(ordered, ordered[last], side="right"))
    starts = np.concatenate([[0], ends[:-1]])
    return [
        ReliabilityBin(rows=int(end - start), predicted=float(p.mean()), observed=float(y.mean()))
        for start, end in zip(starts, ends, strict=True)
        for p, y in [(ordered[start:end], positive[start:end])]
    ]


def expected_calibration_error(curve: Sequence[ReliabilityBin]) -> float:
    """Return the mean distance of predicted from observed, bins weighted by their rows."""
    rows = sum(of.rows for of in curve)
    return sum(of.rows * abs(of.predicted - of.observed) for of in curve) / rows


def group_auc(
    labels: _Labels, scores: _Scores, groups: Int[np.ndarray, " rows"]
) -> tuple[float, int]:
    """Return the AUC within groups, weighted by their rows, and the rows it counts.

    Groups of one class have no AUC and are left out, as is usual (Zhou et al., KDD 2018,
    section 6.2, there weighted by impressions).

    Raises:
        DataError: If no group has both classes, or a score is NaN.
    """
    _check(labels, scores)
    order = np.lexsort((scores, groups))
    group, positive, score = groups[order], labels[order].astype(bool), scores[order]
    start = np.flatnonzero(np.append(True, group[1:] != group[:-1]))
    rows = np.diff(np.append(start, len(group)))
    positives = np.add.reduceat(positive.astype(np.int64), start)
    counted = (positives > 0) & (positives < rows)
    if not counted.any():
        raise DataError("group AUC needs a group with both classes, got none")
    ranks = _ranks_within(score, start, rows)
    rank_sum = np.add.reduceat(np.where(positive, ranks, 0.0), start)[counted]
    p, n = positives[counted], (rows - positives)[counted]
    area = (rank_sum - p * (p + 1) / 2) / (p * n)
    weights = rows[counted]
    return float(np.average(area, weights=weights)), int(weights.sum())


class Reliability(BaseModel):
    """Predicted beside observed, as the model gives them: without any later calibration."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    split: Literal["train", "valid", "test"]
    """Whose rows were measured."""
    expected_calibration_error: Share
    """Mean distance of predicted from observed, bins weighted by their rows."""
    bins: Annotated[tuple[ReliabilityBin, ...], Field(min_length=1)]
    """Of equal mass, up to ties; from low to high probabilities."""

    @model_validator(mode="after")
    def _agrees(self) -> "Reliability":
        predicted = [of.predicted for of in self.bins]
        if predicted != sorted(predicted):
            raise ValueError("bins must rise in what is predicted")
        error = expected_calibration_error(self.bins)
        if not math.isclose(error, self.expected_calibration_error, abs_tol=1e-9):
            raise ValueError(
                f"expected_calibration_error must be that of the bins, {error:g}, "
                f"got {self.expected_calibration_error:g}"
            )
        return self

    @computed_field
    @property
    def finding(self) -> str:
        """The curve in one plain sentence."""
        rows = sum(of.rows for of in self.bins)
        positive = math.fsum(of.rows * of.observed for of in self.bins) / rows
        return (
            f"Predicted probabilities are off by {_points(self.expected_calibration_error)} "
            f"percentage points on average, where {_points(positive)}% of the rows are positive."
        )


def read_reliability(file: Path) -> Reliability | None:
    """Read the curve of a run, if there is one: older and compressed runs have none.

    Raises:
        DataError: If it is broken.
    """
    if not file.is_file():
        return None
    try:
        if file.stat().st_size > LARGEST:
            raise DataError(f"{file} must be at most {LARGEST} bytes, got {file.stat().st_size}")
        return Reliability.model_validate_json(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file} must be readable, got: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise DataError(
            f"{file} must be a reliability curve, got: {place}{': ' if place else ''}{reason}"
        ) from None


def _sorted_keys(
    labels: _Labels, scores: _Scores
) -> tuple[Shaped[np.ndarray, " rows"], Shaped[np.ndarray, " rows"]]:
    """Return the scores in rising order, as anything whose equality is theirs, and their labels."""
    if scores.dtype == np.float32 and float(scores.min()) >= 0:
        bits = (scores + np.float32(0)).view(np.uint32)  # adding zero turns -0.0 into 0.0
        keys = np.sort((bits << np.uint32(1)) | (labels != 0))
        return keys >> np.uint32(1), keys & np.uint32(1)
    order = np.argsort(scores, kind="stable")
    return scores[order], labels[order] != 0


def _ranks_within(
    scores: _Scores, start: Int[np.ndarray, " groups"], rows: Int[np.ndarray, " groups"]
) -> Float[np.ndarray, " rows"]:
    """Return the rank of each row within its group from 1, ties sharing their mean rank."""
    position = np.arange(len(scores)) - np.repeat(start, rows) + 1
    new_run = np.append(True, scores[1:] != scores[:-1])
    new_run[start] = True
    run = np.cumsum(new_run) - 1
    sums = np.bincount(run, weights=position)
    return (sums / np.bincount(run))[run]


def _check(labels: _Labels, scores: _Scores) -> None:
    if len(scores) != len(labels):
        raise DataError(f"scores must be as many as labels, got {len(scores)} and {len(labels)}")
    if len(scores) == 0:
        raise DataError("scores must have at least one row, got none")
    unreadable = int(np.count_nonzero(np.isnan(scores)))
    if unreadable:
        raise DataError(f"scores must be numbers, got NaN in {unreadable} of {len(scores)} rows")


def _check_range(probabilities: _Scores) -> None:
    low, high = float(probabilities.min()), float(probabilities.max())
    if low < 0 or high > 1:
        raise DataError(f"probabilities must lie between 0 and 1, got {low:g} to {high:g}")


def _points(share: float) -> str:
    """Write a share in hundredths, to two digits."""
    return f"{100 * share:.2g}" if share < 0.0995 else f"{100 * share:.0f}"
