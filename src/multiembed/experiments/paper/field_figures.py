"""Abundance field by field, over all runs of a model: Figures 2, 5, 6, 8b."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from multiembed.diagnosis.field import FieldDiagnosis
from multiembed.experiments.analysis.scaling import compare
from multiembed.experiments.analysis.statistics import spread
from multiembed.experiments.grid.results import Point
from multiembed.experiments.paper.study import Lines, Series, Study

ABUNDANCE = "information abundance"
BY_CARDINALITY = "fields by number of values"
MEASURES = (
    "information_abundance",
    "centered_information_abundance",
    "random_information_abundance",
    "normalized_information_abundance",
)
OVER_RANDOM = "normalized_information_abundance"


class FieldComparison(NamedTuple):
    """Models beside each other, field by field."""

    rows: list[dict[str, Any]]
    table: list[dict[str, str]]
    """Means over fields, to print."""
    chart: Lines
    findings: list[str]


def fields_by_cardinality(study: Study, point: Point) -> list[dict[str, Any]]:
    """Return every field's abundances by rising cardinality: means and deviations over runs."""
    of_runs = [[_field_row(field) for field in run.fields] for run in study.diagnoses(point)]
    found = []
    for rows in zip(*of_runs, strict=True):
        row = dict(rows[0])
        for measure in MEASURES:
            over_runs = spread([each[measure] for each in rows])
            row[measure], row[f"{measure}_std"] = over_runs.mean, over_runs.std
        found.append(row)
    return sorted(found, key=lambda row: row["cardinality"])


def _field_row(field: FieldDiagnosis) -> dict[str, Any]:
    return {
        "field": field.name,
        "cardinality": field.cardinality,
        "dim": field.dim,
        "sets": field.sets,
        "information_abundance": field.information_abundance,
        "centered_information_abundance": field.centered_information_abundance,
        "random_information_abundance": field.null_information_abundance,
        OVER_RANDOM: field.normalized_information_abundance,
    }


def printed_fields(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return fields as lines to print."""
    return [
        {
            "field": row["field"],
            "values": f"{row['cardinality']:,}",
            "abundance": f"{row['information_abundance']:.2f}",
            "centred": f"{row['centered_information_abundance']:.2f}",
            "random": f"{row['random_information_abundance']:.2f}",
        }
        for row in rows
    ]


def abundance_series(name: str, rows: Sequence[Mapping[str, Any]]) -> Series:
    """Return the fields' abundances as a line of a chart."""
    x = [float(at) for at in range(1, len(rows) + 1)]
    deviations = [row["information_abundance_std"] for row in rows]
    return Series(
        name,
        x,
        [row["information_abundance"] for row in rows],
        error=deviations if deviations[0] == deviations[0] else None,
    )


def compare_fields(study: Study, named: Mapping[str, Point]) -> FieldComparison:
    """Set every field's abundance in several models beside each other."""
    found = {name: fields_by_cardinality(study, point) for name, point in named.items()}
    (first, base), *others = named.items()
    return FieldComparison(
        rows=[{"model": name, **row} for name, rows in found.items() for row in rows],
        table=[_mean_line(name, point) for name, point in named.items()],
        chart=Lines(
            "By field",
            BY_CARDINALITY,
            ABUNDANCE,
            [abundance_series(name, rows) for name, rows in found.items()],
        ),
        findings=[
            compare(point, base, OVER_RANDOM).sentence(
                name, first, measure="abundance over a random table's"
            )
            for name, point in others
        ],
    )


def _mean_line(name: str, point: Point) -> dict[str, str]:
    over = point.spread(OVER_RANDOM)
    return {
        "model": name,
        "mean abundance": f"{point.spread('information_abundance').mean:.2f}",
        "centred": f"{point.spread('centered_information_abundance').mean:.2f}",
        "over random": f"{over.mean:.3f}",
        "±": "" if over.count < 2 else f"{over.std:.3f}",
    }
