"""What a notebook shows of a diagnosis: verdict, table of fields and spectra, without scripts."""

from html import escape

from multiembed.diagnosis.field_rows import chip, pressing
from multiembed.diagnosis.measure_words import judged_rows
from multiembed.diagnosis.page_charts import Found, spectra_chart
from multiembed.report.plot import picture
from multiembed.report.wording import short

SHOWN_FIELDS = 20
"""Fields in the table, the most pressing first; `to_html` and `to_frame` have all."""
_CELL = 'style="text-align:left;padding:2px 12px 2px 0"'


def notebook(found: Found) -> str:
    """Return a diagnosis, given as `Diagnosis.to_dict` writes it, as a piece of HTML."""
    verdict, fields = found["summary"]["verdict"], found["fields"]
    said = "".join(f"<p>{escape(finding)}</p>" for finding in verdict["findings"])
    judged = judged_rows([field["rows_trained"] for field in fields])
    return (
        f"<div><p><b>{escape(verdict['headline'])}</b></p>{said}"
        f"<p>{escape(found['source'])}; {judged}</p>{_table(fields)}"
        f"{picture(spectra_chart(fields, height=220))}</div>"
    )


def _table(fields: list[Found]) -> str:
    shown = sorted(fields, key=pressing)[:SHOWN_FIELDS]
    headings = ("field", "verdict", "rests on", "rows", "dim")
    head = "".join(f"<th {_CELL}>{heading}</th>" for heading in headings)
    rows = "".join(
        "<tr>" + "".join(f"<td {_CELL}>{cell}</td>" for cell in _cells(field)) + "</tr>"
        for field in shown
    )
    rest = len(fields) - len(shown)
    more = f"<p>{rest} more fields: see to_frame() or to_html().</p>" if rest else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{more}"


def _cells(field: Found) -> list[str]:
    verdict = field["verdict"]
    dim = f"{field['sets']} × {field['dim']}" if field["sets"] > 1 else str(field["dim"])
    return [
        escape(field["name"]),
        chip(verdict["label"]),
        escape(verdict["rests_on"]),
        short(field["cardinality"]),
        dim,
    ]
