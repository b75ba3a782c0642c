"""A diagnosis as a table for the terminal, readable at 80 columns."""

from collections.abc import Sequence
from dataclasses import fields
from typing import TypeVar

from rich.console import Group
from rich.table import Table
from rich.text import Text

from multiembed.diagnosis.diagnose import Diagnosis
from multiembed.diagnosis.field import FieldDiagnosis
from multiembed.diagnosis.measure_words import APART, judged_rows, list_heading, written
from multiembed.diagnosis.readers.table import Skipped
from multiembed.diagnosis.verdict import VERDICTS
from multiembed.report.wording import cut_apart, short
from multiembed.runs.metrics import SPLIT_NAMES, Reliability
from multiembed.spectra.catalogue import MEASURES

_NAMED = 4
"""Names that are written out of the tensors left out for one reason; JSON has them all."""
_NAME_LETTERS = 16
"""Of a field's name."""
_Listed = TypeVar("_Listed", FieldDiagnosis, Skipped)


def terminal_table(diagnosis: Diagnosis) -> Group:
    """Lay out the verdict, one line per field (the worst first), and what was left out."""
    verdict = diagnosis.summary.verdict
    lines = [
        Text(verdict.headline, style="bold"),
        *(Text(finding) for finding in verdict.findings),
        *(Text(f"Broken: {of.name}: {of.reason}.", style="bold red") for of in diagnosis.broken),
        *_calibration(diagnosis.reliability),
        Text(_judged(diagnosis), style="dim"),
        Text(),
        _field_table(diagnosis.fields),
    ]
    for name, others in _held(diagnosis, FieldDiagnosis):
        if name != "fields":
            lines += [Text(), Text(f"{list_heading(name)}. {APART}"), _field_table(others)]
    if verdict.advice:
        lines += [Text(), Text("What to try", style="bold")]
        lines += [Text(f"- {advice}") for advice in verdict.advice]
    for name, items in _held(diagnosis, Skipped):
        if name == "broken":
            continue  # said at the top
        lines += [Text(), Text(f"{list_heading(name)}: {_by_reason(items)}.", style="dim")]
    return Group(*lines)


def _calibration(reliability: Reliability | None) -> list[Text]:
    if reliability is None:
        return []
    error, split = reliability.expected_calibration_error, SPLIT_NAMES[reliability.split]
    return [Text(f"Expected calibration error {error:.4f} on the {split} split.")]


def _judged(diagnosis: Diagnosis) -> str:
    said = judged_rows([field.rows_trained for field in diagnosis.fields], diagnosis.counts_from)
    return f"{said[0].upper()}{said[1:]}."


def _field_table(found: Sequence[FieldDiagnosis]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("field", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("rests on")
    table.add_column("rows", justify="right", no_wrap=True)
    counted = any(field.rows_trained is not None for field in found)
    if counted:
        table.add_column("trained", justify="right", no_wrap=True)
    for heading in ("dim", *(of.terminal for of in MEASURES.values() if of.terminal)):
        table.add_column(heading, justify="right", no_wrap=True)
    names = cut_apart([field.name for field in found], _NAME_LETTERS)
    for field in sorted(found, key=_pressing):
        table.add_row(names[field.name], *_row(field, counted=counted))
    return table


def _pressing(field: FieldDiagnosis) -> tuple[int, float]:
    view = field.verdict.view
    label = list(VERDICTS).index(field.verdict.label)
    return label, view.centered_normalized_information_abundance


def _row(field: FieldDiagnosis, *, counted: bool) -> list[str | Text]:
    label, measures = field.verdict.label, field.verdict.view.measures
    dim = f"{field.sets}x{field.dim}" if field.sets > 1 else str(field.dim)
    trained = []
    if counted:
        met = field.rows_trained
        trained = ["" if met is None else f"{met / field.cardinality:.0%}"]
    return [
        Text(label, style=VERDICTS[label].style),
        Text(field.verdict.rests_on),
        short(field.cardinality),
        *trained,
        dim,
        *(written(of, measures[name]) for name, of in MEASURES.items() if of.terminal),
    ]


def _held(diagnosis: Diagnosis, kind: type[_Listed]) -> list[tuple[str, Sequence[_Listed]]]:
    """Return the lists of such records that a diagnosis carries, by their names."""
    held = ((field.name, getattr(diagnosis, field.name)) for field in fields(diagnosis))
    return [
        (name, items)
        for name, items in held
        if isinstance(items, tuple | list) and items and isinstance(items[0], kind)
    ]


def _by_reason(skipped: Sequence[Skipped]) -> str:
    reasons: dict[str, list[str]] = {}
    for item in skipped:
        reasons.setdefault(item.reason, []).append(item.name)
    parts = [
        f"{len(names)} tensor{'s' if len(names) > 1 else ''}, {reason} "
        f"({', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''})"
        for reason, names in reasons.items()
    ]
    return "; ".join(parts)
