"""What the verdicts on all fields say of the model."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from multiembed.diagnosis.verdict import VERDICTS, Verdict
from multiembed.spectra.catalogue import View

MANY = 0.5
"""A model has collapsed if more than this share of its fields has, and not one of several."""


@dataclass(frozen=True, kw_only=True)
class ModelVerdict:
    """The judgement of all fields together."""

    headline: str
    """One sentence."""
    findings: tuple[str, ...]
    """The numbers behind it, one sentence each."""
    advice: tuple[str, ...]
    """What to try, the most pressing first."""
    counts: dict[str, int]
    """How many fields have each verdict."""


def judge_model(verdicts: Sequence[Verdict], *, pullers: Sequence[str] = ()) -> ModelVerdict:
    """Sum up the fields' verdicts.

    Args:
        verdicts: One per field.
        pullers: Fields whose projections pull other fields down most, where that is known.
    """
    counts = Counter(verdict.label for verdict in verdicts)
    one = len(verdicts) == 1
    findings = [verdicts[0].finding if one else _average([verdict.view for verdict in verdicts])]
    if pullers:
        names = ", ".join(f"'{name}'" for name in pullers)
        findings.append(f"Carried into {names}, the other fields lose most of their abundance.")
    found = [name for name in VERDICTS if counts[name]]
    return ModelVerdict(
        headline=_headline(counts, len(verdicts)),
        findings=tuple(findings),
        advice=tuple(
            f"{_fields(counts[name], name)}: {VERDICTS[name].advice}"
            for name in found
            if name != "healthy"
        ),
        counts={name: counts[name] for name in found},
    )


def _headline(counts: Counter[str], fields: int) -> str:
    others = [
        f"{counts[name]} {label.phrase}"
        for name, label in VERDICTS.items()
        if label.phrase is not None and counts[name]
    ]
    rest = f" Beside that, {_listed(others)}." if others else ""
    collapsed = counts["low rank"]
    if counts["healthy"] == fields:
        return f"No collapse: {fields} of {fields} fields are healthy."
    if collapsed == 0:
        return f"No field has collapsed to a low rank.{rest}"
    of = f"{collapsed} of {fields} fields {'is' if collapsed == 1 else 'are'} of low rank"
    # A field with fewer rows than columns says little of the model: it is not counted.
    if collapsed > MANY * (fields - counts["too wide"]) and (collapsed > 1 or fields == 1):
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
