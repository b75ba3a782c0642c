"""How well a run's probabilities are calibrated: what its training left in `reliability.json`."""

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, computed_field, model_validator

from multiembed.base.errors import DataError

LARGEST = 2**20
"""Bytes of a file that is read: a curve has a few dozen bins."""
MOST_ROWS = 2**53
"""Above it, floats no longer count one by one."""

Share = Annotated[float, Field(ge=0, le=1)]


class ReliabilityBin(BaseModel):
    """Rows of similar probabilities."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    rows: Annotated[int, Field(ge=1, le=MOST_ROWS)]
    predicted: Share
    """Their mean probability."""
    observed: Share
    """Their share of positives."""


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
        error = self._mean([abs(of.predicted - of.observed) for of in self.bins])
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
        positive = self._mean([of.observed for of in self.bins])
        return (
            f"Predicted probabilities are off by {_points(self.expected_calibration_error)} "
            f"percentage points on average, where {_points(positive)}% of the rows are positive."
        )

    def _mean(self, values: list[float]) -> float:
        rows = [of.rows for of in self.bins]
        return math.fsum(n * value for n, value in zip(rows, values, strict=True)) / sum(rows)


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


def _points(share: float) -> str:
    """Write a share in hundredths, to two digits."""
    return f"{100 * share:.2g}" if share < 0.0995 else f"{100 * share:.0f}"
