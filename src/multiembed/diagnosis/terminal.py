"""A diagnosis as a table for the terminal, readable at 80 columns."""

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from multiembed.diagnosis.diagnose import Diagnosis
from multiembed.diagnosis.field import FieldDiagnosis
from multiembed.diagnosis.readers.table import Skipped
from multiembed.diagnosis.verdict import VERDICTS
from multiembed.runs.metrics import SPLIT_NAMES, Reliability
from multiembed.spectra.catalogue import MEASURES


def terminal_table(diagnosis: Diagnosis) -> Group:
    """Return the verdict, one line per field (the worst first), and what was skipped."""
    verdict = diagnosis.summary.verdict
    lines = [
        Text(verdict.headline, style="bold"),
        *(Text(finding) for finding in verdict.findings),
        *_calibration(diagnosis.reliability),
        Text(),
        _field_table(diagnosis.fields),
    ]
    if verdict.advice:
        lines += [Text(), Text("What to try", style="bold")]
        lines += [Text(f"- {advice}") for advice in verdict.advice]
    if diagnosis.skipped:
        lines += [Text(), Text(_skipped(diagnosis.skipped), style="dim")]
    return Group(*lines)


def _calibration(reliability: Reliability | None) -> list[Text]:
    if reliability is None:
        return []
    error, split = reliability.expected_calibration_error, SPLIT_NAMES[reliability.split]
    return [Text(f"Expected calibration error {error:.4f} on the {split} split.")]


def _field_table(fields: Sequence[FieldDiagnosis]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("field", overflow="ellipsis", no_wrap=True, max_width=16)
    table.add_column("verdict", no_wrap=True, min_width=14)
    table.add_column("rows", justify="right", no_wrap=True)
    counted = any(field.rows_trained is not None for field in fields)
    if counted:
        table.add_column("trained", justify="right", no_wrap=True)
    for heading in ("dim", *(of.terminal for of in MEASURES.values() if of.terminal)):
        table.add_column(heading, justify="right", no_wrap=True)
    order = sorted(fields, key=lambda f: f.verdict.view.centered_normalized_information_abundance)
    for field in order:
        table.add_row(*_row(field, counted=counted))
    return table


def _row(field: FieldDiagnosis, *, counted: bool) -> list[str | Text]:
    label = field.verdict.label
    dim = f"{field.sets}x{field.dim}" if field.sets > 1 else str(field.dim)
    trained = []
    if counted:
        met = field.rows_trained
        trained = ["" if met is None else f"{met / field.cardinality:.0%}"]
    return [
        Text(field.name),
        Text(label, style=VERDICTS[label].style),
        _short(field.cardinality),
        *trained,
        dim,
        *(_number(field.measures[name]) for name, of in MEASURES.items() if of.terminal),
    ]


def _number(value: float | int | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.2f}"


def _short(number: int) -> str:
    """Write a count in at most five characters."""
    if number < 10_000:
        return str(number)
    for size, letter in ((1e9, "G"), (1e6, "M")):
        if number >= 0.9995 * size:
            return _three_digits(number / size) + letter
    return _three_digits(number / 1e3) + "k"


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}"


def _skipped(skipped: Sequence[Skipped]) -> str:
    reasons: dict[str, list[str]] = {}
    for item in skipped:
        reasons.setdefault(item.reason, []).append(item.name)
    parts = [
        f"{len(names)} tensor{'s' if len(names) > 1 else ''}, {reason} "
        f"({', '.join(names[:2])}{', ...' if len(names) > 2 else ''})"
        for reason, names in reasons.items()
    ]
    return f"Not measured: {'; '.join(parts)}."
