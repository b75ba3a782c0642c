"""What changed over time, in sentences, and as a table for the terminal."""

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from multiembed.diagnosis.drift import DriftDiagnosis, FieldDrift, LastingDirection
from multiembed.diagnosis.shifts import StepTest
from multiembed.spectra.subspaces import Turn

SAID = 5
"""Fields that are described in a sentence each."""
TELLING = 0.25
"""Share of a direction's square in its five strongest rows from which these are worth a word."""
KIND_WORDS = {
    "spectrum": "how the energy is spread over directions",
    "subspace": "where the leading directions point",
    "rows": "how the rows lie to each other",
}


def drift_headline(sources: Sequence[str], fields: Sequence[FieldDrift], test: StepTest) -> str:
    """Say whether a step stands out, and in which fields."""
    if test.null == "none":
        changed = [of.name for of in fields if of.whole.turn.gained or of.whole.turn.lost]
        return (
            f"{_fields(len(changed))} of {len(fields)} gained or lost directions from {sources[0]} "
            f"to {sources[1]}. Two checkpoints show what changed, not whether that is unusual."
        )
    alarmed = by_strength(fields, alarmed_only=True)
    drifting = [of.name for of in by_strength(fields) if of.drifts]
    said = f"{_p(test.p_value)}{_assumption(test)}"
    if not alarmed and drifting:
        return f"Steady change ({said}), and no step that stands out: {_listed(drifting)}."
    if not alarmed:
        return f"No step stands out from the others ({said})."
    first = alarmed[0]
    same = [of.name for of in alarmed if of.largest == first.largest]
    others = len(alarmed) - len(same)
    more = f"; {_fields(others)} at other steps" if others else ""
    return (
        f"A shift from {sources[first.largest]} to {sources[first.largest + 1]} "
        f"({_p(first.p_value)}{_assumption(test)}): {_listed(same)}{more}."
    )


def drift_findings(sources: Sequence[str], fields: Sequence[FieldDrift]) -> tuple[str, ...]:
    """Describe the shifts; where there is none, the fields that changed most from first to last."""
    alarmed = by_strength(fields, alarmed_only=True)
    said = [
        f"{of.name}, {sources[of.largest]} to {sources[of.largest + 1]}: " + _sentence(of)
        for of in alarmed[:SAID]
    ]
    if not alarmed:
        most = sorted(fields, key=lambda of: of.whole.turn.overlap)[:SAID]
        said = [
            f"{of.name}, {sources[0]} to {sources[-1]}: " + _changed(of.whole.turn)
            for of in most
            if of.whole.turn.gained or of.whole.turn.lost
        ]
    unsure = [of.name for of in fields if of.whole.turn.chance > 0.5]
    if unsure:
        said.append(
            f"Angles say little of {_listed(unsure)}: with so few rows, half of any leading "
            "subspace lies inside the other by chance."
        )
    return tuple(said)


def by_strength(fields: Sequence[FieldDrift], *, alarmed_only: bool = False) -> list[FieldDrift]:
    """Return the fields, the one first that a shift is surest of, then the one that turned most."""
    kept = [of for of in fields if of.alarm or not alarmed_only]
    return sorted(kept, key=lambda of: (of.p_value, of.whole.turn.overlap))


def drift_table(found: DriftDiagnosis) -> Group:
    """Return what the terminal shows: headline, findings, one line per field."""
    lines: list[Text | Table] = [Text(found.headline, style="bold")]
    lines += [*(Text(line) for line in found.findings), Text()]
    lines.append(Text(f"From {found.sources[0]} to {found.sources[-1]}, by field:", style="bold"))
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("field", overflow="ellipsis", no_wrap=True, max_width=14)
    for heading in ("rows", "new", "gone", "kept", "lost", "gained", "turned", "CKA"):
        table.add_column(heading, justify="right", no_wrap=True)
    several = len(found.sources) > 2
    if several:
        table.add_column("largest step", overflow="ellipsis", no_wrap=True, max_width=13)
        table.add_column("p", justify="right", no_wrap=True)
    for of in by_strength(found.fields):
        step, turn = of.whole, of.whole.turn
        numbers = (of.rows, step.new.count, step.gone.count, turn.kept, turn.lost, turn.gained)
        last = (f"to {found.sources[of.largest + 1]}", _short_p(of.p_value)) if several else ()
        cells = (*(str(number) for number in numbers), f"{turn.mean_angle:.0f}°", f"{turn.cka:.3f}")
        style = "red" if of.alarm else ""
        table.add_row(*(Text(cell, style=style) for cell in (of.name, *cells, *last)))
    lines.append(table)
    if found.apart:
        lines += [Text(), Text(f"Not in every checkpoint: {_listed(found.apart)}.", style="dim")]
    return Group(*lines)


def _sentence(of: FieldDrift) -> str:
    """Say what a shift did to a field, beside what a usual step does."""
    turn, usual, shift = of.steps[of.largest].turn, _usual(of), of.shift
    assert shift is not None, "only alarms are described so"
    return (
        f"of {shift.before} lasting directions {_directions(shift.lost)} lost, "
        f"{_directions(shift.gained)} gained; turned by {turn.mean_angle:.0f}° (usual step "
        f"{usual.mean_angle:.0f}°), CKA {turn.cka:.3f} (usual step {usual.cka:.3f}). "
        f"It shows most in {KIND_WORDS[of.kind]}."
    )


def _directions(found: Sequence[LastingDirection]) -> str:
    if not found:
        return "0"
    energy = sum(of.energy for of in found)
    told = f", strongest in rows {', '.join(found[0].rows)}" if found[0].share >= TELLING else ""
    return f"{len(found)} ({energy:.0%} of the energy{told})"


def _changed(turn: Turn) -> str:
    """Say how two checkpoints differ."""
    return (
        f"{turn.before} leading directions became {turn.after}: {turn.lost} lost with "
        f"{turn.lost_energy:.0%} of the energy, {turn.gained} gained with "
        f"{turn.gained_energy:.0%}; turned by {turn.mean_angle:.0f}°, CKA {turn.cka:.3f}."
    )


def _usual(of: FieldDrift) -> Turn:
    """Return the step in the middle of the others, by CKA."""
    others = sorted(
        (step.turn for at, step in enumerate(of.steps) if at != of.largest),
        key=lambda turn: turn.cka,
    )
    return others[len(others) // 2]


def _assumption(test: StepTest) -> str:
    if test.null == "order":
        return ""
    return " if noise is normal"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _short_p(value: float) -> str:
    return "<.001" if value < 0.001 else f"{value:.3f}"


def _fields(count: int) -> str:
    return f"{count} field{'' if count == 1 else 's'}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SAID]) + (f" and {len(names) - SAID} more" if len(names) > SAID else "")
