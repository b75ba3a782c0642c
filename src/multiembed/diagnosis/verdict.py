"""What the numbers of a table mean, and what to try: every verdict in one registry."""

from collections.abc import Callable
from dataclasses import dataclass

from multiembed.diagnosis import findings
from multiembed.diagnosis.case import (
    BEFORE_GAP,
    ENOUGH,
    IN_USE,
    IN_USE_FEW_ROWS,
    RANDOM_ROWS,
    RANDOM_ROWS_PER_COLUMN,
    RANDOM_SHARE,
    ROWS_PER_COLUMN,
    Case,
)
from multiembed.spectra.catalogue import View

RESTORED = 1.5
"""Least factor by which a table's share rises once its mean is taken out, if the mean is to blame.

A share of 49% with the mean and 51% without is a table near the limit, not one with an offset.
"""

ENOUGH_TRAINED = 0.5
"""Least share of rows met in training, and of rows that are not near zero.

Below it most rows hold what they were initialised with, or what weight decay left of it, and
a measure over all rows describes those and not what was learned.
"""


@dataclass(frozen=True, kw_only=True)
class Label:
    """One verdict: its rule, its words, and how it looks."""

    holds: Callable[[Case], bool]
    """Its rule; of the labels whose rule holds, the first is given."""
    finding: Callable[[Case], str]
    """What was found, with the numbers it rests on."""
    rests_on: Callable[[Case], str]
    """The number it rests on, in a few words."""
    means: str
    """In a few words, for a legend."""
    rule: str | None
    """Its rule in words, for readers of a page; `None` if it is what no other rule caught."""
    advice: str
    """What to try."""
    by_spread: bool = False
    """Whether it goes by how even the energy is, and so may be near that limit."""
    phrase: str | None = None
    """What a headline says of such fields beside the collapsed ones."""
    color: str
    """Of Okabe and Ito's colours, which colour-blind readers can tell apart, or grey."""
    mark: str
    """The sign beside the word: it differs from label to label."""
    symbol: str
    """Name of the mark's shape on pages."""
    style: str
    """Rich's style, in the terminal."""


def _part(share: float) -> str:
    return {1 / 2: "half", 1 / 3: "a third"}.get(share, f"{share:.0%}")


def _low_rank(case: Case) -> bool:
    mostly_dead = case.dead_columns >= IN_USE * case.view.columns
    return case.trained != 0 and (case.spread == "low rank" or (mostly_dead and case.view.rows > 1))


def _too_wide(case: Case) -> bool:
    """Whether rows are too few for the columns, and not since most were never met, or are zero."""
    most = case.view.rows >= ENOUGH_TRAINED * case.cardinality
    return case.trained != 0 and case.view.rows < case.dim and (most or case.cardinality < case.dim)


def _common_mean(case: Case) -> bool:
    raw = case.judged.normalized_information_abundance
    centered = case.judged.centered_normalized_information_abundance
    return raw < ENOUGH and centered >= RESTORED * raw


VERDICTS: dict[str, Label] = {
    "low rank": Label(
        holds=_low_rank,
        finding=findings.low_rank,
        rests_on=findings.carried,
        means="few of its directions are in use, whatever the mean",
        rule=(
            f"Less the mean, at most {_part(IN_USE)} of the directions hold 99% of the energy "
            f"({_part(IN_USE_FEW_ROWS)} where there are fewer than {ROWS_PER_COLUMN} rows per "
            f"column), or so few hold {BEFORE_GAP:.0%} and the rest is even, as noise is; or "
            f"{_part(IN_USE)} of the columns hold one value. A few long rows do not count."
        ),
        advice=(
            "More columns will not help while these are unused: try several embedding sets "
            "instead of a wider one. What cutting the table would cost cannot be told from it: "
            "'multiembed compress' measures that for a run; for a foreign file it is unknown."
        ),
        color="#d55e00",
        mark="▼",
        symbol="triangle-down",
        style="bold red",
    ),
    "few rows dominate": Label(
        holds=lambda case: case.long_rows_decide,
        finding=findings.few_rows,
        rests_on=lambda case: (
            f"{case.dominated:.0%} in {case.dominating:,} row{'s' * (case.dominating != 1)}"
        ),
        means="a few long rows hide what the others are like",
        rule=(
            "The energy is spread otherwise where rows longer than four medians weigh less; if it "
            "looks like low rank with them, they are few: no more than columns, or one in 20."
        ),
        advice=(
            "See which rows these are (a default value, the most frequent ones, rows that "
            "diverged). Measures over all rows describe them and not the table."
        ),
        phrase="dominated by few rows",
        color="#000000",
        mark="▲",
        symbol="triangle-up",
        style="bold yellow",
    ),
    "too wide": Label(
        holds=_too_wide,
        finding=lambda case: f"{case.view.rows:,} {case.rows} cannot span the columns of one set.",
        rests_on=lambda case: (
            f"{case.view.rows:,} row{'s' * (case.view.rows != 1)}, {case.dim} columns"
        ),
        means="it has fewer rows than columns",
        rule="Fewer rows than the columns of one set, of which some cannot be used then.",
        advice="Fewer values than columns cannot use them all: fewer columns would do.",
        phrase="too wide for the number of rows",
        color="#0072b2",
        mark="✚",
        symbol="cross",
        style="blue",
    ),
    "rows near zero": Label(
        holds=lambda case: (
            case.near_zero > (1 - ENOUGH_TRAINED) * (case.near_zero + case.view.rows)
        ),
        finding=findings.healthy,
        rests_on=lambda case: f"{case.near_zero:,} of {case.judged_rows:,} rows",
        means=f"more than {_part(ENOUGH_TRAINED)} of its rows are zero or nearly so",
        rule=(
            f"More than {_part(ENOUGH_TRAINED)} of the rows are shorter than a thousandth of the "
            "longest hundredth; the others are not of low rank."
        ),
        advice=(
            "Rows that training seldom meets are shrunk by weight decay: leave tables out of it, "
            "or raise the minimum count so that rare values share one row."
        ),
        phrase="mostly near zero",
        color="#cc79a7",
        mark="○",
        symbol="circle-open",
        style="magenta",
    ),
    "untrained rows": Label(
        holds=lambda case: (
            case.trained is not None and case.trained < ENOUGH_TRAINED * case.cardinality
        ),
        finding=lambda case: case.met,
        rests_on=lambda case: f"{case.trained or 0:,} of {case.cardinality:,} rows",
        means=f"training met fewer than {_part(ENOUGH_TRAINED)} of its rows",
        rule=(
            f"Not of low rank where it was trained, but that is fewer than "
            f"{_part(ENOUGH_TRAINED)} of its rows."
        ),
        advice=(
            "Unless this is a checkpoint of the first steps, raise the minimum count so that rare "
            "values share one row. Read the trained-rows numbers, not those over all rows."
        ),
        phrase="mostly untrained",
        color="#cc79a7",
        mark="◆",
        symbol="diamond",
        style="magenta",
    ),
    "strong direction": Label(
        holds=lambda case: case.spread == "strong direction",
        finding=findings.strong_direction,
        rests_on=lambda case: (
            f"{case.judged.leading_share:.0%} in {case.judged.leading_directions}"
        ),
        by_spread=True,
        means="one or two directions stand above even ones",
        rule=(
            f"Less the mean, below {ENOUGH:.0%} of a random table, because of one or two "
            "directions above an even rest. All directions are in use."
        ),
        advice=(
            "Nothing is unused. Often such a direction is how popular a value is, which a bias "
            "or a first-order weight can carry."
        ),
        phrase="with one or two strong directions",
        color="#56b4e9",
        mark="↗",
        symbol="arrow",
        style="cyan",
    ),
    "uneven": Label(
        holds=lambda case: case.spread == "uneven",
        finding=findings.uneven,
        rests_on=lambda case: f"{findings.share(case.judged)} of random",
        by_spread=True,
        means="some directions are much weaker than others, none is unused",
        rule=(
            f"Less the mean, below {ENOUGH:.0%} of a random table, and more directions in use than "
            "low rank allows."
        ),
        advice="Nothing is unused: weak directions are not empty, and quality may rest on them.",
        phrase="uneven",
        color="#56b4e9",
        mark="◢",
        symbol="triangle-se",
        style="cyan",
    ),
    "common mean": Label(
        holds=_common_mean,
        finding=findings.common_mean,
        rests_on=lambda case: f"{case.judged.mean_share:.0%} in the mean",
        means="all rows share an offset; fine without it",
        rule=(
            f"Below {ENOUGH:.0%} as it is, and at least {_part(RESTORED - 1)} as much again less "
            "its mean: the offset hides a table that is even."
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
    "like random": Label(
        holds=lambda case: case.like_random,
        finding=findings.like_random,
        rests_on=lambda case: f"{findings.share(case.view)} of random",
        means="nothing tells it from its initialisation",
        rule=(
            f"At least {RANDOM_ROWS} rows and {RANDOM_ROWS_PER_COLUMN} per column; less the mean, "
            f"within {RANDOM_SHARE:.0%} of a random table (more for few rows), and energies of the "
            "directions that differ no more than chance makes them."
        ),
        advice=(
            "Make sure that this is the checkpoint you meant, and that it was trained: of an "
            "untrained table nothing can be said."
        ),
        phrase="not to be told from a random table",
        color="#8a949e",
        mark="?",
        symbol="hash",
        style="dim",
    ),
    "healthy": Label(
        holds=lambda _: True,
        finding=findings.healthy,
        rests_on=findings.k99,
        by_spread=True,
        means="its directions are in use",
        rule=None,
        advice="Nothing to do.",
        color="#009e73",
        mark="●",
        symbol="circle",
        style="green",
    ),
}
"""All verdicts, the most pressing first: the first whose rule holds is given."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The judgement of one field."""

    label: str
    """A name in `VERDICTS`."""
    view: View
    """The rows it rests on: those trained, or all where counts are unknown; none near zero, and
    long ones with less weight where the verdict turns on them."""
    rests_on: str
    """The number it rests on, in a few words."""
    finding: str
    """What was found, with the numbers it rests on."""
    advice: str
    """What to try."""
    rows_near_zero: int
    """Rows that were set apart, since they are zero or nearly so."""
    dead_columns: int
    """Columns that hold one value in all rows."""


def judge_field(case: Case) -> Verdict:
    """Judge a table by its trained rows, or by all rows where training counts are unknown."""
    name = next(name for name, label in VERDICTS.items() if label.holds(case))
    label = VERDICTS[name]
    return Verdict(
        label=name,
        view=case.judged,
        rests_on=label.rests_on(case),
        finding=findings.sentences(case, label.finding(case), by_spread=label.by_spread),
        advice=label.advice,
        rows_near_zero=case.near_zero,
        dead_columns=case.dead_columns,
    )


def rules_in_words() -> list[tuple[str, str]]:
    """Return the rules by label, in the order in which they are asked."""
    return [(name, label.rule) for name, label in VERDICTS.items() if label.rule is not None]
