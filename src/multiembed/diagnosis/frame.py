"""A diagnosis as a frame of polars or pandas, one row per field."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import polars

from multiembed.base.errors import ConfigError
from multiembed.diagnosis.field import FieldDiagnosis


def frame_of(fields: Sequence[FieldDiagnosis], *, pandas: bool) -> Any:  # noqa: ANN401
    """Return one row per field, in the order of the model.

    Raises:
        ConfigError: If pandas is asked for and not installed.
    """
    rows = [
        {
            "field": field.name,
            "verdict": field.verdict.label,
            "rests_on": field.verdict.rests_on,
            "finding": field.verdict.finding,
            "cardinality": field.cardinality,
            "rows_trained": field.rows_trained,
            "dim": field.dim,
            "sets": field.sets,
            **field.measures,
        }
        for field in fields
    ]
    # Some measures are whole numbers in one table and none in another: look at all rows.
    if not pandas:
        return polars.DataFrame(rows, infer_schema_length=None)
    try:
        return import_module("pandas").DataFrame(rows)
    except ImportError:
        raise ConfigError(
            "pandas must be installed for a frame of it, got none: pip install pandas"
        ) from None
