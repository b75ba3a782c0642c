"""One self-contained HTML page of one diagnosis, or of several side by side; works offline."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from plotly.offline import get_plotlyjs

from multiembed.report.reportable import Reportable

_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<header id="header"></header>
<main id="main"><noscript><p>This page draws its tables and charts with the script it contains:
please allow scripts.</p></noscript></main>
<script type="application/json" id="data">{data}</script>
<script>{plotly}</script>
<script>{script}</script>
</body>
</html>
"""
_SCRIPTS = ("elements.js", "field_table.js", "charts.js", "page.js")


def page(diagnosis: Reportable, *, title: str = "Embedding diagnosis") -> str:
    """Return the page of one diagnosis."""
    found = diagnosis.to_dict()
    return _page(title, {found["source"]: found}, [])


def comparison_page(
    diagnoses: Mapping[str, Reportable],
    rows: Sequence[Mapping[str, Any]],
    *,
    title: str = "Models side by side",
) -> str:
    """Return the page of several diagnoses, side by side and one by one.

    Args:
        diagnoses: By the name a reader should see.
        rows: The result table, one mapping of column to value per model; may be empty.
        title: The page's heading.
    """
    return _page(title, {name: found.to_dict() for name, found in diagnoses.items()}, rows)


def _page(
    title: str, models: Mapping[str, Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> str:
    content = {
        "title": title,
        "models": [_rounded({"name": name, **model}) for name, model in models.items()],
        "rows": [dict(row) for row in rows],
    }
    return _TEMPLATE.format(
        title=escape(title),
        style=_asset("page.css"),
        # A field may be called "</script>": no tag may open inside the data.
        data=json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
        plotly=get_plotlyjs(),
        script="\n".join(_asset(name) for name in _SCRIPTS),
    )


def _rounded(value: Any) -> Any:  # noqa: ANN401
    """Keep four digits of every number: a page of 200 fields holds a quarter of a million."""
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _asset(name: str) -> str:
    return files("multiembed.report").joinpath(name).read_text(encoding="utf-8")
