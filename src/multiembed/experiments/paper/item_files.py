"""What an item found, in files: CSV, pictures, and one page for all items.

Pictures are drawn with matplotlib (extra `[plots]`), as PNG and as SVG.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from multiembed.base.errors import ConfigError
from multiembed.base.files import make_folder, write_text, write_whole
from multiembed.experiments.grid.outcome import write_csv
from multiembed.experiments.paper.study import Analysis, Bars, Heatmap, Lines, Panel
from multiembed.report.shell import html_page, html_table

PANEL_INCHES = (5.2, 4.0)
ABREAST = 4
"""As many panels fit beside each other; more stand in rows of three."""
TICKS = 8
"""Places on the x axis that are few enough for each to be named."""
_STYLE = "img { max-width: 100%; }"


def write_analysis(name: str, found: Analysis, folder: Path) -> list[Path]:
    """Write the data of an item as CSV and its panels as PNG and SVG; return the paths."""
    make_folder(folder)
    written = []
    for kind, rows in found.data.items():
        path = folder / f"{name}_{kind}.csv"
        write_csv(path, [dict(row) for row in rows])
        written.append(path)
    return [*written, *(draw_panels(found.panels, folder, name) if found.panels else [])]


def write_page(folder: Path, found: Mapping[str, tuple[str, Analysis]], *, dataset: str) -> Path:
    """Write one page of all items; it refers to the pictures beside it."""
    sections = (_section(name, title, one) for name, (title, one) in found.items())
    heading = f"Embedding collapse (Guo et al., ICML 2024), reproduced on {escape(dataset)}"
    body = "\n".join([f"<header><h1>{heading}</h1></header><main>", *sections, "</main>"])
    path = folder / "index.html"
    write_text(path, html_page(title="The paper, reproduced", body=body, style=_STYLE))
    return path


def _section(name: str, title: str, found: Analysis) -> str:
    said = "".join(f"<p>{escape(finding)}</p>" for finding in found.findings)
    data = ", ".join(f'<a href="{name}_{kind}.csv">{escape(kind)}</a>' for kind in found.data)
    picture = f'<p><img src="{name}.svg" alt="{escape(title)}"></p>' if found.panels else ""
    tables = "".join(map(_table, found.tables))
    heading = f"<h2>{name}: {escape(title)}</h2>"
    return f"{heading}{picture}{tables}{said}<p>Data: {data}</p>"


def _table(lines: Sequence[Mapping[str, str]]) -> str:
    columns = list(dict.fromkeys(column for line in lines for column in line))
    return html_table(columns, [[line.get(column, "") for column in columns] for line in lines])


def draw_panels(panels: Sequence[Panel], folder: Path, name: str) -> list[Path]:
    """Write `name.png` and `name.svg`, and return their paths.

    Raises:
        ConfigError: If matplotlib is not installed.
    """
    figure_type = _matplotlib("matplotlib.figure").Figure
    # Without these, equal figures would differ in their bytes.
    _matplotlib("matplotlib").rcParams["svg.hashsalt"] = "multiembed"
    width, height = PANEL_INCHES
    columns = len(panels) if len(panels) <= ABREAST else 3
    rows = -(-len(panels) // columns)
    figure = figure_type(figsize=(width * columns, height * rows), layout="constrained")
    for at, panel in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, columns, at)
        axes.set_title(panel.title, fontsize=10)
        if isinstance(panel, Lines):
            _lines(axes, panel)
        elif isinstance(panel, Bars):
            _bars(axes, panel)
        else:
            _heatmap(figure, axes, panel)
    # Laid out once, for both files.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    written = []
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        path = folder / f"{name}.{kind}"
        write_whole(path, partial(figure.savefig, format=kind, dpi=120, metadata=metadata))
        written.append(path)
    return written


def require_matplotlib() -> None:
    """Say before any work that pictures cannot be drawn.

    Raises:
        ConfigError: If matplotlib is not installed.
    """
    _matplotlib("matplotlib.figure")


def _matplotlib(module: str) -> Any:  # noqa: ANN401
    try:
        return import_module(module)
    except ImportError:
        raise ConfigError(
            "matplotlib must be installed to draw figures, got none: "
            "pip install 'multiembed[plots]'"
        ) from None


def _lines(axes: Any, panel: Lines) -> None:  # noqa: ANN401
    for series in panel.series:
        style = "--" if series.dashed else "-"
        marker = "o" if len(series.x) <= 12 else None
        axes.errorbar(
            *(series.x, series.y, series.error),
            label=series.name,
            linestyle=style,
            marker=marker,
            markersize=3,
            capsize=2,
        )
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    axes.ticklabel_format(axis="y", useOffset=False)
    places = sorted({x for series in panel.series for x in series.x})
    if len(places) <= TICKS:
        axes.set_xticks(places, [f"{place:g}" for place in places])
    if len(panel.series) > 1:
        axes.legend(fontsize=7)


def _bars(axes: Any, panel: Bars) -> None:  # noqa: ANN401
    width = 0.8 / max(1, len(panel.groups))
    places = np.arange(len(panel.names))
    for at, (name, values) in enumerate(panel.groups.items()):
        axes.bar(places + at * width - 0.4 + width / 2, values, width, label=name)
    axes.set_xticks(places, panel.names, rotation=90 if len(panel.names) > 6 else 20, fontsize=7)
    axes.set_ylabel(panel.y_label)
    if not panel.from_zero:
        every = [value for values in panel.groups.values() for value in values]
        margin = (max(every) - min(every)) or 1e-3
        axes.set_ylim(min(every) - margin, max(every) + margin)
    if len(panel.groups) > 1:
        axes.legend(fontsize=7)


def _heatmap(figure: Any, axes: Any, panel: Heatmap) -> None:  # noqa: ANN401
    image = axes.imshow(panel.values, cmap="viridis", aspect="auto")
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    figure.colorbar(image, ax=axes)
