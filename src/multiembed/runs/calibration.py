"""A map from a model's probabilities to calibrated ones, in plain numbers beside the weights."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, model_validator
from scipy.special import expit, logit

from multiembed.base.errors import ConfigError, DataError
from multiembed.base.files import write_text
from multiembed.base.json_files import read_json_file
from multiembed.base.validation import checked

SMALLEST = 1e-7
"""Probabilities are kept this far from 0 and 1 before their logits are taken."""

CALIBRATED_FROM, CALIBRATED_TO = 0.97, 1.03
"""What is predicted over what is observed, where a run that may calibrate itself does not."""

Method = Literal["isotonic", "platt"]


class Calibration(BaseModel):
    """A rising function of the probability."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: Method
    """`isotonic`: straight lines through `points`; `platt`: a line on the logit."""
    weights: str
    """Names the weights that it was fitted to."""
    points: tuple[tuple[float, float], ...] = ()
    """Probabilities before and after, both rising."""
    slope: float = 1.0
    intercept: float = 0.0

    @model_validator(mode="after")
    def _rises(self) -> "Calibration":
        points = np.array(self.points).reshape(-1, 2)
        if self.method == "isotonic" and len(points) == 0:
            raise ValueError("a list of points for isotonic")
        if (np.diff(points, axis=0) < 0).any() or (points < 0).any() or (points > 1).any():
            raise ValueError("rising between 0 and 1")
        return self

    def apply(self, probabilities: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
        """Return calibrated probabilities of the same type."""
        p = probabilities.astype(np.float64)
        if self.method == "isotonic":
            before, after = np.array(self.points).T
            calibrated = np.interp(p, before, after)
        else:
            p = np.clip(p, SMALLEST, 1 - SMALLEST)  # float32 rounds a sure model's to 0 and 1
            calibrated = expit(self.slope * logit(p) + self.intercept)
        return calibrated.astype(probabilities.dtype)

    def save(self, file: Path) -> None:
        """Write it, whole or not at all."""
        write_text(file, self.model_dump_json(indent=1) + "\n")


class SelfCalibrated(BaseModel):
    """What became of a run that was to calibrate itself when its training ended."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    ratio: float
    """What was predicted on validation over what was observed."""
    method: Method | None
    """`None` where nothing was fitted."""
    after: float
    """The ratio afterwards."""

    @property
    def words(self) -> str:
        """The same in a line."""
        lead = f"predicted {self.ratio:.2f} times what was observed on validation"
        if self.method is None:
            return f"{lead}: not calibrated, since it is from {CALIBRATED_FROM} to {CALIBRATED_TO}"
        return f"{lead}: calibrated by {self.method}, now {self.after:.2f}"


def read_self_calibrated(summary: Path) -> SelfCalibrated | None:
    """Read what a run's summary says of its own calibration, if it says something.

    Raises:
        DataError: If it says anything else.
    """
    content = read_json_file(summary) if summary.exists() else None
    found = content.get("calibration") if isinstance(content, dict) else None
    if found is None:
        return None
    try:
        return checked(SelfCalibrated, found if isinstance(found, dict) else {}, at="calibration.")
    except ConfigError as error:
        raise DataError(f"{summary} must be a run's summary, got: {error}") from None


def weights_name(state: Mapping[str, object]) -> str:
    """Name weights by the evaluation that was made when they were saved."""
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:16]


def read_calibration(file: Path, weights: str) -> Calibration | None:
    """Read a calibration, if there is one.

    Raises:
        DataError: If it is broken, or was fitted to other weights.
    """
    if not file.exists():
        return None
    content = read_json_file(file)
    if not isinstance(content, dict):
        raise DataError(f"{file} must be a calibration, got {type(content).__name__}")
    try:
        calibration = checked(Calibration, content)
    except ConfigError as error:
        raise DataError(f"{file} must be a calibration, got: {error}") from None
    if calibration.weights != weights:
        raise DataError(f"{file} must be fitted to these weights, got one fitted to others")
    return calibration
