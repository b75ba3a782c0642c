"""The page's table of fields: its columns, and a row with its details for every field."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from markupsafe import Markup

from multiembed.diagnosis.measure_words import NONE, phrases, written
from multiembed.diagnosis.page_charts import Found, sparkline
from multiembed.diagnosis.verdict import VERDICTS
from multiembed.report.wording import cut_apart
from multiembed.spectra.catalogue import MEASURES, Measure

_NAME_LETTERS = {"wide": 26, "narrow": 14}
"""Of a field's name in the table, by class of the page's style: on a desk and on a phone. The whole
name is shown when it is pointed at or opened."""


@dataclass(frozen=True, kw_only=True)
class FieldColumn:
    """One column: what it is called, and what a field has in it."""

    heading: str
    tip: str
    html: Callable[[Found], str]
    sort: Callable[[Found], Any]
    kind: str = ""
    """A class of the page's style."""


def field_columns(fields: Sequence[Found]) -> list[FieldColumn]:
    """Return the columns of a table of these fields; what none of them has, has none."""
    whole = [field["name"] for field in fields]
    names = {kind: cut_apart(whole, letters) for kind, letters in _NAME_LETTERS.items()}
    order = list(VERDICTS)
    columns = [
        FieldColumn(
            heading="field",
            tip="Field, or name of the table",
            html=lambda f: _name(f["name"], {k: of[f["name"]] for k, of in names.items()}),
            sort=lambda f: f["name"],
            kind="text",
        ),
        FieldColumn(
            heading="verdict",
            tip="See the rules at the end of the page",
            html=lambda f: chip(f["verdict"]["label"]),
            sort=lambda f: order.index(f["verdict"]["label"]),
            kind="text",
        ),
        FieldColumn(
            heading="rests on",
            tip="The number that the verdict rests on",
            html=lambda f: escape(f["verdict"]["rests_on"]),
            sort=lambda f: f["verdict"]["rests_on"],
            kind="text",
        ),
        FieldColumn(
            heading="spectrum",
            tip="Singular values over the largest, logarithmic from 1 to 0.001; dotted, a random "
            "table of the same shape; sorted by the last of them",
            html=sparkline,
            sort=_last_over_first,
        ),
        _plain("rows", "Rows of the table: the field's cardinality", "cardinality"),
    ]
    if any(field["rows_trained"] is not None for field in fields):
        columns.append(
            FieldColumn(
                heading="trained",
                tip="Share of rows met in training",
                html=lambda f: NONE if _met(f) is None else f"{_met(f):.0%}",
                sort=_met,
            )
        )
    columns.append(
        FieldColumn(
            heading="dim",
            tip="Columns; sets × columns of one set",
            html=lambda f: f"{f['sets']} × {f['dim']}" if f["sets"] > 1 else str(f["dim"]),
            sort=lambda f: f["dim"] * f["sets"],
        )
    )
    shown = [(name, of) for name, of in MEASURES.items() if of.heading is not None]
    shown.sort(key=lambda item: not item[1].beside_abundance)
    return columns + [_measured(name, of) for name, of in shown]


def pressing(field: Found) -> tuple[int, float]:
    """Return what sorts fields: the most pressing verdict first, then the least abundant."""
    verdict = field["verdict"]
    label = list(VERDICTS).index(verdict["label"])
    return label, verdict["view"]["centered_normalized_information_abundance"]


def chip(label: str) -> str:
    """Write a verdict behind its mark in its colour."""
    look = VERDICTS[label]
    mark = f'<b style="color:{look.color}">{look.mark}</b>'
    return f'<span class="chip">{mark}&nbsp;{escape(label)}</span>'


def field_rows(fields: Sequence[Found]) -> list[dict[str, Any]]:
    """Return one row for every field, the most pressing verdict first."""
    columns = field_columns(fields)
    return [
        {
            "name": field["name"],
            "cells": [_cell(column, field) for column in columns],
            "finding": field["verdict"]["finding"],
            "advice": field["verdict"]["advice"],
            "details": details(field),
        }
        for field in sorted(fields, key=pressing)
    ]


def details(field: Found) -> list[str]:
    """Say what is known of a field beside its verdict and its row."""
    said = [] if len(field["name"]) <= min(_NAME_LETTERS.values()) else [field["name"]]
    for title, view in (("Trained rows", "trained"), ("Rows by their counts", "weighted")):
        if field[view] is not None:
            rows = f"{field[view]['rows']:,} rows"
            said.append(f"{title} ({rows}): {phrases(field[view], 'of_view')}.")
    if field["per_set"]:
        sets = (
            f"{of.of_set}: {', '.join(written(of, view[name]) for view in field['per_set'])}"
            for name, of in MEASURES.items()
            if of.of_set is not None
        )
        said.append(f"Each set by itself, {'; '.join(sets)}.")
    method = "QR" if field["route"] == "qr" else "the Gram matrix"
    said.append(
        f"A random table of this shape has abundance {field['null_information_abundance']:.2f}. "
        f"{phrases(field, 'of_field')}. Singular values by {method}, each within "
        f"{field['error_bound']:.1g} of the largest."
    )
    return said


def _cell(column: FieldColumn, field: Found) -> Mapping[str, Any]:
    sort = column.sort(field)
    return {
        "html": Markup(column.html(field)),
        "sort": "" if sort is None else sort,
        "kind": column.kind,
    }


def _plain(heading: str, tip: str, key: str) -> FieldColumn:
    return FieldColumn(
        heading=heading, tip=tip, html=lambda f: f"{f[key]:,}", sort=lambda f: f[key]
    )


def _measured(name: str, of: Measure) -> FieldColumn:
    """Show a measure of the rows that the verdict rests on, so that the two agree."""

    def value(field: Found) -> Any:  # noqa: ANN401
        return field["verdict"]["view"][name]

    def cell(field: Found) -> str:
        share = min(1.0, value(field) or 0.0)
        bar = f'<i class="bar" style="width:{46 * share:.0f}px"></i>' if of.bar else ""
        return bar + written(of, value(field))

    return FieldColumn(heading=of.heading or name, tip=of.words, html=cell, sort=value)


def _name(name: str, shown: Mapping[str, str]) -> str:
    if len(set(shown.values())) == 1:
        return escape(name)
    spans = (f'<span class="{kind}">{escape(text)}</span>' for kind, text in shown.items())
    return f'<span title="{escape(name)}">{"".join(spans)}</span>'


def _met(field: Found) -> float | None:
    met = field["rows_trained"]
    return None if met is None else met / field["cardinality"]


def _last_over_first(field: Found) -> float | None:
    values = field["singular_values"]
    return values[-1] / values[0] if values[0] > 0 else None
