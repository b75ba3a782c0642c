"""Items about sub-embeddings and sets: Figures 3, 5, 6, 9, 10, 14, 16, 17."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain
from typing import Any

import numpy as np
from jaxtyping import Int64

from multiembed.base.errors import DataError
from multiembed.diagnosis.diagnose import Diagnosis
from multiembed.diagnosis.interaction import LayerDiagnosis
from multiembed.experiments.analysis.statistics import compare_values
from multiembed.experiments.grid.grid import GridCase
from multiembed.experiments.grid.outcome import Point, spread
from multiembed.experiments.paper.quality_tables import auc_analysis, auc_lines, published
from multiembed.experiments.paper.spectrum_tables import compare_fields
from multiembed.experiments.paper.study import (
    Analysis,
    Bars,
    Heatmap,
    Item,
    Lines,
    Panel,
    Scope,
    Series,
    Study,
    largest,
)
from multiembed.spectra.diversity import mean_diversity, set_diversity

UNITARY_WEIGHT = 1e-5
"""Of the regulariser of section 4.2, in the reference code; the paper does not say."""
MOST_SETS = 4
"""Interaction patterns drawn: the first sets."""


def plan_base(scope: Scope) -> list[GridCase]:
    """DCNv2 at the base size."""
    return scope.grid(only=min(scope.of((1,))), scaling=("single",))


def analyse_figure3(study: Study) -> Analysis:
    """Draw the abundance of all sub-embeddings, with their sums by source and by target."""
    return _heatmaps(study, {"dcnv2": study.points[0]}, {"dcnv2": published()["figure9"]["single"]})


def plan_figure9(scope: Scope) -> list[GridCase]:
    """DCNv2 at the largest size, both ways."""
    return scope.grid(only=max(scope.of((10,))))


def analyse_figure9(study: Study) -> Analysis:
    """Draw sub-embeddings of one wide set beside those of several sets."""
    size = largest(study)
    named = {way: study.find("dcnv2", size, way) for way in ("single", "multi")}
    return _heatmaps(study, named, published()["figure9"])


def plan_figure14(scope: Scope) -> list[GridCase]:
    """FFM with the reference's 8 numbers for each pair of fields."""
    return scope.shaped("ffm", dim=8)


def analyse_figure14(study: Study) -> Analysis:
    """Draw the sub-embeddings that FFM learns itself."""
    return _heatmaps(study, {"ffm": study.points[0]}, {})


def regularized(scope: Scope) -> dict[str, dict[str, Any]]:
    """Return DCNv2 as it is, and held near multiples of unitary matrices (section 4.2)."""
    option = "block_weights" if scope.reference else "unitary_scale"
    return {
        "standard": {},
        "regularized": {
            "model": {"options": {option: True}},
            "training": {"regularizers": {"unitary": UNITARY_WEIGHT}},
        },
    }


def plan_figure16(scope: Scope) -> list[GridCase]:
    """DCNv2 at the base size, standard and regularised."""
    base = min(scope.of((1,)))
    return scope.grid(only=base, scaling=("single",), variants=regularized(scope))


def analyse_figure16(study: Study) -> Analysis:
    """Draw sub-embeddings of standard beside those of regularised DCNv2."""
    return _heatmaps(study, {point.labels.variant: point for point in study.points}, {})


def plan_figure5(scope: Scope) -> list[GridCase]:
    """DCNv2 at all sizes, standard and regularised."""
    return scope.grid(scaling=("single",), variants=regularized(scope))


def analyse_figure5(study: Study) -> Analysis:
    """Draw abundance by field, test AUC against size, and how training went."""
    size = largest(study)
    names = ("standard", "regularized")
    named = {name: study.find("dcnv2", size, "single", name) for name in names}
    found = compare_fields(study, named)
    records = {name: study.run(point).records for name, point in named.items()}
    training = [{"model": name, **record} for name, of in records.items() for record in of]
    return replace(
        found,
        data={**found.data, "training": training},
        panels=[*found.panels, *_training_panels(records)],
    )


def plan_figure6(scope: Scope) -> list[GridCase]:
    """DNN and DCNv2 at all sizes, one set."""
    return [*scope.grid("dnn", scaling=("single",)), *scope.grid(scaling=("single",))]


def analyse_figure6(study: Study) -> Analysis:
    """Draw abundance by field and test AUC against size, DNN beside DCNv2."""
    size = largest(study)
    named = {name: study.find(name, size, "single") for name in ("dnn", "dcnv2")}
    return compare_fields(study, named, published_of="criteo")


def plan_figure17(scope: Scope) -> list[GridCase]:
    """Regularised DCNv2, and DNN, at all sizes, both ways."""
    return [*scope.grid(variants=regularized(scope)), *scope.grid("dnn")]


def analyse_figure17(study: Study) -> Analysis:
    """Draw test AUC against size: regularised beside standard, DNN beside DCNv2."""
    auc = auc_analysis(study)
    variants = [point for point in study.points if point.labels.architecture == "dcnv2"]
    plain = [point for point in study.points if point.labels.variant in ("", "standard")]
    panels = [auc_lines(variants, "17a: regularised"), auc_lines(plain, "17b: DNN and DCNv2")]
    return Analysis(auc.data, auc.tables, panels, auc.findings)


def plan_figure10(scope: Scope) -> list[GridCase]:
    """DCNv2 at the largest size both ways, and two variants with several sets."""
    size = max(scope.of((10,)))
    variants = {
        "": {},
        "shared interaction": {"model": {"shared_interaction": True}},
        "aligned norms": {"training": {"regularizers": {"aligned_norms": 1.0}}},
    }
    single = scope.grid(only=size, scaling=("single",))
    return [*single, *scope.grid(only=size, scaling=("multi",), variants=variants)]


def analyse_figure10(study: Study) -> Analysis:
    """Draw how different the sets are, what each carries where, and what variants make of it."""
    size = largest(study)
    names = ("", "shared interaction", "aligned norms")
    multi = {name: study.find("dcnv2", size, "multi", name) for name in names}
    named = {f"multi {name}".rstrip(): point for name, point in multi.items()}
    found = {name: list(study.diagnoses(point)) for name, point in named.items()}
    values = {name: [_diversities(one)[0] for one in runs] for name, runs in found.items()}
    named["single, split"] = study.find("dcnv2", size, "single")
    values["single, split"] = _split_diversities(study, named["single, split"], size)
    differences = _differences(named, values, measure="diversity")
    values["random"] = [_diversities(found["multi"][0])[1]]
    auc = auc_analysis(study)
    rows: list[dict[str, Any]] = [
        {"model": name, "run": at, "diversity": value}
        for name, runs in values.items()
        for at, value in enumerate(runs)
    ]
    spreads = {name: spread(runs) for name, runs in values.items()}
    table = [
        {
            "model": name,
            "diversity": f"{one.mean:.3f}",
            "±": "" if one.count < 2 else f"{one.std:.3f}",
        }
        for name, one in spreads.items()
    ]
    aucs = [point.spread("test_auc").mean for point in multi.values()]
    models = [name or "multi" for name in multi]
    means = [one.mean for one in spreads.values()]
    panels: list[Panel] = [
        Bars("10a, c, d: diversity", "diversity", list(spreads), {"": means}),
        Bars("10c, d: test AUC", "test AUC", models, {"": aucs}, from_zero=False),
        *_patterns(found["multi"][0]),
    ]
    data = {**auc.data, "diversity": rows}
    return Analysis(data, [*auc.tables, table], panels, [*auc.findings, *differences])


def _heatmaps(study: Study, named: Mapping[str, Point], printed: Mapping[str, float]) -> Analysis:
    """Draw the first run of every point, and correlate in all of them."""
    rows, table, panels, correlations = [], [], [], {}
    for name, point in named.items():
        every = list(study.diagnoses(point))
        found, layers = every[0], [_first_layer(one) for one in every]
        layer = layers[0]
        # The paper sorts fields by their own abundance.
        order = np.argsort([field.information_abundance for field in found.fields], kind="stable")
        ordered = layer.abundance[np.ix_(order, order)]
        fields = [found.fields[int(at)].name for at in order]
        rows += [
            {"model": name, "source": fields[i], "target": fields[j], "abundance": ordered[i, j]}
            for i in range(len(fields))
            for j in range(len(fields))
        ]
        panels += _heatmap_panels(name, layer, order, fields)
        correlations[name] = [
            {"model": name, "fold": fold, "seed": seed, **asdict(one.co_influence)}
            for (fold, seed), one in zip(point.replicas, layers, strict=True)
        ]
        table.append(_correlation_line(name, correlations[name], printed.get(name)))
    note = "r correlates a field's own abundance with the sum of what others show it."
    of_runs = {name: [run["pearson"] for run in runs] for name, runs in correlations.items()}
    findings = [note, *_differences(named, of_runs, measure="r")]
    data = {"pairs": rows, "correlations": list(chain.from_iterable(correlations.values()))}
    return Analysis(data, [table], panels, findings)


def _correlation_line(
    name: str, runs: Sequence[Mapping[str, Any]], printed: float | None
) -> dict[str, str]:
    found = spread([run["pearson"] for run in runs])
    return {
        "model": name,
        "published r": "" if printed is None else f"{printed:.2f}",
        "r": f"{found.mean:.2f}",
        "±": "" if found.count < 2 else f"{found.std:.2f}",
        "rank r": f"{spread([run['spearman'] for run in runs]).mean:.2f}",
        "r without i = j": f"{spread([run['pearson_off_diagonal'] for run in runs]).mean:.2f}",
    }


def _differences(
    named: Mapping[str, Point], values: Mapping[str, Sequence[float]], *, measure: str
) -> list[str]:
    """Say of every model but the first how it differs from the first, run by run."""
    (first, base), *others = named.items()
    return [
        compare_values(point, values[name], base, values[first]).sentence(
            name, first, measure=measure
        )
        for name, point in others
    ]


def _heatmap_panels(
    name: str,
    layer: LayerDiagnosis,
    order: Int64[np.ndarray, " fields"],
    fields: list[str],
) -> list[Panel]:
    ordered = layer.abundance[np.ix_(order, order)]
    return [
        Heatmap(f"{name}: abundance of i for j", "target j", "source i", ordered),
        Bars(
            f"{name}: sums",
            "sum of abundance",
            fields,
            {
                "over targets": layer.by_source[order].tolist(),
                "over sources": layer.by_target[order].tolist(),
            },
        ),
    ]


def _first_layer(found: Diagnosis) -> LayerDiagnosis:
    if found.subembeddings is None:
        raise DataError(f"{found.source} must have cross layers or be an FFM, got neither")
    return found.subembeddings.layers[0]


def _training_panels(records: Mapping[str, list[dict[str, int | float]]]) -> list[Panel]:
    panels: list[Panel] = []
    for measure, label in (("train_loss", "training loss"), ("auc", "validation AUC")):
        series = [
            Series(
                name,
                [float(record["epoch"]) for record in found],
                [float(record[measure]) for record in found],
            )
            for name, found in records.items()
        ]
        panels.append(Lines(f"5c: {label}", "epoch", label, series))
    return panels


def _diversities(found: Diagnosis) -> tuple[float, float]:
    """Return the mean diversity of the sets, and that of random ones."""
    if found.diversity is None:
        return math.nan, math.nan
    return found.diversity.mean.diversity, found.diversity.random_mean.diversity


def _split_diversities(study: Study, single: Point, size: int) -> list[float]:
    """Cut one wide set into as many as the other model has, and compare those."""
    found = []
    for run in study.runs(single):
        tables = [table.numpy() for table in run.model.embedding.by_field() if bool(table.any())]
        found.append(mean_diversity([set_diversity(one, sets=size) for one in tables]).diversity)
    return found


def _patterns(found: Diagnosis) -> list[Panel]:
    """Draw how strongly each set carries field i into field j (Figure 10b)."""
    if found.subembeddings is None or found.subembeddings.patterns is None:
        return []
    return [
        Heatmap(f"10b: set {at}, |W_i->j|", "target j", "source i", pattern)
        for at, pattern in enumerate(found.subembeddings.patterns[:MOST_SETS], start=1)
    ]


FIGURE3 = Item("Sub-embeddings", plan_base, analyse_figure3)
FIGURE5 = Item("Regularised", plan_figure5, analyse_figure5)
FIGURE6 = Item("DNN beside DCNv2", plan_figure6, analyse_figure6)
FIGURE9 = Item("Sub-embeddings of sets", plan_figure9, analyse_figure9)
FIGURE10 = Item("Diversity", plan_figure10, analyse_figure10)
FIGURE14 = Item("FFM's sub-embeddings", plan_figure14, analyse_figure14)
FIGURE16 = Item("Regularised sub-embeddings", plan_figure16, analyse_figure16)
FIGURE17 = Item("Regularised and DNN sets", plan_figure17, analyse_figure17)
