"""One self-contained HTML page of one diagnosis, or of several side by side; works offline."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib.resources import files
from typing import Any

from plotly.offline import get_plotlyjs

from multiembed.diagnosis.verdict import VERDICTS, rules_in_words
from multiembed.report.shell import html_page
from multiembed.runs.metrics import SPLIT_NAMES
from multiembed.spectra.catalogue import MEASURES

_BODY = """<header id="header"></header>
<main id="main"><noscript><p>This page draws its tables and charts with the script it contains:
please allow scripts.</p></noscript></main>"""
_SCRIPTS = (
    *("elements.js", "field_table.js", "charts.js", "pair_charts.js", "sections.js", "page.js"),
)
_TERMS = (
    (
        "information abundance",
        "Sum of the singular values over the largest (Guo et al., ICML 2024): 1 where a table is "
        "a single direction, the number of columns where all count alike. It also falls when all "
        "rows share an offset, and in small tables, which is why it is shown less the mean and "
        "beside a random table.",
    ),
    (
        "random table",
        "The mean abundance of a table of independent normal numbers of the same shape. A "
        "percentage is a field's abundance over that.",
    ),
    (
        "which rows",
        "Verdicts rest on the rows met in training where their counts are known, on all rows "
        "elsewhere.",
    ),
)
"""What a reader of verdicts must know beside their rules."""


def page(found: Mapping[str, Any], *, title: str = "Embedding diagnosis") -> str:
    """Return the page of one diagnosis, given as `Diagnosis.to_dict` writes it."""
    return _page(title, {found["source"]: found}, [])


def comparison_page(
    diagnoses: Mapping[str, Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    *,
    title: str = "Models side by side",
) -> str:
    """Return the page of several diagnoses, side by side and one by one.

    Args:
        diagnoses: By the name a reader should see, each as `Diagnosis.to_dict` writes it.
        rows: The result table, one mapping of column to value per model; may be empty.
        title: The page's heading.
    """
    return _page(title, diagnoses, rows)


def _page(
    title: str, models: Mapping[str, Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> str:
    content = {
        "title": title,
        "models": [_rounded({"name": name, **model}) for name, model in models.items()],
        "rows": [dict(row) for row in rows],
        "measures": [_shown(name) for name in MEASURES],
        "verdicts": {
            name: {"color": of.color, "mark": of.mark, "symbol": of.symbol, "means": of.means}
            for name, of in VERDICTS.items()
        },
        "rules": [*_TERMS, *rules_in_words()],
        "splits": SPLIT_NAMES,
    }
    return html_page(
        title=title,
        body=_BODY,
        style=_asset("page.css"),
        data={"data": content},
        scripts=[get_plotlyjs(), "\n".join(_asset(name) for name in _SCRIPTS)],
    )


def _shown(name: str) -> dict[str, Any]:
    """Return what the page says of a measure and how it writes it; code and records stay here."""
    hidden = ("function", "places", "reads", "of_zeros", "terminal")
    measure = MEASURES[name]
    said = {of.name: getattr(measure, of.name) for of in fields(measure) if of.name not in hidden}
    return {"key": name, **said}


def _rounded(value: Any) -> Any:  # noqa: ANN401
    """Keep four digits of every number: a page of 200 fields holds a quarter of a million."""
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _asset(name: str) -> str:
    return files("multiembed.report").joinpath(name).read_text(encoding="utf-8")
