"""How a diagnosis says its measures, rows and lists, on pages and in the terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from multiembed.spectra.catalogue import MEASURES, Measure, Value

NONE = "–"
"""Stands where there is no number."""
LISTS = {"skipped": "Not measured", "unknown_role": "Matrices of unknown role"}
"""Headings of a diagnosis's lists beside its fields; others are called by their names."""
APART = "No verdict above rests on these."
"""Of measured matrices that are not among the fields."""


def written(measure: Measure, value: Value) -> str:
    """Write a measure where it stands alone; infinities are `None` in JSON."""
    if measure.written == "general":
        return _general(value)
    if value is None:
        return NONE
    if measure.written == "percent":
        return f"{value:.0%}"
    return f"{value:,.0f}" if measure.written == "count" else f"{value:,.{measure.digits}f}"


def phrases(values: Mapping[str, Any], place: str) -> str:
    """Say the measures that have a phrase for a place: `abundance 2.31, centred 2.05`."""
    said = (
        getattr(measure, place).format(
            written(measure, values[name]), columns=values.get("columns")
        )
        for name, measure in MEASURES.items()
        if getattr(measure, place) is not None
    )
    return ", ".join(said)


def judged_rows(trained: Sequence[int | None], source: str | None = None) -> str:
    """Say which rows verdicts rest on.

    Args:
        trained: Rows that training met, field by field; `None` where that is unknown.
        source: Where that is known from.
    """
    by = "" if source is None else f" from {source}"
    known = sum(rows is not None for rows in trained)
    if known == 0:
        return "counts unknown: judged on all rows"
    if known == len(trained):
        return f"counts known{by}: judged on the rows met in training"
    return f"counts known{by} for {known} of {len(trained)} fields; the others judged on all rows"


def list_heading(name: str) -> str:
    """Return what a list of a diagnosis is called."""
    return LISTS.get(name, name.replace("_", " ").capitalize())


def _general(value: Value) -> str:
    if value is None or math.isinf(value):
        return "∞"
    if value != 0 and (abs(value) >= 1000 or abs(value) < 1e-3):
        return f"{value:.1e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    return f"{value:.3g}"
