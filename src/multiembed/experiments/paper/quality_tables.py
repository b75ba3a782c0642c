"""Items about test AUC against size, beside the numbers printed in the paper: Tables 1, 3, 4, 7."""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from importlib.resources import files
from itertools import chain
from typing import Any

from multiembed.experiments.analysis.scaling import averages, curves, printed_average
from multiembed.experiments.analysis.statistics import compare_points
from multiembed.experiments.grid.grid import GridCase, RunLabels
from multiembed.experiments.grid.outcome import Point
from multiembed.experiments.paper.study import (
    Analysis,
    Item,
    Lines,
    Panel,
    Scope,
    Series,
    Study,
    no_runs,
)
from multiembed.spectra.catalogue import measures_at

TABLE_1 = ("dnn", "ipnn", "nfwfm", "xdeepfm", "dcnv2", "finalmlp")


@lru_cache(maxsize=1)
def published() -> dict[str, Any]:
    """Return all of them, by table and figure."""
    text = files("multiembed.experiments.paper").joinpath("published.toml").read_text("utf-8")
    return tomllib.loads(text)


def nearest_dataset(fields: int) -> str:
    """Return which of the paper's datasets a number of fields is most like."""
    of_datasets = published()["table4"]
    return min(of_datasets, key=lambda name: abs(of_datasets[name]["fields"] - fields))


def published_auc(
    dataset: str, architecture: str, size: int | None, scaling: str
) -> tuple[float, float] | None:
    """Return mean and deviation of the test AUC in Table 1, if it is there."""
    row = published()["table1"][dataset].get(architecture)
    if row is None:
        return None
    sizes = row["size"] if scaling == "single" else row["multi_size"]
    if size not in sizes:
        return None
    at = sizes.index(size)
    return row[scaling][at], row[f"{scaling}_std"][at]


def plan_table1(scope: Scope) -> list[GridCase]:
    """Six architectures at five sizes, both ways."""
    return list(chain.from_iterable(scope.grid(name) for name in TABLE_1))


def analyse_table1(study: Study) -> Analysis:
    """Set the test AUC of every point beside the paper's."""
    near = nearest_dataset(len(study.scope.dataset.cardinalities))
    return _architectures(study, near)


def plan_curves(scope: Scope) -> list[GridCase]:
    """DCNv2 at all sizes, both ways."""
    return scope.grid()


def _architectures(study: Study, published_of: str) -> Analysis:
    found = auc_analysis(study, published_of=published_of, panels=auc_panels(study.points))
    together = averages(study.points)
    if not together:
        return found
    return replace(
        found,
        data={**found.data, "averages": together},
        tables=[*found.tables, [printed_average(row) for row in together]],
    )


def plan_table3(scope: Scope) -> list[GridCase]:
    """DCNv2, one cross layer deeper, one hidden layer deeper."""
    # The paper does not say how many layers it adds: here one.
    options = dict(scope.settings.get("model", {}).get("options", {}))
    hidden = list(options.get("hidden", [400, 400]))
    layers = int(options.get("cross_layers", 4))
    variants = {
        "standard": {},
        "more_cross_layers": {"model": {"options": {"cross_layers": layers + 1}}},
        "deeper_mlp": {"model": {"options": {"hidden": [*hidden, hidden[-1]]}}},
    }
    return scope.grid(sizes=(1, 2, 4), scaling=("single",), variants=variants)


def analyse_table3(study: Study) -> Analysis:
    """Set the test AUC of the deeper models beside the paper's."""
    printed = {
        (size, variant): value
        for variant, values in published()["table3"].items()
        for size, value in zip((1, 2, 4), values, strict=True)
    }
    return _beside(study, lambda labels: printed.get((labels.size or 0, labels.variant)))


def plan_table7(scope: Scope) -> list[GridCase]:
    """AutoInt at four sizes, both ways."""
    return scope.grid("autoint", sizes=(1, 2, 3, 4))


def analyse_table7(study: Study) -> Analysis:
    """Set AutoInt's test AUC beside what is legible of the paper's."""
    legible = published()["table7"]
    by_place = {
        (1, "single"): legible["single_base"],
        (3, "single"): legible["single_3x"],
        (3, "multi"): legible["multi_3x"],
    }
    return _beside(study, lambda labels: by_place.get((labels.size or 0, labels.scaling)))


def _beside(study: Study, printed: Callable[[RunLabels], float | None]) -> Analysis:
    """Set every point's test AUC beside the one that the paper prints without a deviation."""
    rows, table = [], []
    for point in study.points:
        value = printed(point.labels)
        rows.append({**point_row(point), "published_auc": value})
        table.append(printed_row(point, None if value is None else (value, None)))
    return Analysis({"quality": rows}, [table], [auc_lines(study.points)], _gains(study.points))


def analyse_table4(study: Study) -> Analysis:
    """Set the dataset's sizes beside those of the paper's."""
    schema = study.scope.dataset.schema
    near = nearest_dataset(len(schema.fields))
    printed = published()["table4"][near]
    measured = {
        "instances": sum(split.rows for split in schema.splits.values()),
        "fields": len(schema.fields),
        "features": sum(schema.cardinalities),
        "largest_field": max(schema.cardinalities),
        "smallest_field": min(schema.cardinalities),
    }
    rows = [
        {"measure": name, "published": printed[name], "measured": value}
        for name, value in measured.items()
    ]
    table = [
        {
            "measure": name.replace("_", " "),
            f"published ({near})": f"{printed[name]:,}",
            "measured": f"{value:,}",
        }
        for name, value in measured.items()
    ]
    return Analysis({"statistics": rows}, [table], [])


def auc_analysis(
    study: Study, *, published_of: str | None = None, panels: Sequence[Panel] = ()
) -> Analysis:
    """Return all points of a study with their test AUC, and what the paper printed for them."""
    rows, table = [], []
    for point in study.points:
        labels = point.labels
        place = (labels.architecture, labels.size, labels.scaling)
        found = None if published_of is None else published_auc(published_of, *place)
        row = point_row(point)
        row["published_auc"], row["published_auc_std"] = found or (None, None)
        rows.append(row)
        table.append(printed_row(point, found))
    return Analysis({"quality": rows}, [table], list(panels), _gains(study.points))


def point_row(point: Point) -> dict[str, Any]:
    """Return one point as column to value."""
    labels, first = point.labels, point.outcomes[0]
    row: dict[str, Any] = {
        "architecture": labels.architecture,
        "variant": labels.variant,
        "size": labels.size,
        "scaling": labels.scaling,
        "share": labels.share,
        "dim": first.dim,
        "sets": first.sets,
        "parameters": first.parameters,
        "runs": len(point.outcomes),
    }
    for measure in ("test_auc", "test_log_loss", *measures_at("outcome"), "seconds"):
        found = point.spread(measure)
        row[measure], row[f"{measure}_std"] = found.mean, found.std
    return row


def printed_row(
    point: Point, published: tuple[float, float | None] | None = None
) -> dict[str, str]:
    """Return one point as a line to print, beside mean and deviation of what was published."""
    found = point.spread("test_auc")
    line: dict[str, str] = {}
    if published is not None:
        line["published"] = f"{published[0]:.5f}"
        if published[1] is not None:
            line["its ±"] = _short(published[1])
    return {
        "model": point.labels.point,
        **line,
        "measured": f"{found.mean:.5f}",
        "±": "" if found.count < 2 else _short(found.std),
        "log loss": f"{point.spread('test_log_loss').mean:.5f}",
        "abund.": f"{point.spread('information_abundance').mean:.2f}",
    }


def auc_lines(points: Sequence[Point], title: str = "Test AUC") -> Lines:
    """Draw test AUC against size, one line per architecture, variant and way."""
    series = []
    for curve in curves(points):
        spreads = [point.spread("test_auc") for point in curve.points]
        series.append(
            Series(
                name=curve.name,
                x=[float(size) for size in curve.sizes],
                y=[found.mean for found in spreads],
                error=None if spreads[0].count < 2 else [found.std for found in spreads],
                dashed=curve.scaling == "single",
            )
        )
    return Lines(title, "multiple of the base size", "test AUC", series)


def auc_panels(points: Sequence[Point]) -> list[Panel]:
    """Draw test AUC against size, a panel for each architecture."""
    names = dict.fromkeys(point.labels.architecture for point in points)
    return [
        auc_lines([point for point in points if point.labels.architecture == name], name)
        for name in names
    ]


def _gains(points: Sequence[Point]) -> list[str]:
    """Say of every curve what its largest size brought over the base, and multi over single."""
    findings = []
    by_name = {}
    for curve in curves(points):
        last = curve.points[-1]
        by_name[curve.architecture, curve.variant, curve.scaling] = last
        if last is not curve.points[0] and curve.sizes[0] == 1:
            name = f"{curve.name} {curve.sizes[-1]}x"
            findings.append(compare_points(last, curve.points[0]).sentence(name, "its base"))
    findings += _single_against_multi(by_name)
    return findings


def _single_against_multi(last: Mapping[tuple[str, str, str], Point]) -> list[str]:
    found = []
    for (architecture, variant, scaling), point in last.items():
        single = last.get((architecture, variant, "single"))
        if scaling == "multi" and single is not None and single.labels.size == point.labels.size:
            name = f"{architecture} {variant}".rstrip()
            rival = f"single, {point.labels.size}x"
            found.append(compare_points(point, single).sentence(f"{name} multi", rival))
    return found


def _short(deviation: float) -> str:
    return f"{deviation:.5f}".removeprefix("0")


TABLE1 = Item("Test AUC of six architectures", plan_table1, analyse_table1)
TABLE3 = Item("Deeper instead of wider", plan_table3, analyse_table3)
TABLE4 = Item("Statistics of the data", no_runs, analyse_table4)
TABLE7 = Item("AutoInt", plan_table7, analyse_table7)
FIGURE12 = Item(
    "Table 1 drawn, Criteo", plan_table1, partial(_architectures, published_of="criteo")
)
FIGURE13 = Item("Table 1 drawn, Avazu", plan_table1, partial(_architectures, published_of="avazu"))
