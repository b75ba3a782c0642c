"""Items about the tables' spectra: Table 2 and Figures 1, 2, 8b, 11, 15."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from multiembed.base.errors import ConfigError
from multiembed.diagnosis.diagnose import Diagnosis
from multiembed.diagnosis.field import FieldDiagnosis
from multiembed.diagnosis.readers.checkpoint import read_checkpoint
from multiembed.experiments.analysis.statistics import compare_points
from multiembed.experiments.grid.grid import GridCase
from multiembed.experiments.grid.outcome import Point, spread
from multiembed.experiments.paper.quality_tables import (
    auc_analysis,
    auc_lines,
    plan_curves,
    point_row,
    published,
)
from multiembed.experiments.paper.study import Analysis, Item, Lines, Scope, Series, Study, largest
from multiembed.spectra.catalogue import measures_at
from multiembed.spectra.spectrum import spectrum
from multiembed.spectra.summary import Summary

ABUNDANCE = "information abundance"
BY_CARDINALITY = "fields by number of values"
OVER_RANDOM = "normalized_information_abundance"
FIGURE_1A = ("dnn", "ipnn", "nfwfm", "xdeepfm", "dcnv2", "finalmlp")


def plan_table2(scope: Scope) -> list[GridCase]:
    """DCNv2 at widths 5 to 40, and four sets of ten, on five shares of the rows."""
    found = []
    for share in scope.shares or tuple(published()["table2"]["data_share"]):
        for dim in _table2_dims(scope):
            found += scope.shaped("dcnv2", dim=dim, share=share)
        # The paper says "40, ME"; its sets are taken to be of base width.
        sets = max(2, max(_table2_dims(scope)) // 10)
        found += scope.shaped("dcnv2", dim=10, sets=sets, share=share)
    return found


def _table2_dims(scope: Scope) -> tuple[int, ...]:
    dims = tuple(published()["table2"]["embedding_dim"])
    return dims if scope.sizes is None else tuple(10 * size for size in scope.sizes)


def analyse_table2(study: Study) -> Analysis:
    """Set mean abundance beside the paper's, and beside what few rows alone make of it."""
    rows, table = [], []
    for point in study.points:
        dim, sets, share = point.outcomes[0].dim, point.outcomes[0].sets, point.labels.share
        printed = _published_abundance(dim, sets, share)
        rows.append({**point_row(point), "published_abundance": printed})
        table.append(
            {
                "rows": f"{share:.0%}",
                "dim": str(dim) if sets == 1 else f"{sets} x {dim}",
                "published": "" if printed is None else f"{printed:.2f}",
                "measured": f"{point.spread('information_abundance').mean:.2f}",
                "centred": f"{point.spread('centered_information_abundance').mean:.2f}",
                "over random": f"{point.spread('normalized_information_abundance').mean:.2f}",
            }
        )
    shares = sorted({point.labels.share for point in study.points})
    series = [_abundance_series(study.points, share) for share in shares]
    chart = Lines("Table 2", "embedding size", f"mean {ABUNDANCE}", series)
    note = (
        "With few rows many embeddings stay as they were drawn, which by itself raises abundance: "
        "read it beside the abundance over that of a random table."
    )
    return Analysis({"abundance": rows}, [table], [chart], [note])


def _published_abundance(dim: int, sets: int, share: float) -> float | None:
    table = published()["table2"]
    if share not in table["data_share"]:
        return None
    at = table["data_share"].index(share)
    if sets == 4 and dim == 10:
        return table["multi_40"][at]
    dims = table["embedding_dim"]
    return table["single"][at][dims.index(dim)] if sets == 1 and dim in dims else None


def _abundance_series(points: Sequence[Point], share: float) -> Series:
    own = [p for p in points if p.labels.share == share and p.outcomes[0].sets == 1]
    y = [point.spread("information_abundance").mean for point in own]
    return Series(f"{share:.0%} of rows", [float(p.outcomes[0].dim) for p in own], y)


def plan_figure1(scope: Scope) -> list[GridCase]:
    """Six architectures at all sizes, one set."""
    found = []
    for name in FIGURE_1A:
        found += scope.grid(name, scaling=("single",))
    return found


def analyse_figure1(study: Study) -> Analysis:
    """Draw test AUC against size, and the spectra of DCNv2's largest field."""
    series, rows = [], []
    for size in study.sizes:
        # The paper does not say which field: here the one with most values.
        field = largest_field(study.diagnosis(study.find("dcnv2", size, "single")))
        values = field.singular_values / field.singular_values[0]
        places = list(range(1, len(values) + 1))
        series.append(
            Series(f"{size}x", [float(k) for k in places], values.tolist(), dashed=size == 1)
        )
        rows += [
            {"size": size, "field": field.name, "place": k, "normalized_singular_value": value}
            for k, value in zip(places, values.tolist(), strict=True)
        ]
    spectra = Lines(
        "1b: DCNv2, field with most values", "place", "singular value over the largest", series
    )
    auc = auc_analysis(study, published_of="criteo")
    panels = [auc_lines(study.points, "1a: test AUC"), spectra]
    return Analysis({**auc.data, "spectra": rows}, auc.tables, panels, auc.findings)


def largest_field(found: Diagnosis) -> FieldDiagnosis:
    """Return the field with most values."""
    return max(found.fields, key=lambda field: field.cardinality)


def plan_enlarged(scope: Scope) -> list[GridCase]:
    """DCNv2 with one wide set, at the largest size."""
    return scope.grid(only=max(scope.of((10,))), scaling=("single",))


def analyse_figure2(study: Study) -> Analysis:
    """Draw every field's abundance beside that of a random table of its shape."""
    (point,) = study.points
    rows = fields_by_cardinality(study, point)
    random = [float(row["random_information_abundance"]) for row in rows]
    x = [float(at) for at in range(1, len(rows) + 1)]
    series = [abundance_series("learned", rows), Series("random", x, random, dashed=True)]
    share = point.spread("normalized_information_abundance").mean
    said = (
        f"Learned tables use {share:.0%} of the abundance of random ones, on average over fields."
    )
    chart = Lines("Figure 2", BY_CARDINALITY, ABUNDANCE, series)
    table = [
        {
            "field": row["field"],
            "values": f"{row['cardinality']:,}",
            "abundance": f"{row['information_abundance']:.2f}",
            "centred": f"{row['centered_information_abundance']:.2f}",
            "random": f"{row['random_information_abundance']:.2f}",
        }
        for row in rows
    ]
    return Analysis({"fields": rows}, [table], [chart], [said])


def analyse_figure8(study: Study) -> Analysis:
    """Draw DCNv2's test AUC against size, and each field's abundance, single beside multi."""
    size = largest(study)
    named = {f"{way} {size}x": study.find("dcnv2", size, way) for way in ("single", "multi")}
    found = compare_fields(study, named, published_of="criteo")
    return replace(found, panels=[auc_lines(study.points, "8a: test AUC"), found.panels[0]])


def plan_figure15(scope: Scope) -> list[GridCase]:
    """DCNv2 at all sizes, one set."""
    return scope.grid(scaling=("single",))


def analyse_figure15(study: Study) -> Analysis:
    """Draw mean abundance over width, as the paper, and over random tables, as it should be."""
    rows, table = [], []
    for point in study.points:
        dim = point.outcomes[0].dim
        raw = point.spread("information_abundance").mean
        over = point.spread("normalized_information_abundance").mean
        rows.append({**point_row(point), "abundance_over_dim": raw / dim})
        table.append(
            {"dim": str(dim), "over dim": f"{raw / dim:.3f}", "over random": f"{over:.3f}"}
        )
    x = [float(point.outcomes[0].dim) for point in study.points]
    series = [
        Series("over dim (the paper's)", x, [row["abundance_over_dim"] for row in rows]),
        Series("over random", x, [row["normalized_information_abundance"] for row in rows]),
    ]
    chart = Lines("Figure 15", "embedding size", ABUNDANCE, series)
    return Analysis({"abundance": rows}, [table], [chart])


def analyse_figure11(study: Study) -> Analysis:
    """Draw the spectrum of a language model's largest table beside DCNv2's."""
    path = study.scope.checkpoint
    if path is None:
        raise ConfigError("figure11 must have --checkpoint, a local T5 or the like, got none")
    table = max(read_checkpoint(path).tables, key=lambda table: table.rows)
    whole = Summary.empty(table.width)
    for _, chunk in table.chunks():
        whole.add(chunk, name=table.name)
    theirs = spectrum(whole).singular_values
    ours = largest_field(study.diagnosis(study.points[0])).singular_values
    series, rows, lines = [], [], []
    for name, values in ((path.name, theirs), ("dcnv2, field with most values", ours)):
        shares = values / values[0]
        places = (np.arange(1, len(shares) + 1) / len(shares)).tolist()
        series.append(Series(name, places, shares.tolist()))
        mean = float(shares.mean())
        series.append(Series(f"mean of {name}", [0.0, 1.0], [mean, mean], dashed=True))
        rows += [
            {"model": name, "place_over_dim": x, "normalized_singular_value": y}
            for x, y in zip(places, shares.tolist(), strict=True)
        ]
        lines.append({"model": name, "mean of s_k / s_1": f"{mean:.3f}"})
    chart = Lines("Figure 11", "place over width", "singular value over the largest", series)
    return Analysis({"spectra": rows}, [lines], [chart])


def fields_by_cardinality(study: Study, point: Point) -> list[dict[str, Any]]:
    """Return every field's abundances by rising cardinality: means and deviations over runs."""
    found, shown = [], measures_at("outcome")
    for fields in zip(*(run.fields for run in study.diagnoses(point)), strict=True):
        first = fields[0]
        row = {"field": first.name, "cardinality": first.cardinality}
        row |= {"dim": first.dim, "sets": first.sets}
        over_runs = {
            name.replace("null_", "random_"): spread([field.measures[name] for field in fields])
            for name in (*shown[:2], "null_information_abundance", *shown[2:])
        }
        row |= {name: runs.mean for name, runs in over_runs.items()}
        row |= {f"{name}_std": runs.std for name, runs in over_runs.items()}
        found.append(row)
    return sorted(found, key=lambda row: row["cardinality"])


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


def compare_fields(
    study: Study, named: Mapping[str, Point], *, published_of: str | None = None
) -> Analysis:
    """Set every field's abundance in several models beside each other, and all points' test AUC."""
    found = {name: fields_by_cardinality(study, point) for name, point in named.items()}
    (first, base), *others = named.items()
    auc = auc_analysis(study, published_of=published_of)
    series = [abundance_series(name, rows) for name, rows in found.items()]
    differences = [
        compare_points(point, base, OVER_RANDOM).sentence(
            name, first, measure="abundance over a random table's"
        )
        for name, point in others
    ]
    fields = [{"model": name, **row} for name, rows in found.items() for row in rows]
    return Analysis(
        data={**auc.data, "fields": fields},
        tables=[*auc.tables, [_mean_line(name, point) for name, point in named.items()]],
        panels=[Lines("By field", BY_CARDINALITY, ABUNDANCE, series), auc_lines(study.points)],
        findings=[*auc.findings, *differences],
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


TABLE2 = Item("Abundance by width and data", plan_table2, analyse_table2)
FIGURE1 = Item("Models do not scale", plan_figure1, analyse_figure1)
FIGURE2 = Item("Learned beside random", plan_enlarged, analyse_figure2)
FIGURE8 = Item("Single beside multi", plan_curves, analyse_figure8)
FIGURE11 = Item("A language model", plan_enlarged, analyse_figure11, needs_checkpoint=True)
FIGURE15 = Item("Normalised abundance", plan_figure15, analyse_figure15)
