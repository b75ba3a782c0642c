"""What each field does for a model, as one HTML page without scripts."""

from collections.abc import Sequence
from html import escape

from multiembed.report.shell import html_page
from multiembed.runs.importance import Effect, Importance

_STYLE = """
.strip { display: block; width: 100%; min-width: 110px; height: 22px; }
.strip rect { fill: #7fb3d9; } .strip line { stroke: #1a1d21; stroke-width: 1.6; }
.strip .zero { stroke: #c3cad2; stroke-width: 1; }
.fields td { vertical-align: middle; } .fields td.value { white-space: nowrap; }
"""


def importance_page(run: str, found: Importance) -> str:
    """Return the page: how far quality falls without each field, with intervals.

    Args:
        run: What was measured.
        found: As `importance` returns it.
    """
    drawn = f"{found.rows:,} rows"
    drawn += f", drawn of {found.of_rows:,}" if found.rows < found.of_rows else ""
    aucs, losses = [of.auc for of in found.fields], [of.log_loss for of in found.fields]
    rows = "".join(
        f"<tr><td>{escape(of.field)}</td>{_cells(of.auc, aucs)}{_cells(of.log_loss, losses)}</tr>"
        for of in found.fields
    )
    heads = "".join(f'<th colspan="2">{of}</th>' for of in ("AUC falls by", "log loss rises by"))
    body = (
        f"<header><h1>What each field does in {escape(run)}</h1></header><main>"
        f"<p>On the {escape(found.split)} split ({drawn}) the model has an AUC of {found.auc:.5f} "
        f"and a log loss of {found.log_loss:.5f}. Below is how much worse both become when rows "
        "get a field's values of other rows, "
        f"{found.repeats} times over; lines are 95% intervals, over rows and permutations.</p>"
        f'<div class="scroll"><table class="plain fields"><thead><tr><th>field</th>{heads}</tr>'
        f"</thead><tbody>{rows}</tbody></table></div>"
        "<p>Fields that tell the same share what they do: with one permuted, the model still has "
        "the other. A field of no importance here may hold all that another one holds, and a model "
        "trained without a field may find elsewhere what it told.</p></main>"
    )
    return html_page(title=f"Importance in {run}", body=body, style=_STYLE, scripted=False)


def _cells(of: Effect, every: Sequence[Effect]) -> str:
    """Return a bar with its interval, on a scale that all of a column share, and the numbers."""
    low = min(0.0, *(one.low for one in every))
    high = max(0.0, *(one.high for one in every))

    def place(value: float) -> str:
        return f"{100 * (value - low) / (high - low or 1.0):.2f}%"

    zero, left, width = place(0.0), place(min(0.0, of.value)), place(low + abs(of.value))
    words = f"{of.value:.5f}, 95% interval {of.low:.5f} to {of.high:.5f}"
    return (
        f'<td><svg class="strip" role="img" aria-label="{words}"><title>{words}</title>'
        f'<line class="zero" x1="{zero}" x2="{zero}" y2="22"/>'
        f'<rect x="{left}" width="{width}" y="6" height="10"/>'
        f'<line x1="{place(of.low)}" x2="{place(of.high)}" y1="11" y2="11"/>'
        f'</svg></td><td class="value">{of.value:.5f} ± {of.high - of.value:.5f}</td>'
    )
