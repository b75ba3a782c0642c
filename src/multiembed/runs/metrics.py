"""Measures of predicted probabilities: ranking, log loss, calibration; and a run's reliability."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float, Float64, Int, Shaped
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    computed_field,
    model_serializer,
    model_validator,
)

from multiembed.base.errors import DataError
from multiembed.base.files import read_small

_Labels = Shaped[np.ndarray, " rows"]
_Scores = Float[np.ndarray, " scores"]
_Weights = Float[np.ndarray, " weights"] | None

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
    weight: Annotated[float, Field(gt=0)] | None = None
    """What they count together, where rows count differently."""

    @property
    def mass(self) -> float:
        """What they count: their weight, or how many they are."""
        return float(self.rows) if self.weight is None else self.weight

    @model_serializer(mode="wrap")
    def _without_absent(self, dump: Callable) -> dict[str, object]:
        return {name: value for name, value in dump(self).items() if value is not None}


def auc(labels: _Labels, scores: _Scores, weights: _Weights = None) -> float:
    """Return the area under the ROC curve, ties counted half: exact, not binned.

    Scores of float32 are sorted together with their labels as one integer
    `(float bits << 1) | label`; without weights the counts are whole numbers until the last
    division.

    Args:
        labels: 0 or 1.
        scores: Any numbers, higher where 1 is likelier.
        weights: What every row counts; the same if not given.

    Raises:
        DataError: If there is no row of either class, or a score is NaN.
    """
    _check(labels, scores, weights)
    positives = int(np.count_nonzero(labels))
    negatives = len(labels) - positives
    if positives == 0 or negatives == 0:
        raise DataError(
            f"AUC needs rows of both classes, got {positives} positives and {negatives} negatives"
        )
    order, positive, negative = _sorted_by_score(labels, scores, weights)
    last_of_tie = np.flatnonzero(np.append(order[1:] != order[:-1], True))
    positives_up_to, negatives_up_to = np.cumsum(positive)[last_of_tie], np.cumsum(negative)
    negatives_up_to = negatives_up_to[last_of_tie]
    # Twice the negatives below, plus those tied: without weights an integer.
    twice_below = negatives_up_to + np.append(0, negatives_up_to[:-1])
    twice_wins = np.dot(np.diff(positives_up_to, prepend=0), twice_below).item()
    return twice_wins / (2 * positives_up_to[-1].item() * negatives_up_to[-1].item())


def log_loss(labels: _Labels, probabilities: _Scores, weights: _Weights = None) -> float:
    """Return the mean binary cross-entropy in nats, of rows that count `weights`.

    Raises:
        DataError: If there is no row, or a probability is NaN or outside 0 to 1.
    """
    _check(labels, probabilities, weights)
    return _mean(row_losses(labels, probabilities), weights)


def row_losses(labels: _Labels, probabilities: _Scores) -> Float64[np.ndarray, " rows"]:
    """Return the binary cross-entropy of every row, in nats, as `log_loss` has their mean.

    Probabilities are kept half a float32 step away from 0 and 1, so that one certain and wrong
    row costs about 17 nats instead of infinity.

    Raises:
        DataError: If a probability is outside 0 to 1.
    """
    _check_range(probabilities)
    margin = float(np.finfo(np.float32).eps) / 2
    clipped = np.clip(probabilities.astype(np.float64), margin, 1 - margin)
    return -np.log(np.where(labels.astype(bool), clipped, 1 - clipped))


def normalized_entropy(labels: _Labels, probabilities: _Scores, weights: _Weights = None) -> float:
    """Return the log loss over that of always predicting the share of positives.

    1 means nothing was learnt beyond the mean (He et al., ADKDD 2014, section 3).

    Raises:
        DataError: As `log_loss`, and if the rows are of one class.
    """
    share = _mean((labels != 0).astype(np.float64), weights)
    if share in (0.0, 1.0):
        raise DataError(f"normalised entropy needs rows of both classes, got positives {share:.0%}")
    base = -(share * np.log(share) + (1 - share) * np.log1p(-share))
    return log_loss(labels, probabilities, weights) / float(base)


def calibration_ratio(labels: _Labels, probabilities: _Scores, weights: _Weights = None) -> float:
    """Return the expected over the observed number of positives: 1 is calibrated on average.

    Raises:
        DataError: If there is no positive, or a probability is NaN or outside 0 to 1.
    """
    _check(labels, probabilities, weights)
    _check_range(probabilities)
    if not labels.any():
        raise DataError("calibration ratio needs a positive row, got none")
    expected, observed = probabilities.astype(np.float64), (labels != 0).astype(np.float64)
    if weights is None:
        return float(expected.sum() / observed.sum())
    return float(np.dot(weights, expected) / np.dot(weights, observed))


def reliability_curve(
    labels: _Labels, probabilities: _Scores, weights: _Weights = None, *, bins: int = 15
) -> list[ReliabilityBin]:
    """Compare predicted with observed in bins of equal mass, from low to high probabilities.

    Every bin has as many rows as the others, or as much weight, up to ties: equal probabilities
    share a bin.

    Raises:
        DataError: If there is no row, or a probability is NaN or outside 0 to 1.
    """
    _check(labels, probabilities, weights)
    _check_range(probabilities)
    order = np.argsort(probabilities, kind="stable")
    ordered, positive = probabilities[order].astype(np.float64), labels[order] != 0
    if weights is None:
        last = np.maximum(np.arange(1, bins + 1) * len(order) // bins, 1) - 1
    else:
        weights = weights[order].astype(np.float64)
        mass = np.cumsum(weights)
        last = np.searchsorted(mass, mass[-1] * np.arange(1, bins + 1) / bins)
        last = np.minimum(last, len(order) - 1)
    ends = np.unique(np.searchsorted(ordered, ordered[last], side="right"))
    found = []
    for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True):
        inside = slice(start, end)
        of_rows = None if weights is None else weights[inside]
        found.append(
            ReliabilityBin(
                rows=end - start,
                predicted=_mean(ordered[inside], of_rows),
                observed=_mean(positive[inside], of_rows),
                weight=None if of_rows is None else float(of_rows.sum()),
            )
        )
    return found


def expected_calibration_error(curve: Sequence[ReliabilityBin]) -> float:
    """Return the mean distance of predicted from observed, bins weighted by their mass."""
    mass = sum(of.mass for of in curve)
    return sum(of.mass * abs(of.predicted - of.observed) for of in curve) / mass


def group_auc(
    labels: _Labels,
    scores: _Scores,
    groups: Int[np.ndarray, " rows"],
    weights: _Weights = None,
) -> tuple[float, int]:
    """Return the AUC within groups, weighted by their mass, and the rows it counts.

    Groups of one class have no AUC and are left out, as is usual (Zhou et al., KDD 2018,
    section 6.2, there weighted by impressions).

    Raises:
        DataError: If no group has both classes, or a score is NaN.
    """
    _check(labels, scores, weights)
    order = np.lexsort((scores, groups))
    group, score, one = groups[order], scores[order], labels[order].astype(bool)
    mass = np.ones(len(order)) if weights is None else weights[order].astype(np.float64)
    new_group = np.append(True, group[1:] != group[:-1])
    ties = np.flatnonzero(new_group | np.append(True, score[1:] != score[:-1]))
    positives, negatives = (np.add.reduceat(mass * of, ties) for of in (one, ~one))
    starts = np.flatnonzero(new_group[ties])
    sizes = np.diff(np.append(starts, len(ties)))
    up_to = np.cumsum(negatives)
    before = np.repeat((up_to - negatives)[starts], sizes)
    wins = positives * (up_to - before - negatives / 2)
    area, p, n = (np.add.reduceat(of, starts) for of in (wins, positives, negatives))
    counted = (p > 0) & (n > 0)
    if not counted.any():
        raise DataError("group AUC needs a group with both classes, got none")
    rows = np.diff(np.append(np.flatnonzero(new_group), len(group)))
    value = np.average(area[counted] / (p * n)[counted], weights=(p + n)[counted])
    return float(value), int(rows[counted].sum())


class Reliability(BaseModel):
    """Predicted beside observed, as the model gives them: without any later calibration."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    split: Literal["train", "valid", "test"]
    """Whose rows were measured."""
    expected_calibration_error: Share
    """Mean distance of predicted from observed, bins weighted by their mass."""
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
        mass = math.fsum(of.mass for of in self.bins)
        positive = math.fsum(of.mass * of.observed for of in self.bins) / mass
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
        return Reliability.model_validate_json(read_small(file))
    except OSError as error:
        raise DataError(f"{file} must be readable, got: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise DataError(
            f"{file} must be a reliability curve, got: {place}{': ' if place else ''}{reason}"
        ) from None


def _sorted_by_score(
    labels: _Labels, scores: _Scores, weights: _Weights
) -> tuple[_Labels, _Labels, _Labels]:
    """Return scores in rising order, as anything whose equality is theirs, and what rows count.

    Last come what they count as positives and as negatives: whole numbers where all count the same.
    """
    if weights is None and scores.dtype == np.float32 and float(scores.min()) >= 0:
        bits = (scores + np.float32(0)).view(np.uint32)  # adding zero turns -0.0 into 0.0
        keys = np.sort((bits << np.uint32(1)) | (labels != 0))
        positive = (keys & np.uint32(1)).astype(np.int64)
        return keys >> np.uint32(1), positive, 1 - positive
    order = np.argsort(scores, kind="stable")
    positive = labels[order] != 0
    mass = np.int64(1) if weights is None else weights[order].astype(np.float64)
    return scores[order], positive * mass, ~positive * mass


def _mean(values: _Labels, weights: _Weights) -> float:
    """Return a mean in double precision, of rows that count `weights`."""
    if weights is None:
        return float(values.mean(dtype=np.float64))
    return float(np.average(values, weights=weights.astype(np.float64)))


def _check(labels: _Labels, scores: _Scores, weights: _Weights) -> None:
    if weights is not None and len(weights) != len(labels):
        raise DataError(f"weights must be as many as labels, got {len(weights)} and {len(labels)}")
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
