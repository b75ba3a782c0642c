"""What became of one model's tables over time: records of fields, steps, and all together."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from multiembed.diagnosis.drift_page import drift_page
from multiembed.diagnosis.row_keys import Change
from multiembed.diagnosis.shifts import Null
from multiembed.spectra.subspaces import Turn

DRIFT_FORMAT = 1
"""Version of the JSON that `DriftDiagnosis.to_json` writes."""
KINDS = ("spectrum", "subspace", "rows")
"""What a step can stand out by: energies, leading directions, how rows lie to each other."""


@dataclass(frozen=True, kw_only=True)
class FieldStep:
    """What became of a field's table from one checkpoint to another."""

    rows_before: int
    rows_after: int
    new: Change
    """Rows that the first had not."""
    gone: Change
    """Rows that the second has not."""
    turn: Turn
    """Of the rows that all checkpoints have."""


@dataclass(frozen=True, kw_only=True)
class LastingDirection:
    """A direction that many checkpoints in a row share, told by the rows it lies in."""

    energy: float
    """Share of the energy it holds, mean over these checkpoints."""
    rows: tuple[str, ...]
    """Up to five rows that it sets furthest apart from the mean."""
    share: float
    """How much of its square lies in these rows."""


@dataclass(frozen=True, kw_only=True)
class FieldShift:
    """A field before and after an alarm; what single checkpoints alone hold is in neither."""

    before: int
    """Directions that last from the first checkpoint to the step."""
    after: int
    """Directions that last from the step to the last checkpoint."""
    kept: int
    """Those of both at less than 45 degrees."""
    lost: tuple[LastingDirection, ...]
    """Those of before alone."""
    gained: tuple[LastingDirection, ...]
    """Those of after alone."""


@dataclass(frozen=True, kw_only=True)
class FieldDrift:
    """One field over time."""

    name: str
    matched_by: str
    """How rows were found again: by the `value` they stand for, or by their `number`."""
    rows: int
    """Rows that all checkpoints have (and have trained, where that is known): those compared."""
    abundance: tuple[float, ...]
    """Centred information abundance of these rows at every checkpoint."""
    steps: tuple[FieldStep, ...]
    """From each checkpoint to the next."""
    whole: FieldStep
    """From the first checkpoint to the last."""
    largest: int
    """The step that stands out most, counted from 0."""
    kind: str
    """By what it does, see `KINDS`."""
    shift: FieldShift | None
    """What it lost and gained at that step; `None` where it is no alarm."""
    p_value: float
    """How often quiet checkpoints hold such a step in any field."""
    alarm: bool
    """Whether the p-value is at most 0.02, and the step longer than its neighbours."""
    drifts: bool
    """Whether the p-value is at most 0.02, and no step is longer: the field changes steadily."""


@dataclass(frozen=True, kw_only=True)
class DriftDiagnosis:
    """What `diagnose_over_time` found; `to_json` and `to_html` write it down.

    >>> import numpy as np
    >>> import multiembed as me
    >>> found = me.diagnose_over_time({"june": {"site": np.eye(9)}, "july": {"site": np.eye(12)}})
    >>> isinstance(found, me.DriftDiagnosis), found.fields[0].steps[0].new.rows
    (True, ('9-11',))
    """

    version: str
    """Of multiembed."""
    date: str
    """When it was written."""
    sources: tuple[str, ...]
    """The checkpoints, in order."""
    headline: str
    """All together in one sentence."""
    findings: tuple[str, ...]
    """A sentence for every field that changed."""
    alarm: bool
    """Whether a step stands out in some field."""
    p_value: float
    """Of all fields together."""
    null: Null
    """What it rests on, see `multiembed.diagnosis.shifts`."""
    fields: tuple[FieldDrift, ...]
    apart: tuple[str, ...]
    """Fields that some checkpoint lacks: they were not compared."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain lists, dictionaries and numbers."""
        return {"format": DRIFT_FORMAT, **json.loads(json.dumps(asdict(self), allow_nan=False))}

    def to_json(self) -> str:
        """Return everything as JSON."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"

    def to_html(self) -> str:
        """Return one self-contained page without scripts."""
        return drift_page(self.to_dict())
