"""Charts of pairs: what fields leave to each other, whether sets differ, calibration.

All take models as `Diagnosis.to_dict` writes them and return HTML.
"""

import re
from collections.abc import Sequence

from multiembed.diagnosis.page_charts import CARDINALITY_AXIS, MODEL_LOOKS, RANDOM, Found
from multiembed.report.axes import Axis, axis_of
from multiembed.report.heatmap import HeatmapChart, HeatmapView, heatmap
from multiembed.report.plot import Chart, Trace, plot
from multiembed.report.wording import cut_name

MOST_PULLS = 30
"""So many bars of the strongest; the others pull less."""


def interaction_heatmap(model: Found) -> str:
    """Draw the abundance that every field keeps in every other, with menus of layers and orders."""
    interaction = model["subembeddings"]
    return heatmap(
        HeatmapChart(
            names=interaction["fields"],
            views=_views(interaction),
            orders=_orders(model["fields"]),
            rows="field i",
            columns="into field j",
            joined="carried into",
            height=480,
        )
    )


def shared_heatmaps(models: Sequence[Found]) -> list[str]:
    """Draw the first layers of several models on one scale; equal fields stand in one order."""
    first = [name["name"] for name in models[0]["fields"]]
    layers = [model["subembeddings"]["layers"][0]["abundance"] for model in models]
    high = max(value for rows in layers for row in rows for value in row if value is not None)
    found = []
    for model, values in zip(models, layers, strict=True):
        names = model["subembeddings"]["fields"]
        fields = models[0]["fields"] if names == first else model["fields"]
        found.append(
            heatmap(
                HeatmapChart(
                    names=names,
                    views=[HeatmapView(name="", values=values, unit="abundance")],
                    orders=_orders(fields)[:1],
                    rows="field i",
                    columns="into field j",
                    joined="carried into",
                    low=1.0,
                    high=high,
                    height=300,
                )
            )
        )
    return found


def _orders(fields: Sequence[Found]) -> list[tuple[str, list[int]]]:
    def by(key: str) -> list[int]:
        return sorted(range(len(fields)), key=lambda at: (fields[at][key], at))

    return [
        ("abundance, rising", by("information_abundance")),
        ("centred abundance, rising", by("centered_information_abundance")),
        ("cardinality, rising", by("cardinality")),
        ("name", sorted(range(len(fields)), key=lambda at: _natural(fields[at]["name"]))),
        ("place in the model", list(range(len(fields)))),
    ]


def _natural(name: str) -> list[str | int]:
    """Return what sorts C2 before C10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _views(interaction: Found) -> list[HeatmapView]:
    layers = interaction["layers"]
    first = layers[0]["name"]
    views = [
        HeatmapView(name=f"abundance, {at['name']}", values=at["abundance"], unit="abundance")
        for at in layers
    ]
    views += [
        HeatmapView(name=f"abundance, {first}, set {m} alone", values=values, unit="abundance")
        for m, values in enumerate(layers[0]["per_set"], start=1)
    ]
    if interaction["attribution"] is not None:
        falls = _projection_share(interaction["attribution"])
        name = f"fall due to the projection, {first}"
        views.append(HeatmapView(name=name, values=falls, unit="fall, nats"))
    patterns = interaction["patterns"] or []
    for m, values in enumerate(patterns, start=1):
        alone = f", set {m}" if len(patterns) > 1 else ""
        name = f"strength of the projection, {first}{alone}"
        views.append(HeatmapView(name=name, values=values, unit="Frobenius norm"))
    return views


def _projection_share(attribution: Found) -> list[list[float | None]]:
    """Return what of a pair's fall is the projection's: alone, and half of what takes both."""
    rows = zip(
        attribution["total"],
        attribution["table_alone"],
        attribution["projection_alone"],
        strict=True,
    )
    return [
        [
            None if fall is None or alone is None or table is None else (alone + fall - table) / 2
            for fall, alone in zip(total, projection, strict=True)
        ]
        for total, table, projection in rows
    ]


def influence(models: Sequence[Found]) -> str:
    """Draw how the others fare when they meet a field, against the field's own abundance."""
    series = []
    for number, model in enumerate(models):
        color, symbol = MODEL_LOOKS[number % len(MODEL_LOOKS)]
        own = [field["information_abundance"] for field in model["fields"]]
        kept = model["subembeddings"]["layers"][0]["by_target"]
        tips = [
            f"{field['name']}: own abundance {x:.3g}; the others keep "
            f"{'none' if y is None else format(y, '.4g')}"
            for field, x, y in zip(model["fields"], own, kept, strict=True)
        ]
        named = model["name"] if len(models) > 1 else ""
        series.append(Trace(x=own, y=kept, color=color, symbol=symbol, name=named, tips=tips))
    return plot(
        Chart(
            x=axis_of((x for s in series for x in s.x), "abundance of field j itself"),
            y=axis_of((y for s in series for y in s.y), "abundance others keep in j, sum"),
            series=series,
            words="What others keep of their abundance in a field, by the field's own",
            height=300,
        )
    )


def pulls(interaction: Found) -> str:
    """Draw which fields flatten what the others show them, the strongest on top."""
    chance = interaction["chance_pull"]
    pairs = zip(interaction["fields"], interaction["pull"], strict=True)
    known = sorted((pull, name) for name, pull in pairs if pull is not None)[-MOST_PULLS:]
    ends = (-0.6, len(known) - 0.4)
    learned = Trace(
        x=[pull for pull, _ in known],
        y=list(range(len(known))),
        color="#0072b2",
        symbol="circle",
        tips=[f"{name}: {pull:.3g} nats" for pull, name in known],
    )
    random = Trace(
        x=[chance, chance], y=ends, color="#1a1d21", line="dot", name="random projection"
    )
    names = [cut_name(name, 9) for _, name in known]
    return plot(
        Chart(
            x=axis_of([*learned.x, chance], "pull of field j, nats"),
            y=Axis(title="", low=ends[0], high=ends[1], names=names),
            series=[random, learned],
            words="How far meeting a field flattens what the others show it",
            height=max(200, 18 * len(known)),
        )
    )


def set_diversity_chart(model: Found) -> str:
    """Draw how much the sets of every field differ, beside random tables."""
    found = model["diversity"]
    rows = {field["name"]: field["cardinality"] for field in model["fields"]}
    x = [rows[name] for name in found["fields"]]
    looks = (
        ("random", "random tables", RANDOM, "line-ew"),
        ("per_field", "this model", "#0072b2", "circle"),
    )
    series = [
        Trace(
            x=x,
            y=[one["diversity"] for one in found[key]],
            color=color,
            symbol=symbol,
            name=name,
            tips=[
                f"{field}, {name}: diversity {one['diversity']}, {rows[field]:,} rows"
                for field, one in zip(found["fields"], found[key], strict=True)
            ],
        )
        for key, name, color, symbol in looks
    ]
    return plot(
        Chart(
            x=axis_of(x, CARDINALITY_AXIS, log=True),
            y=Axis(title="diversity of sets", low=-0.02, high=1.02),
            series=series,
            words="Diversity of the sets of every field, by cardinality",
            height=300,
        )
    )


def set_heatmap(found: Found) -> str:
    """Draw how much every pair of sets differs."""
    count = len(found["pairs"])
    return heatmap(
        HeatmapChart(
            names=[f"set {m}" for m in range(1, count + 1)],
            views=[HeatmapView(name="", values=found["pairs"], unit="rank-aware diversity")],
            orders=[("", list(range(count)))],
            rows="",
            columns="",
            joined="and",
            low=0.0,
            high=1.0,
            height=300,
        )
    )


def calibration(bins: Sequence[Found]) -> str:
    """Draw what happened against what was predicted, in bins of equal mass."""
    ends = _ends([value for at in bins for value in (at["predicted"], at["observed"])])
    log = ends[0] > 0
    diagonal = Trace(x=ends, y=ends, color=RANDOM, line="dash", name="calibrated")
    curve = Trace(
        x=[at["predicted"] for at in bins],
        y=[at["observed"] for at in bins],
        color="#0072b2",
        line="solid",
        symbol="circle",
        name="this model",
        tips=[
            f"predicted {at['predicted']:.3%}, positive {at['observed']:.3%}, "
            f"of {at['rows']:,} rows"
            for at in bins
        ],
    )
    x, y = (
        Axis(title=title, low=ends[0], high=ends[1], log=log, percent=True)
        for title in ("predicted probability, mean", "share of rows that are positive")
    )
    return plot(
        Chart(x=x, y=y, series=[diagonal, curve], words="Observed against predicted", height=320)
    )


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of both axes: above zero, for logarithms, where rates span powers of ten."""
    low, high = min(values), max(values)
    if low > 0 and high > 10 * low:
        return low / 1.25, min(1.0, 1.25 * high)
    return 0.0, min(1.0, 1.08 * high) or 1.0
