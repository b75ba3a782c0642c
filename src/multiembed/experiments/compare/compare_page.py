"""A comparison as one self-contained HTML page, without scripts."""

import json
from collections.abc import Mapping
from html import escape

from multiembed.experiments.analysis.statistics import Interval
from multiembed.experiments.compare.comparison import Comparison
from multiembed.experiments.compare.fits import Standing
from multiembed.report.axes import axis_of
from multiembed.report.plot import Chart, Trace, plot
from multiembed.report.shell import html_page, html_table

_COLOURS = ("#5c6670", "#b37700", "#009e73", "#56b4e9", "#a8548a", "#1a1d21")
_OURS = ("#d55e00", "#0072b2")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon")
_STYLE = """
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); }
.verdict { border-left: 4px solid #0072b2; padding-left: 1rem; margin: 1rem 0; }
main > .scroll td:not(:first-child) { white-space: nowrap; }
.told td:not(:first-child) { white-space: normal; }
h2 { margin-top: 1.5rem; }
"""


def compare_page(found: Comparison) -> str:
    """Return the page: the verdict, quality over seconds, tables, and how each was fitted."""
    reference = found.named(found.reference)
    said = "".join(f"<p>{escape(sentence)}</p>" for sentence in found.verdict)
    notes = [*found.notes, *(f"{who} was not fitted: {why}" for who, why in found.failures.items())]
    sizes = ", ".join(
        f"{split} {rows:,} rows ({found.positives[split]:,} positives)"
        for split, rows in found.rows.items()
    )
    headings = ("", "told", "chosen by validation rows")
    body = "\n".join(
        [
            f"<header><h1>{escape(found.dataset)}, compared</h1>",
            f'<p class="muted">{sizes}; {found.threads_in_words} for each</p></header><main>',
            f'<div class="verdict">{said}</div>',
            "<h2>Quality on test rows over seconds spent</h2>",
            f'<div class="charts">{_chart(found, "auc")}{_chart(found, "log_loss")}</div>',
            html_table(
                ("", "test AUC", "log loss", "predicted / observed", "seconds"), _rows(found)
            ),
            f"<h2>Differences to {escape(reference.title)}</h2>",
            f'<p class="caption">Of each less {escape(reference.title)}, the best of ours by '
            f"validation log loss; 95% intervals {found.basis}.</p>"
            if reference.is_ours
            else f'<p class="caption">95% intervals {found.basis}.</p>',
            html_table(
                ("", "AUC", "95% interval", "log loss", "95% interval"), _differences(found)
            ),
            "<h2>How each was fitted</h2>",
            *(f"<p>{escape(note)}</p>" for note in notes),
            f'<div class="told">{html_table(headings, map(_told, found.standings))}</div>',
            "</main>",
        ]
    )
    return html_page(title="Comparison", body=body, style=_STYLE, scripted=False)


def quality_cells(one: Standing) -> list[str]:
    """Write a contender's quality and time."""
    return [
        one.title,
        f"{one.auc:.5f}",
        f"{one.log_loss:.5f}",
        f"{one.calibration_ratio:.3f}",
        f"{one.seconds:,.1f}" if one.seconds < 100 else f"{one.seconds:,.0f}",
    ]


def difference_cells(title: str, found: Mapping[str, Interval]) -> list[str]:
    """Write how a contender differs, and how sure that is."""
    cells = [title]
    for of in found.values():
        cells += [f"{of.difference:+.5f}", f"{of.low:+.5f} to {of.high:+.5f}"]
    return cells


def _rows(found: Comparison) -> list[list[str]]:
    return [quality_cells(one) for one in found.standings]


def _differences(found: Comparison) -> list[list[str]]:
    return [
        difference_cells(found.named(name).title, {"auc": of.auc, "log_loss": of.log_loss})
        for name, of in found.differences.items()
    ]


def _told(one: Standing) -> list[str]:
    return [one.title, _words(one.settings), "; ".join(map(_words, one.chosen))]


def _words(settings: Mapping[str, object]) -> str:
    return ", ".join(
        f"{name} {value if isinstance(value, str) else json.dumps(value)}"
        for name, value in settings.items()
    )


def _chart(found: Comparison, measure: str) -> str:
    """Draw all but the base rate, which takes no time and would leave the others no room."""
    shown = [one for one in found.standings if one.name != "base_rate"] or found.standings
    words = "AUC" if measure == "auc" else "log loss"
    ours = iter(_OURS * len(shown))
    colours = iter(_COLOURS * len(shown))
    series = [
        Trace(
            x=[max(one.seconds, 1e-3)],
            y=[getattr(one, measure)],
            color=next(ours if one.is_ours else colours),
            name=one.title,
            symbol=_SYMBOLS[at % len(_SYMBOLS)],
            tips=[f"{one.title}: test {words} {getattr(one, measure):.5f}, {one.seconds:.1f} s"],
        )
        for at, one in enumerate(shown)
    ]
    return plot(
        Chart(
            x=axis_of((of.x[0] for of in series), "seconds", log=True),
            y=axis_of((of.y[0] for of in series), f"test {words}"),
            series=series,
            words=f"test {words} over seconds spent",
            height=240,
        )
    )
