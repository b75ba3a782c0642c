"""The advice on scaling as one self-contained HTML page."""

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from plotly.offline import get_plotlyjs

from multiembed.experiments.analysis.advice import ABUNDANCE_QUESTION, Advice, CurveLaw, law_words
from multiembed.experiments.analysis.scaling import Curve, Matched
from multiembed.experiments.analysis.statistics import JUDGED_BY, mean_interval
from multiembed.experiments.grid.outcome import Point
from multiembed.report.shell import html_page

_COSTS = {
    "parameters": "parameters",
    "peak_memory_bytes": "peak memory, bytes",
    "seconds": "training time, s",
}
_COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#a8548a",
    "#b37700",
    "#56b4e9",
    "#5c6670",
    "#1a1d21",
)
"""Of the curves in a chart, told apart by readers who do not see all colours."""

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
  color: #1a1a1a; background: #fff; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #ddd; }
.advice { border-left: 4px solid #0072b2; padding-left: 1rem; margin: 1rem 0; }
h3 { margin: 1.5rem 0 0; }
select { font: inherit; }
.chart { height: 22rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); }
"""


def advice_page(advice: Advice) -> str:
    """Return the page: what to do, the curves, and the numbers behind both."""
    said = "".join(
        f'<p class="advice">{escape(one.text)}<br>Confidence: {escape(one.confidence)}.</p>'
        for one in advice.recommendations
    )
    charts = _charts(advice.curves)
    body = "\n".join(
        [
            "<h1>Scaling advice</h1>",
            "<h2>Recommendation</h2>",
            said,
            "<h2>Curves</h2><p>Means over runs with 95% intervals (Student's t); an interval that "
            "leaves its chart is wider than that.</p>",
            _cost_choice(),
            *(_places(name, found) for name, found in charts.items()),
            "<h2>Several sets against one wide set, at equal cost</h2>",
            html_table(("model", "equal", "sets", "test AUC, multi less single"), _matched(advice)),
            "<h2>Laws</h2><p>a x^-b + c, x the multiple of the base; of AUC, the law is of 1 less "
            "the AUC. Where a curve has four sizes, the last column predicts the largest from the "
            "smaller ones.</p>",
            html_table(("curve", "of", "law", "largest size held out"), map(_law_row, advice.laws)),
            f"<p>{escape(advice.held_out_words or '')}</p>",
            f"<h2>{ABUNDANCE_QUESTION}</h2>",
            f"<p>{escape(advice.abundance_words)}</p>",
            html_table(("model", "abundance over the base's", "gain of test AUC"), _growth(advice)),
        ]
    )
    draw = files("multiembed.report").joinpath("advice.js").read_text("utf-8")
    return html_page(
        title="Scaling advice",
        body=body,
        style=_STYLE,
        data={"charts": [chart for found in charts.values() for chart in found]},
        scripts=[get_plotlyjs(), draw],
    )


def _charts(curves: Sequence[Curve]) -> dict[str, list[dict[str, Any]]]:
    """Return one chart for each measure, by architecture."""
    by_architecture: dict[str, list[Curve]] = {}
    for curve in curves:
        by_architecture.setdefault(curve.architecture, []).append(curve)
    return {
        name: [_chart(f"{measure}-{number}", found, measure) for measure in JUDGED_BY]
        for number, (name, found) in enumerate(by_architecture.items())
    }


def _cost_choice() -> str:
    choices = "".join(f'<option value="{cost}">{words}</option>' for cost, words in _COSTS.items())
    return f'<p><label>Over <select id="cost">{choices}</select></label></p>'


def _places(architecture: str, charts: Sequence[dict[str, Any]]) -> str:
    divs = "".join(f'<div class="chart" id="{chart["id"]}"></div>' for chart in charts)
    return f'<h3>{escape(architecture)}</h3><div class="charts">{divs}</div>'


def _chart(place: str, curves: Sequence[Curve], measure: str) -> dict[str, Any]:
    traces = []
    for number, curve in enumerate(curves):
        costs = {cost: [point.spread(cost).mean for point in curve.points] for cost in _COSTS}
        traces.append(
            {
                "name": f"{curve.scaling} {curve.variant}".rstrip(),
                "costs": costs,
                "y": [point.spread(measure).mean for point in curve.points],
                "text": [f"{size}x" for size in curve.sizes],
                "error_y": {
                    "type": "data",
                    "array": [_reach(point, measure) for point in curve.points],
                    "thickness": 1,
                },
                "mode": "lines+markers",
                "line": {
                    "color": _COLOURS[number % len(_COLOURS)],
                    "dash": "solid" if curve.scaling == "multi" else "dot",
                },
            }
        )
    layout = {
        "xaxis": {"title": {"text": ""}, "type": "log"},
        "yaxis": {
            "title": {"text": f"test {JUDGED_BY[measure]}"},
            "range": _heights(curves, measure),
        },
        "margin": {"t": 20, "r": 10},
        "legend": {"orientation": "h", "y": -0.25},
        "showlegend": True,
    }
    return {"id": place, "traces": traces, "layout": layout}


def _heights(curves: Sequence[Curve], measure: str) -> tuple[float, float]:
    """Return what a chart shows: all means in its middle half, whatever their intervals."""
    means = [point.spread(measure).mean for curve in curves for point in curve.points]
    low, high = min(means), max(means)
    margin = max((high - low) / 2, 0.001)
    return low - margin, high + margin


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
    words = ""
    if held is not None:
        verdict = "inside" if held.inside else "outside"
        words = (
            f"{held.size}x: predicted {held.predicted}, measured {held.measured:.5f} ({verdict}); "
            f"the size below has {held.unchanged:.5f}"
        )
    return found.curve, f"test {JUDGED_BY[found.measure]}", law_words(found), words


def _growth(advice: Advice) -> list[tuple[str, ...]]:
    return [
        (str(row["model"]), f"{row['growth']:.2f}", f"{row['gain']:+.5f}")
        for row in advice.abundance_rows
    ]


def html_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of plain text as HTML."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
