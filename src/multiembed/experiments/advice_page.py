"""The advice on scaling as one self-contained HTML page."""

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from plotly.offline import get_plotlyjs

from multiembed.experiments.advice import ABUNDANCE_QUESTION, Advice, CurveLaw, law_words
from multiembed.experiments.results import Point
from multiembed.experiments.scaling import Curve, Matched
from multiembed.experiments.statistics import mean_interval

COSTS = {
    "parameters": "parameters",
    "peak_memory_bytes": "peak memory, bytes",
    "seconds": "training time, s",
}
MEASURES = {"test_auc": "test AUC", "test_log_loss": "test log loss"}
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#7f7f7f")

_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Scaling advice</title>
<link rel="icon" href="data:,">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
  color: #1a1a1a; background: #fff; }}
table {{ border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #ddd; }}
.advice {{ border-left: 4px solid #1f77b4; padding-left: 1rem; margin: 1rem 0; }}
.chart {{ height: 24rem; }}
.charts {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); }}
</style>
</head>
<body>
<h1>Scaling advice</h1>
{body}
<script type="application/json" id="charts">{charts}</script>
<script>{plotly}</script>
<script>
for (const chart of JSON.parse(document.getElementById("charts").textContent)) {{
  Plotly.newPlot(chart.id, chart.traces, chart.layout, {{displayModeBar: false, responsive: true}});
}}
</script>
</body>
</html>
"""


def advice_page(advice: Advice) -> str:
    """Return the page."""
    charts = [_chart(advice.curves, measure, cost) for measure in MEASURES for cost in COSTS]
    divs = "".join(f'<div class="chart" id="{chart["id"]}"></div>' for chart in charts)
    said = "".join(
        f'<p class="advice">{escape(one.text)}<br>Confidence: {escape(one.confidence)}.</p>'
        for one in advice.recommendations
    )
    body = "\n".join(
        [
            "<h2>Recommendation</h2>",
            said,
            "<h2>Curves</h2><p>Means over runs with 95% intervals (Student's t).</p>",
            f'<div class="charts">{divs}</div>',
            "<h2>Several sets against one wide set, at equal cost</h2>",
            _table(("model", "equal", "sets", "test AUC, multi less single"), _matched(advice)),
            "<h2>Laws</h2><p>a x^-b + c, x the multiple of the base; of AUC, the law is of 1 less "
            "the AUC. The last column predicts the largest size from the smaller ones.</p>",
            _table(("curve", "of", "law", "largest size held out"), map(_law_row, advice.laws)),
            f"<p>{escape(advice.held_out_words or '')}</p>",
            f"<h2>{ABUNDANCE_QUESTION}</h2>",
            f"<p>{escape(advice.abundance_words)}</p>",
            _table(("model", "abundance over the base's", "gain of test AUC"), _growth(advice)),
        ]
    )
    data = json.dumps(charts, allow_nan=False).replace("<", "\\u003c")
    return _TEMPLATE.format(body=body, charts=data, plotly=get_plotlyjs())


def _chart(found: Sequence[Curve], measure: str, cost: str) -> dict[str, Any]:
    families = list(dict.fromkeys((curve.architecture, curve.variant) for curve in found))
    traces = []
    for curve in found:
        colour = COLOURS[families.index((curve.architecture, curve.variant)) % len(COLOURS)]
        reach = [_reach(point, measure) for point in curve.points]
        traces.append(
            {
                "name": curve.name,
                "x": [point.spread(cost).mean for point in curve.points],
                "y": [point.spread(measure).mean for point in curve.points],
                "text": [f"{size}x" for size in curve.sizes],
                "error_y": {"type": "data", "array": reach},
                "mode": "lines+markers",
                "line": {"color": colour, "dash": "solid" if curve.scaling == "multi" else "dot"},
            }
        )
    layout = {
        "xaxis": {"title": {"text": COSTS[cost]}, "type": "log"},
        "yaxis": {"title": {"text": MEASURES[measure]}},
        "margin": {"t": 20, "r": 10},
        "legend": {"orientation": "h", "y": -0.25},
    }
    return {"id": f"{measure}-{cost}", "traces": traces, "layout": layout}


def _reach(point: Point, measure: str) -> float | None:
    interval = mean_interval(point.values(measure))
    return None if interval is None else interval.high - interval.difference


def _matched(advice: Advice) -> list[tuple[str, ...]]:
    return [
        (f"{m.architecture} {m.variant}".rstrip(), m.by, f"{m.size}", _difference(m))
        for m in advice.matched
    ]


def _difference(matched: Matched) -> str:
    found = matched.difference
    if found is None:
        return "no single model of this cost was run"
    return found.words("multi", "single", measure="AUC")


def _law_row(found: CurveLaw) -> tuple[str, ...]:
    held = found.held_out
    words = "fewer than four sizes"
    if held is not None:
        verdict = "inside" if held.inside else "outside"
        words = (
            f"{held.size}x: predicted {held.predicted}, measured {held.measured:.5f} ({verdict}); "
            f"the size below has {held.unchanged:.5f}"
        )
    return found.curve, MEASURES[found.measure], law_words(found), words


def _growth(advice: Advice) -> list[tuple[str, ...]]:
    return [
        (str(row["model"]), f"{row['growth']:.2f}", f"{row['gain']:+.5f}")
        for row in advice.abundance_rows
    ]


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
