"""What architectures show together, on average: each alone is seldom sure."""

from collections.abc import Mapping, Sequence
from typing import Any

from multiembed.experiments.analysis.scaling import Curve, compare_on_average, curves
from multiembed.experiments.grid.results import Point

MEASURES = {"test_auc": "AUC", "normalized_information_abundance": "of a random table's"}
ENOUGH = 3
"""Architectures whose mean says more than each."""


def averages(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Compare both ways to every size to the base, and to each other, over all architectures.

    Returns:
        One row for each comparison: by measure the mean difference and its 95% interval; no row
        where fewer than three architectures allow it.
    """
    ways: dict[str, dict[str, Curve]] = {"single": {}, "multi": {}}
    for curve in curves(points):
        if not curve.variant:
            ways[curve.scaling][curve.architecture] = curve
    single, multi = ways.values()
    rows = []
    for size in sorted({point.labels.size or 0 for point in points} - {0, 1}):
        for name, ours, beside, theirs, at in (
            (f"single {size}x", single, "the base", single, 1),
            (f"multi {size}x", multi, "the base", multi, 1),
            (f"multi {size}x", multi, f"single {size}x", single, size),
        ):
            met = [(ours[a].at(size), theirs[a].at(at)) for a in ours if a in theirs]
            pairs = [(one, other) for one, other in met if one and other]
            if len(pairs) >= ENOUGH:
                rows.append({"model": name, "beside": beside} | _compared(pairs))
    return rows


def printed_average(row: Mapping[str, Any]) -> dict[str, str]:
    """Return one row of `averages` as a line to print."""
    line = {"of": str(row["architectures"]), "mean of": row["model"], "beside": row["beside"]}
    for measure, heading in MEASURES.items():
        digits = 5 if measure == "test_auc" else 3
        found = (f"{row[measure + end]:+.{digits}f}" for end in ("", "_low", "_high"))
        line[f"{heading}, 95%"] = "{} ({}, {})".format(*found)
    return line


def _compared(pairs: Sequence[tuple[Point, Point]]) -> dict[str, Any]:
    row: dict[str, Any] = {"architectures": len(pairs)}
    for measure in MEASURES:
        found = compare_on_average(pairs, measure)
        row[measure] = found.difference
        row[f"{measure}_low"], row[f"{measure}_high"] = found.t.low, found.t.high
    return row
