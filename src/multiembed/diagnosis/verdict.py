"""What the numbers of a table mean, and what to try: rules with their thresholds and reasons."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from multiembed.spectra.abundances import View

ENOUGH = 0.5
"""Least share of a random table's abundance that counts as healthy.

A random table has share 1 and an exact rank-r table about r / dim, so below one half a table
has the abundance of one with less than half its columns: the extra columns were not worth it.
Chance does not reach it: of 300 random tables of each shape from 3 x 2 to 1000 x 40, the lowest
had 0.62 without its mean and 0.67 with it.

Abundance is a ratio to the strongest direction, so one strong direction over many even ones lowers
it as well. Low rank is therefore said only if the energy, too, lies in less than this share of the
directions (by its entropy).
"""

RESTORED = 1.5
"""Least factor by which a table's share rises once its mean is taken out, if the mean is to blame.

A share of 49% with the mean and 51% without is a table near the limit, not one with an offset.
"""

ENOUGH_TRAINED = 0.5
"""Least share of rows met in training.

Below it most rows hold what they were initialised with, or what weight decay left of it, and
a measure over all rows describes those and not what was learned.
"""

MANY = 0.5
"""Share of fields from which a finding is said of the model and not only of its fields."""

Label = Literal["healthy", "common mean", "low rank", "untrained rows", "too wide"]
LABELS: tuple[Label, ...] = ("low rank", "common mean", "untrained rows", "too wide", "healthy")
"""All verdicts, the most pressing first."""

_PHRASES: dict[Label, str] = {
    "common mean": "dominated by a common mean",
    "untrained rows": "mostly untrained",
    "too wide": "too wide for the number of rows",
}

ADVICE: dict[Label, str] = {
    "low rank": (
        "More columns will not help while these are unused: try several embedding sets instead "
        "of a wider one, or cut the table to the columns that carry its energy."
    ),
    "common mean": (
        "Harmless by itself: a bias can absorb the offset. Compare models by the centred "
        "abundance, and do not read the raw one as collapse."
    ),
    "untrained rows": (
        "Raise the minimum count so that rare values share one row, and read the trained-rows "
        "numbers rather than those over all rows."
    ),
    "too wide": (
        "A field with fewer values than columns cannot use them all: give it a smaller embedding."
    ),
    "healthy": "Nothing to do.",
}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The judgement of one field."""

    label: Label
    view: View
    """The rows it rests on: those trained, or all where counts are unknown."""
    finding: str
    """What was found, with the numbers it rests on."""
    advice: str
    """What to try."""


@dataclass(frozen=True, kw_only=True)
class ModelVerdict:
    """The judgement of all fields together."""

    headline: str
    """One sentence."""
    findings: tuple[str, ...]
    """The numbers behind it, one sentence each."""
    advice: tuple[str, ...]
    """What to try, the most pressing first."""
    counts: dict[Label, int]
    """How many fields have each verdict."""


def judge_field(view: View, *, cardinality: int, trained: int | None, dim: int) -> Verdict:
    """Judge a table by its trained rows, or by all rows where training counts are unknown.

    Args:
        view: The abundances of those rows.
        cardinality: All rows of the table.
        trained: Rows met in training; `None` if unknown.
        dim: Columns of the table.
    """
    label = _label(view, cardinality=cardinality, trained=trained, dim=dim)
    finding = _finding(label, view, cardinality=cardinality, trained=trained)
    return Verdict(label=label, view=view, finding=finding, advice=ADVICE[label])


def _label(view: View, *, cardinality: int, trained: int | None, dim: int) -> Label:
    if trained == 0:
        return "untrained rows"
    if view.rows < dim:
        return "too wide"
    raw = view.normalized_information_abundance
    centered = view.centered_normalized_information_abundance
    directions = min(view.rows - 1, view.columns)
    if centered < ENOUGH and view.centered_effective_rank < ENOUGH * directions:
        return "low rank"
    if raw < ENOUGH and centered >= RESTORED * raw:
        return "common mean"
    if trained is not None and trained < ENOUGH_TRAINED * cardinality:
        return "untrained rows"
    return "healthy"


def _finding(label: Label, view: View, *, cardinality: int, trained: int | None) -> str:
    raw = f"{view.normalized_information_abundance:.0%}"
    centered = f"{view.centered_normalized_information_abundance:.0%}"
    rows = "rows" if trained is None else "trained rows"
    met = f"Training met {trained or 0:,} of {cardinality:,} rows."
    sentences: dict[Label, str] = {
        "low rank": (
            f"Without their mean, its {rows} have {centered} of the abundance of a random table "
            f"of this shape, and their energy lies in about {view.centered_effective_rank:.0f} of "
            f"{view.columns} directions."
        ),
        "common mean": (
            f"All {rows} share an offset that holds {view.mean_share:.0%} of the energy. It makes "
            f"the raw abundance {raw} of a random table's; without it, it is {centered}."
        ),
        "untrained rows": met,
        "too wide": f"{view.rows:,} {rows} cannot span the columns of one set.",
        "healthy": (
            f"Its {rows} have {raw} of the abundance of a random table of this shape, "
            f"{centered} without their mean; their energy lies in about "
            f"{view.centered_effective_rank:.0f} of {view.columns} directions."
        ),
    }
    equal = label == "low rank" and view.centered_information_abundance == 0
    finding = f"All its {rows} are equal." if equal else sentences[label]
    if label != "untrained rows" and trained is not None and trained < cardinality:
        finding += f" {met}"
    return finding


def judge_model(verdicts: Sequence[Verdict], *, pullers: Sequence[str] = ()) -> ModelVerdict:
    """Sum up the fields' verdicts.

    Args:
        verdicts: One per field.
        pullers: Fields whose projections pull other fields down most, where that is known.
    """
    labels: list[Label] = [verdict.label for verdict in verdicts]
    counts = Counter(labels)
    findings = [_average([verdict.view for verdict in verdicts])]
    if pullers:
        names = ", ".join(f"'{name}'" for name in pullers)
        findings.append(f"Carried into {names}, the other fields lose most of their abundance.")
    pressing: list[Label] = [label for label in LABELS if counts[label] and label != "healthy"]
    return ModelVerdict(
        headline=_headline(counts, len(verdicts)),
        findings=tuple(findings),
        advice=tuple(f"{_fields(counts[label], label)}: {ADVICE[label]}" for label in pressing),
        counts={label: counts[label] for label in LABELS if counts[label]},
    )


def _headline(counts: Counter[Label], fields: int) -> str:
    others = [f"{counts[label]} {_PHRASES[label]}" for label in LABELS[1:-1] if counts[label]]
    rest = f" Beside that, {_listed(others)}." if others else ""
    collapsed = counts["low rank"]
    if counts["healthy"] == fields:
        return f"No collapse: {fields} of {fields} fields are healthy."
    if collapsed == 0:
        return f"No field has collapsed to a low rank.{rest}"
    of = f"{collapsed} of {fields} fields {'is' if collapsed == 1 else 'are'} of low rank"
    if collapsed >= MANY * (fields - counts["too wide"]):
        return f"The embeddings have collapsed: {of}.{rest}"
    return f"Partly collapsed: {of}.{rest}"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _average(views: Sequence[View]) -> str:
    raw = sum(view.normalized_information_abundance for view in views) / len(views)
    centered = sum(view.centered_normalized_information_abundance for view in views) / len(views)
    return (
        f"On average a field has {raw:.0%} of the abundance of a random table of its shape, "
        f"and {centered:.0%} once its common mean is taken out."
    )


def _fields(count: int, label: str) -> str:
    return f"{count} {'field' if count == 1 else 'fields'} {label}"
