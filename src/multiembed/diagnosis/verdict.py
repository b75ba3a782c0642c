"""What the numbers of a table mean, and what to try: rules with their thresholds and reasons."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from multiembed.spectra.catalogue import View

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


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a verdict on a table rests on."""

    view: View
    """The rows that were trained, or all where training counts are unknown."""
    cardinality: int
    """All rows of the table."""
    trained: int | None
    """Rows met in training; `None` if unknown."""
    dim: int
    """Columns of one set."""

    @property
    def rows(self) -> str:
        """What the rows are called."""
        return "rows" if self.trained is None else "trained rows"

    @property
    def met(self) -> str:
        """How many rows training met, in a sentence."""
        return f"Training met {self.trained or 0:,} of {self.cardinality:,} rows."

    @property
    def raw(self) -> str:
        """Abundance over that of a random table."""
        return f"{self.view.normalized_information_abundance:.0%}"

    @property
    def centered(self) -> str:
        """The same without the mean row."""
        return f"{self.view.centered_normalized_information_abundance:.0%}"

    @property
    def directions(self) -> str:
        """How many directions hold the energy, of how many columns."""
        return f"{self.view.centered_effective_rank:.0f} of {self.view.columns} directions"


@dataclass(frozen=True, kw_only=True)
class Label:
    """One verdict: its rule, its words, and how it looks."""

    holds: Callable[[Case], bool]
    """Its rule; of the labels whose rule holds, the one asked first is given."""
    finding: Callable[[Case], str]
    """What was found, with the numbers it rests on."""
    means: str
    """In a few words, for a legend."""
    rule: str | None
    """Its rule in words, for readers of a page; `None` if it is what no other rule caught."""
    advice: str
    """What to try."""
    phrase: str | None = None
    """What a headline says of such fields beside the collapsed ones."""
    color: str
    """Of Okabe and Ito's colours, which colour-blind readers can tell apart."""
    mark: str
    """The sign beside the word: it differs from label to label as colours do."""
    symbol: str
    """Plotly's name of a marker of that shape."""
    style: str
    """Rich's style, in the terminal."""


def _part(share: float) -> str:
    return {0.5: "half"}.get(share, f"{share:.0%}")


def _low_rank(case: Case) -> bool:
    view = case.view
    directions = min(view.rows - 1, view.columns)
    return (
        view.centered_normalized_information_abundance < ENOUGH
        and view.centered_effective_rank < ENOUGH * directions
    )


def _common_mean(case: Case) -> bool:
    raw = case.view.normalized_information_abundance
    centered = case.view.centered_normalized_information_abundance
    return case.trained != 0 and raw < ENOUGH and centered >= RESTORED * raw


def _found_low_rank(case: Case) -> str:
    if case.view.centered_information_abundance == 0:
        return f"All its {case.rows} are equal."
    return (
        f"Without their mean, its {case.rows} have {case.centered} of the abundance of a random "
        f"table of this shape, and their energy lies in about {case.directions}."
    )


VERDICTS: dict[str, Label] = {
    "low rank": Label(
        holds=_low_rank,
        finding=_found_low_rank,
        means="few of its columns are in use, whatever the mean",
        rule=(
            f"Less the mean, below {ENOUGH:.0%} of a random table, and the energy lies in fewer "
            f"than {_part(ENOUGH)} of the directions. One strong direction over many even ones is "
            "not low rank, though its abundance is small."
        ),
        advice=(
            "More columns will not help while these are unused: try several embedding sets "
            "instead of a wider one, or cut the table to the columns that carry its energy."
        ),
        color="#d55e00",
        mark="▼",
        symbol="triangle-down",
        style="bold red",
    ),
    "common mean": Label(
        holds=_common_mean,
        finding=lambda case: (
            f"All {case.rows} share an offset that holds {case.view.mean_share:.0%} of the "
            f"energy. It makes the raw abundance {case.raw} of a random table's; without it, it "
            f"is {case.centered}."
        ),
        means="all rows share an offset; fine without it",
        rule=(
            f"Below {ENOUGH:.0%} as it is, and at least {_part(RESTORED - 1)} as much again less "
            "its mean: the offset hides a table that is not of low rank."
        ),
        advice=(
            "Harmless by itself: a bias can absorb the offset. Compare models by the centred "
            "abundance, and do not read the raw one as collapse."
        ),
        phrase="dominated by a common mean",
        color="#e69f00",
        mark="■",
        symbol="square",
        style="yellow",
    ),
    "untrained rows": Label(
        holds=lambda case: (
            case.trained is not None and case.trained < ENOUGH_TRAINED * case.cardinality
        ),
        finding=lambda case: case.met,
        means=f"training met fewer than {_part(ENOUGH_TRAINED)} of its rows",
        rule=(
            f"Healthy where it was trained, but that is fewer than {_part(ENOUGH_TRAINED)} of its "
            "rows."
        ),
        advice=(
            "Raise the minimum count so that rare values share one row, and read the trained-rows "
            "numbers rather than those over all rows."
        ),
        phrase="mostly untrained",
        color="#cc79a7",
        mark="◆",
        symbol="diamond",
        style="magenta",
    ),
    "too wide": Label(
        holds=lambda case: case.trained != 0 and case.view.rows < case.dim,
        finding=lambda case: f"{case.view.rows:,} {case.rows} cannot span the columns of one set.",
        means="it has fewer rows than columns",
        rule=(
            "Fewer rows than the columns of one set: some columns cannot be used, whatever is "
            "trained."
        ),
        advice=(
            "A field with fewer values than columns cannot use them all: give it a smaller "
            "embedding."
        ),
        phrase="too wide for the number of rows",
        color="#0072b2",
        mark="✚",
        symbol="cross",
        style="blue",
    ),
    "healthy": Label(
        holds=lambda _: True,
        finding=lambda case: (
            f"Its {case.rows} have {case.raw} of the abundance of a random table of this shape, "
            f"{case.centered} without their mean; their energy lies in about {case.directions}."
        ),
        means="its columns are in use",
        rule=None,
        advice="Nothing to do.",
        color="#009e73",
        mark="●",
        symbol="circle",
        style="green",
    ),
}
"""All verdicts, the most pressing first."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The judgement of one field."""

    label: str
    """A name in `VERDICTS`."""
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
    counts: dict[str, int]
    """How many fields have each verdict."""


def judge_field(case: Case) -> Verdict:
    """Judge a table by its trained rows, or by all rows where training counts are unknown."""
    name = next(name for name in _as_asked() if VERDICTS[name].holds(case))
    label = VERDICTS[name]
    finding = label.finding(case)
    if case.trained is not None and case.trained < case.cardinality and case.met not in finding:
        finding += f" {case.met}"
    return Verdict(label=name, view=case.view, finding=finding, advice=label.advice)


def rules_in_words() -> list[tuple[str, str]]:
    """Return the rules by label, in the order in which they are asked."""
    said = ((name, VERDICTS[name].rule) for name in _as_asked())
    return [(name, rule) for name, rule in said if rule is not None]


def _as_asked() -> list[str]:
    """Return the labels in the order in which their rules are asked, `healthy` last.

    A table that is too narrow to span its columns is judged as nothing else; the others are
    asked the most pressing first.
    """
    return sorted(VERDICTS, key=lambda name: (name == "healthy", name != "too wide"))


def judge_model(verdicts: Sequence[Verdict], *, pullers: Sequence[str] = ()) -> ModelVerdict:
    """Sum up the fields' verdicts.

    Args:
        verdicts: One per field.
        pullers: Fields whose projections pull other fields down most, where that is known.
    """
    counts = Counter(verdict.label for verdict in verdicts)
    findings = [_average([verdict.view for verdict in verdicts])]
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
