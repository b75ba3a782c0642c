"""What is said of one table: sentences with the numbers that its verdict rests on."""

from multiembed.diagnosis.case import (
    BEFORE_GAP,
    ENOUGH,
    Case,
    carrying,
    directions_of,
    limit_of,
)
from multiembed.spectra.catalogue import View

NEAR = 0.1
"""A number is near a limit if it is within a tenth of its range: the directions, or the limit."""


def share(view: View) -> str:
    """Abundance over that of a random table, less the mean."""
    return f"{view.centered_normalized_information_abundance:.0%}"


def in_use(view: View) -> str:
    """How many directions hold the energy."""
    return f"{view.centered_k99} of {directions_of(view)} directions"


def directions(view: View) -> str:
    """How many directions stand out."""
    return "one direction" if view.leading_directions == 1 else "two directions"


def k99(case: Case) -> str:
    """The same in short."""
    return f"K99 {case.judged.centered_k99} of {directions_of(case.judged)}"


def carried(case: Case) -> str:
    """In how few directions the rows lie, in short."""
    few = carrying(case.judged)
    above_noise = few not in (0, case.judged.centered_k99)
    return f"{few} of {directions_of(case.judged)} above noise" if above_noise else k99(case)


def low_rank(case: Case) -> str:
    """Say in how few directions the rows lie."""
    view = case.judged
    if view.centered_information_abundance == 0:
        return f"All its {case.rows} are equal."
    if carrying(view) in (0, view.centered_k99):
        return f"Less their mean, {in_use(view)} hold 99% of the energy of its {case.rows}."
    return (
        f"Less their mean, {carrying(view)} of {directions_of(view)} directions hold "
        f"{view.leading_share:.0%} of the energy of its {case.rows}; the rest is even, as noise is."
    )


def few_rows(case: Case) -> str:
    """Say how few rows dominate, and what the others are like."""
    return (
        f"{case.dominating:,} of {case.view.rows:,} {case.rows} hold {case.dominated:.0%} of the "
        f"energy. Because of them, {in_use(case.view)} hold 99% of it; with less weight on long "
        f"rows, {in_use(case.judged)}."
    )


def strong_direction(case: Case) -> str:
    """Say how strong one or two directions are."""
    view = case.judged
    return (
        f"Less their mean, {view.leading_share:.0%} of the energy of its {case.rows} lies in "
        f"{directions(view)}; the others are even, and 99% of the energy needs {in_use(view)}."
    )


def uneven(case: Case) -> str:
    """Say how uneven the directions are, and that they are in use."""
    return (
        f"Less their mean, its {case.rows} have {share(case.judged)} of the abundance of a random "
        f"table of this shape, but 99% of their energy needs {in_use(case.judged)}."
    )


def common_mean(case: Case) -> str:
    """Say how large the offset is, and what it hides."""
    view = case.judged
    return (
        f"All {case.rows} share an offset that holds {view.mean_share:.0%} of the energy. It makes "
        f"the raw abundance {view.normalized_information_abundance:.0%} of a random table's; "
        f"without it, it is {share(view)}."
        + (" Nothing else tells it from its initialisation." if case.like_random else "")
    )


def like_random(case: Case) -> str:
    """Say that nothing stands out."""
    return (
        f"It is like a random table: its {case.rows} have {share(case.view)} of the abundance of "
        "one of this shape, and no direction stands out. Nothing tells it from its initialisation."
    )


def healthy(case: Case) -> str:
    """Say that the directions are in use."""
    return (
        f"Less their mean, 99% of the energy of its {case.rows} needs {in_use(case.judged)}; they "
        f"have {share(case.judged)} of the abundance of a random table of this shape."
    )


def sentences(case: Case, finding: str, *, by_spread: bool) -> str:
    """Put what was set apart before a finding, and what qualifies it after.

    Args:
        case: What the verdict rests on.
        finding: What its label says.
        by_spread: Whether the label is one of those that go by how even the energy is.
    """
    said = [finding]
    if case.near_zero:
        share_apart = case.near_zero / case.judged_rows
        part = f"{case.near_zero:,} of {case.judged_rows:,} {case.rows} ({share_apart:.0%})"
        said.insert(0, f"{part} are zero or nearly so and are set apart.")
    if 0 < case.dead_columns < case.view.columns:
        dead = f"{case.dead_columns} of {case.view.columns} columns"
        said.insert(0, f"{dead} are zero, or hold one value in all rows.")
    if case.trained is not None and case.trained < case.cardinality and case.met not in finding:
        said.append(case.met)
    limits = [*_near_low_rank(case.judged), *(_near_uneven(case.judged) if by_spread else [])]
    return " ".join([*said, *(f"That is near a limit: {limit}." for limit in limits)])


def _near_low_rank(view: View) -> list[str]:
    limit = limit_of(view)
    if abs(view.centered_k99 - limit - 0.5) <= NEAR * directions_of(view):
        return [f"low rank is K99 up to {limit}"]
    if view.leading_directions and abs(view.leading_share - BEFORE_GAP) <= NEAR * (1 - BEFORE_GAP):
        return [f"low rank is {BEFORE_GAP:.0%} of the energy or more before an even rest"]
    return []


def _near_uneven(view: View) -> list[str]:
    if abs(view.centered_normalized_information_abundance - ENOUGH) <= NEAR * ENOUGH:
        return [f"uneven is below {ENOUGH:.0%} of a random table"]
    return []
