"""One fit as a file keeps it, a contender's fits together, and how it differs from another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, JsonValue, PrivateAttr

from multiembed.experiments.analysis.statistics import Interval
from multiembed.experiments.compare.contender_columns import SplitColumns
from multiembed.runs.evaluation import quality


class Result(BaseModel):
    """One fit, as a file keeps it; its probabilities lie beside it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Of the contender, or of our recipe."""
    title: str
    seed: int | None = None
    """None where one stands for all seeds."""
    is_ours: bool = False
    is_tree: bool = False
    settings: dict[str, JsonValue] = {}
    """What it was told beforehand, and versions of packages."""
    chosen: dict[str, JsonValue] = {}
    """What validation chose."""
    seconds: float = 0.0
    """Of fitting, choosing, and scoring validation and test rows."""
    valid_log_loss: float = 0.0
    _test: dict[str, float] = PrivateAttr(default_factory=dict)
    _probabilities: Float[np.ndarray, " rows"] = PrivateAttr(default_factory=lambda: np.empty(0))

    def judged(self, probabilities: Float[np.ndarray, " rows"], test: SplitColumns) -> "Result":
        """Return the same with its quality on the test rows.

        Raises:
            DataError: If a probability is none.
        """
        own = self.model_copy()
        own._test = quality(test.labels, probabilities, test.weights)
        own._probabilities = probabilities
        return own

    @property
    def test(self) -> Mapping[str, float]:
        """Quality on the test rows."""
        return self._test

    @property
    def probabilities(self) -> Float[np.ndarray, " rows"]:
        """Of the test rows."""
        return self._probabilities


@dataclass(frozen=True)
class Standing:
    """One contender: means over its seeds."""

    name: str
    title: str
    is_ours: bool
    is_tree: bool
    fits: int
    auc: float
    log_loss: float
    calibration_ratio: float
    """Predicted over observed positives."""
    seconds: float
    """Of one fit and its scoring."""
    valid_log_loss: float
    """By which the best of ours is chosen."""
    settings: Mapping[str, JsonValue]
    chosen: Sequence[Mapping[str, JsonValue]]
    """What validation chose, seed by seed."""


@dataclass(frozen=True)
class Difference:
    """A contender less the reference, on the same test rows."""

    auc: Interval
    log_loss: Interval
