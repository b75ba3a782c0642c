"""Charts as SVG: they need no script, fit any width, and are the same on pages and elsewhere.

Places along x are percentages of the plot's width, so that a chart is drawn once for a desk and a
phone; heights are pixels. `plot` is for pages with `page.css`; `picture` is a file by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

from multiembed.report.axes import Axis, Number

SHAPES = {
    "circle": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "circle-open": "M-4.6 0a4.6 4.6 0 1 0 9.2 0a4.6 4.6 0 1 0-9.2 0z"
    "M-2.8 0a2.8 2.8 0 1 1 5.6 0a2.8 2.8 0 1 1-5.6 0z",
    "square": "M-3.6-3.6h7.2v7.2h-7.2z",
    "diamond": "M0-5L5 0L0 5L-5 0z",
    "cross": "M-1.5-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
    "x": "M-4-2l2-2l2 2l2-2l2 2l-2 2l2 2l-2 2l-2-2l-2 2l-2-2l2-2z",
    "triangle-up": "M0-4.8L4.8 3.6h-9.6z",
    "triangle-down": "M0 4.8L4.8-3.6h-9.6z",
    "triangle-left": "M-4.8 0L3.6-4.8v9.6z",
    "triangle-right": "M4.8 0L-3.6-4.8v9.6z",
    "triangle-se": "M4.2 4.2h-8.4l8.4-8.4z",
    "arrow": "M4.5-4.5v6.5l-2.2-2.2l-4.8 4.8l-2-2l4.8-4.8l-2.3-2.3z",
    "hash": "M-3-5h1.6v3h2.8v-3h1.6v3h2v1.6h-2v2.8h2v1.6h-2v2h-1.6v-2h-2.8v2h-1.6v-2h-2v-1.6h2v-2.8"
    "h-2v-1.6h2zM-1.4-1.4v2.8h2.8v-2.8z",
    "pentagon": "M0-4.8L4.6-1.5L2.8 3.9h-5.6L-4.6-1.5z",
    "hexagon": "M-2.4-4.2h4.8L4.8 0L2.4 4.2h-4.8L-4.8 0z",
    "star": "M0-5.5L1.5-1.7L5.2-1.7L2.3.8L3.4 4.6L0 2.4L-3.4 4.6L-2.3.8L-5.2-1.7L-1.5-1.7z",
    "hourglass": "M-4.2-4.6h8.4L-4.2 4.6h8.4z",
    "bowtie": "M-4.6-4.2v8.4L4.6-4.2v8.4z",
    "line-ew": "M-5-1h10v2h-10z",
}
"""What a mark can look like."""
DASHES = {"solid": "", "dash": "6 4", "dot": "1.5 3.5"}
AROUND = {"left": 68, "right": 20, "top": 14, "bottom": 52}
"""Around the plot, in pixels, for ticks and titles; `page.css` has the same."""
_SCALE = 1000
"""Lines are drawn on so many units of width, which the page stretches."""
STYLE = (
    ".me{font:13px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}"
    ".me text{fill:#1a1d21}.me .t{fill:#5c6670;font-size:12px}.me .l{fill:#5c6670;font-size:11px}"
    ".me .g{stroke:#e8ecf0}.me .a{stroke:#c3cad2}.me polyline{fill:none;vector-effect:"
    "non-scaling-stroke;stroke-linejoin:round}.me .y{text-anchor:end}.me .x,.me .m{text-anchor:"
    "middle}"
)
"""Of everything inside a chart."""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Points that belong together: a line through them, marks on them, or both."""

    x: Sequence[Number]
    y: Sequence[Number | None]
    """What is missing, or beyond a logarithmic axis, is left out."""
    color: str
    name: str = ""
    """In the legend; empty for none."""
    line: str | None = None
    """A name in `DASHES`; `None` for no line."""
    width: Number = 1.6
    symbol: str | None = None
    """A name in `SHAPES`; `None` for no marks."""
    tips: Sequence[str] = ()
    """What each mark says when it is pointed at; a line's is the first."""
    labels: Sequence[str] = ()
    """Written beside each mark, where there is room."""
    reach: Sequence[float | None] = ()
    """Half the height of the interval around each point."""
    key: str | None = None
    """What the page's script knows the series by."""
    faint: bool = False
    """Whether it stays hidden until its key is picked."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Trace on two axes."""

    x: Axis
    y: Axis
    series: Sequence[Trace]
    words: str
    """What it shows, for those who cannot see it."""
    height: int = 340
    """Of the plot without its margins, in pixels."""


def plot(chart: Chart) -> str:
    """Return a chart for a page whose style is `page.css`, its legend below it."""
    entries = [(s.name, s.color, s.symbol, s.line) for s in chart.series if s.name]
    legend = "".join(
        f'<li><svg width="30" height="12" viewBox="-15 -6 30 12" class="me">'
        f"{_sample(color, symbol, line)}</svg>{escape(name)}</li>"
        for name, color, symbol, line in dict.fromkeys(entries)
    )
    drawn = _frame(chart, 'class="me plot"')
    key = f'<ul class="key">{legend}</ul>' if legend else ""
    return f'<figure class="chart">{drawn}{key}</figure>'


def picture(chart: Chart, *, width: int = 640) -> str:
    """Return a chart as an SVG document by itself, its legend below it."""
    chart = replace(chart, series=[s for s in chart.series if not s.faint])
    inside = width - AROUND["left"] - AROUND["right"]
    named = dict.fromkeys((s.name, s.color, s.symbol, s.line) for s in chart.series if s.name)
    top = AROUND["top"] + chart.height + AROUND["bottom"]
    entries, x, y = [], 12.0, top + 12.0
    for name, color, symbol, line in named:
        room = 50 + 8.3 * len(name)
        if x > 12 and x + room > width:
            x, y = 12.0, y + 20
        entries.append(
            f'<g transform="translate({x + 15:.0f} {y:.0f})">{_sample(color, symbol, line)}'
            f'<text x="20" y="4.5">{escape(name)}</text></g>'
        )
        x += room
    height = int(y) + 14 if entries else top
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="me" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" style="max-width:100%;height:auto">'
        f'<style>{STYLE}</style><rect width="100%" height="100%" fill="#fff"/>'
        + _frame(chart, f'x="{AROUND["left"]}" y="{AROUND["top"]}" width="{inside}"')
        + f"{''.join(entries)}</svg>\n"
    )


def _frame(chart: Chart, attributes: str) -> str:
    """Return the plot with its grid, ticks, titles and series."""
    symbols = dict.fromkeys(s.symbol for s in chart.series if s.symbol)
    shapes = "".join(f'<path id="me-{name}" d="{SHAPES[name]}"/>' for name in symbols)
    lines = "".join(_line(chart, s) for s in chart.series if s.line)
    marks = "".join(_marks(chart, s) for s in chart.series)
    return (
        f'<svg {attributes} height="{chart.height}" overflow="visible" role="img" '
        f'aria-label="{escape(chart.words)}" data-x="{chart.x.data}" data-y="{chart.y.data}" '
        f'data-xt="{escape(chart.x.title)}"><defs>{shapes}</defs>'
        f"{_grid(chart)}"
        f'<svg width="100%" height="{chart.height}" viewBox="0 0 {_SCALE} {chart.height}" '
        f'preserveAspectRatio="none" overflow="visible">{lines}</svg>{marks}{_labels(chart)}</svg>'
    )


def _grid(chart: Chart) -> str:
    """Return grid lines with their numbers, and what the axes are."""
    h = chart.height
    drawn = [f'<line class="a" y1="{h}" y2="{h}" x2="100%"/><line class="a" y2="{h}"/>']
    for place, text in chart.y.ticks():
        y = _down(chart, place)
        drawn.append(f'<line class="g" x2="100%" y1="{y}" y2="{y}"/>')
        drawn.append(f'<text class="t y" x="-8" y="{y}" dy="4">{escape(text)}</text>')
    for place, text in chart.x.ticks():
        x = f"{100 * place:.4g}%"
        drawn.append(f'<line class="a" x1="{x}" x2="{x}" y1="{h}" y2="{h + 5}"/>')
        drawn.append(f'<text class="t x" x="{x}" y="{h + 19}">{escape(text)}</text>')
    drawn.append(f'<text class="m" x="50%" y="{h + 42}">{escape(chart.x.title)}</text>')
    if chart.y.title:
        turned = f'transform="rotate(-90)" x="{-h / 2:g}" y="-52"'
        drawn.append(f'<text class="m" {turned}>{escape(chart.y.title)}</text>')
    return "".join(drawn)


def _down(chart: Chart, place: float) -> str:
    """Return how far below the top a place on the y axis is, in pixels."""
    return f"{chart.height * (1 - place):.4g}"


def _seen(chart: Chart, series: Trace) -> list[tuple[int, float, float]]:
    """Return the number and the place, in shares of both axes, of every point that shows."""
    places = zip(chart.x.places(series.x), chart.y.places(series.y), strict=True)
    found = enumerate(places)
    return [(at, x, y) for at, (x, y) in found if x is not None and y is not None]


def _line(chart: Chart, series: Trace) -> str:
    h, seen = chart.height, _seen(chart, series)
    points = " ".join(f"{_SCALE * x:.0f},{h * (1 - y):.4g}" for _, x, y in seen)
    return (
        f'<polyline points="{points}" stroke="{series.color}" stroke-width="{series.width:g}"'
        f"{_dashed(series.line)}{_known(series)}>"
        f"{'' if series.symbol else _title(series, 0)}</polyline>"
    )


def _dashed(line: str | None) -> str:
    dash = DASHES[line or "solid"]
    return f' stroke-dasharray="{dash}"' if dash else ""


def _marks(chart: Chart, series: Trace) -> str:
    drawn = []
    for at, x, y in _seen(chart, series) if series.symbol or series.reach else []:
        share = f"{100 * x:.4g}%"
        half = series.reach[at] if at < len(series.reach) else None
        value = series.y[at]
        if half is not None and value is not None:
            y1, y2 = (_down(chart, chart.y.clipped(v)) for v in (value - half, value + half))
            drawn.append(
                f'<line x1="{share}" x2="{share}" y1="{y1}" y2="{y2}" stroke="{series.color}"/>'
            )
        if series.symbol:
            drawn.append(
                f'<use href="#me-{series.symbol}" x="{share}" y="{_down(chart, y)}" '
                f'fill="{series.color}"{_known(series)}>{_title(series, at)}</use>'
            )
    return "".join(drawn)


def _known(series: Trace) -> str:
    key = "" if series.key is None else f' data-key="{escape(series.key)}"'
    return f"{key}{' class=faint' if series.faint else ''}"


def _title(series: Trace, at: int) -> str:
    return f"<title>{escape(series.tips[at])}</title>" if at < len(series.tips) else ""


def _labels(chart: Chart, *, width: float = 560, letter: float = 6.2) -> str:
    """Return the labels of marks that find room on a chart of a common width."""
    taken: list[tuple[float, float, float]] = []
    drawn = []
    for series in chart.series:
        for at, x, y in _seen(chart, series) if series.labels else []:
            text = series.labels[at]
            half, left, top = letter * len(text) / 2, x * width, chart.height * (1 - y) - 9
            free = all(abs(left - a) > half + b or abs(top - c) > 13 for a, b, c in taken)
            if free and half <= left <= width - half + AROUND["right"] and top > 0:
                taken.append((left, half, top))
                place = f'x="{100 * x:.4g}%" y="{top:.4g}"'
                drawn.append(f'<text class="l m" {place}>{escape(text)}</text>')
    return "".join(drawn)


def _sample(color: str, symbol: str | None, line: str | None) -> str:
    """Return what a series looks like, around the origin."""
    stroke = f'stroke="{color}" stroke-width="2"{_dashed(line)}'
    drawn = f'<path d="M-14 0h28" {stroke}/>' if line else ""
    return drawn + (f'<path d="{SHAPES[symbol]}" fill="{color}"/>' if symbol else "")
