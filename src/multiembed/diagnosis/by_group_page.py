"""Quality and drift of groups of rows, such as days, as one HTML page without scripts."""

from collections.abc import Sequence
from html import escape

from multiembed.report.axes import axis_of
from multiembed.report.plot import Chart, Trace, plot
from multiembed.report.shell import html_page, html_table
from multiembed.runs.by_group import STABLE, GroupDrift

_MEASURES = {"auc": "AUC", "log_loss": "log loss", "calibration_ratio": "predicted / observed"}
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a8548a", "#b37700", "#56b4e9", "#5c6670", "#1a1d21")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon")
_STYLE = """
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); }
"""
_LEAST_LABELS = 8
"""Groups whose names all have room below a chart; of more, some are named."""


def by_group_page(run: str, column: str, groups: Sequence[GroupDrift]) -> str:
    """Return the page: what happened in each group, and where values shifted.

    Args:
        run: What was measured.
        column: What the groups are values of.
        groups: As `Run.evaluate_by` returns them.
    """
    names = list(groups[0].fields)
    by_shift = sorted(names, key=lambda name: -max(of.fields[name].stability for of in groups))
    lines = [
        _chart(groups, words, {words: [of.measures[measure] for of in groups]}, column)
        for measure, words in _MEASURES.items()
    ]
    shifts = {n: [of.fields[n].stability for of in groups] for n in by_shift[: len(_COLOURS)]}
    others = {n: [of.fields[n].other for of in groups] for n in by_shift[: len(_COLOURS)]}
    shares = [
        _chart(groups, "population stability index", shifts, column),
        _chart(groups, "share of values that are other", others, column),
    ]
    headings = ("", "rows", "predicted", "observed", *_MEASURES.values(), "shifted fields")
    body = "\n".join(
        [
            f"<header><h1>{escape(run)} by {escape(column)}</h1></header><main>",
            f'<h2>Quality</h2><div class="charts">{"".join(lines)}</div>',
            html_table(headings, map(_row, groups)),
            f"<h2>Values beside those of training</h2><p>An index below {STABLE} is usually called "
            "stable; a field is named as shifted where it is above that and above chance.</p>",
            f'<div class="charts">{"".join(shares)}</div>',
            html_table(("field", *(of.value for of in groups)), _indices(by_shift, groups)),
            "</main>",
        ]
    )
    return html_page(title=f"{run} by {column}", body=body, style=_STYLE, scripted=False)


def _chart(
    groups: Sequence[GroupDrift],
    words: str,
    lines: dict[str, list[float | None]] | dict[str, list[float]],
    column: str,
) -> str:
    places = list(range(len(groups)))
    step = -(-len(groups) // _LEAST_LABELS)
    named = [of.value if at % step == 0 else "" for at, of in enumerate(groups)]
    x = axis_of(places, column)
    series = [
        Trace(
            x=places,
            y=values,
            color=_COLOURS[at],
            name=name if len(lines) > 1 else "",
            line="solid",
            symbol=_SYMBOLS[at],
            tips=[
                f"{name}, {of.value}: {'undefined' if value is None else f'{value:.5g}'}"
                for of, value in zip(groups, values, strict=True)
            ],
        )
        for at, (name, values) in enumerate(lines.items())
    ]
    every = [value for values in lines.values() for value in values]
    axis = type(x)(title=x.title, low=x.low, high=x.high, names=named)
    return plot(Chart(x=axis, y=axis_of(every, words), series=series, words=f"{words} by {column}"))


def _row(of: GroupDrift) -> list[str]:
    numbers = [of.measures[name] for name in _MEASURES]
    shifted = [name for name, drift in of.fields.items() if drift.drifted]
    return [
        of.value,
        f"{of.measures['rows']:,.0f}",
        *(f"{of.measures[name]:.3%}" for name in ("mean_probability", "observed")),
        *("undefined" if number is None else f"{number:.5f}" for number in numbers),
        ", ".join(shifted) or "none",
    ]


def _indices(names: Sequence[str], groups: Sequence[GroupDrift]) -> list[list[str]]:
    return [[name, *(f"{of.fields[name].stability:.3f}" for of in groups)] for name in names]
