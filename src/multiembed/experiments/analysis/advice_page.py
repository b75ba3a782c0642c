"""The advice on scaling as one self-contained HTML page."""

from collections.abc import Sequence
from html import escape

from multiembed.experiments.analysis.advice import ABUNDANCE_QUESTION, Advice, CurveLaw, law_words
from multiembed.experiments.analysis.scaling import Curve, Matched
from multiembed.experiments.analysis.statistics import JUDGED_BY, mean_interval
from multiembed.experiments.grid.outcome import Point
from multiembed.report.axes import Axis, axis_of
from multiembed.report.plot import Chart, Trace, plot
from multiembed.report.shell import html_page, html_table, variants

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
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon")

_STYLE = """
.advice { border-left: 4px solid #0072b2; padding-left: 1rem; margin: 1rem 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); }
"""


def advice_page(advice: Advice) -> str:
    """Return the page: what to do, the curves, and the numbers behind both."""
    said = "".join(
        f'<p class="advice">{escape(one.text)}<br>Confidence: {escape(one.confidence)}.</p>'
        for one in advice.recommendations
    )
    body = "\n".join(
        [
            "<header><h1>Scaling advice</h1></header><main>",
            "<h2>Recommendation</h2>",
            said,
            "<h2>Curves</h2><p>Means over runs with 95% intervals (Student's t); an interval that "
            "leaves its chart is wider than that.</p>",
            variants(
                [("Over", list(_COSTS.values()))],
                {(words,): _charts(advice.curves, cost) for cost, words in _COSTS.items()},
            ),
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
            "</main>",
        ]
    )
    return html_page(title="Scaling advice", body=body, style=_STYLE)


def _charts(curves: Sequence[Curve], cost: str) -> str:
    """Return charts of both measures over a cost, one pair for each architecture."""
    by_architecture: dict[str, list[Curve]] = {}
    for curve in curves:
        by_architecture.setdefault(curve.architecture, []).append(curve)
    return "".join(
        f'<h3>{escape(name)}</h3><div class="charts">'
        f"{''.join(plot(curves_chart(found, measure, cost)) for measure in JUDGED_BY)}</div>"
        for name, found in by_architecture.items()
    )


def curves_chart(curves: Sequence[Curve], measure: str, cost: str) -> Chart:
    """Return the chart of one architecture's quality over what it costs."""
    low, high = _heights(curves, measure)
    series = [_series(curve, measure, cost, number) for number, curve in enumerate(curves)]
    return Chart(
        x=axis_of((x for one in series for x in one.x), _COSTS[cost], log=True),
        y=Axis(title=f"test {JUDGED_BY[measure]}", low=low, high=high),
        series=series,
        words=f"test {JUDGED_BY[measure]} over {_COSTS[cost]}",
        height=260,
    )


def _series(curve: Curve, measure: str, cost: str, number: int) -> Trace:
    name = f"{curve.scaling} {curve.variant}".rstrip()
    means = [point.spread(measure).mean for point in curve.points]
    return Trace(
        x=[point.spread(cost).mean for point in curve.points],
        y=means,
        color=_COLOURS[number % len(_COLOURS)],
        name=name,
        line="solid" if curve.scaling == "multi" else "dot",
        symbol=_SYMBOLS[number % len(_SYMBOLS)],
        tips=[
            f"{name} {size}x: test {JUDGED_BY[measure]} {mean:.5f}"
            for size, mean in zip(curve.sizes, means, strict=True)
        ],
        reach=[_reach(point, measure) for point in curve.points],
    )


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
