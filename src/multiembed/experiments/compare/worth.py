"""What a comparison says in words: who is ahead beyond the interval, why we think so, what to try.

Each sentence follows from numbers that stand beside it; where they show nothing, it says that.
"""

from collections.abc import Iterator, Mapping, Sequence

from multiembed.experiments.analysis.statistics import Interval
from multiembed.experiments.compare.fits import Difference, Standing
from multiembed.experiments.compare.row_facts import RareRows, RowFacts

MANY_NUMBERS = 0.2
"""Share of fields that are numbers from which on we name them as a reason."""
FEW_ROWS_PER_ID = 30
"""Training rows of the median id below which we name them as a reason."""
FEW_POSITIVES = 20
"""Positive test rows below which we warn of the intervals."""
FEW_ROWS = 100_000
"""Training rows below which we name them as a reason."""


def verdict(
    reference: Standing,
    others: Sequence[Standing],
    differences: Mapping[str, Difference],
    facts: RowFacts,
    rare: RareRows | None,
) -> Iterator[str]:
    """Say what a comparison shows.

    Args:
        reference: The best of ours.
        others: All others.
        differences: Of each of them, by name, to the reference.
        facts: What the rows are like.
        rare: Where the difference to the best of the others lies.
    """
    if not others:
        yield f"{reference.title} was fitted alone: there is nothing to compare it with."
        return
    rivals = [one for one in others if not one.is_ours] or others
    rival = min(rivals, key=lambda one: one.valid_log_loss)
    yield _headline(reference, rival, differences[rival.name])
    if facts.test_positives < FEW_POSITIVES:
        yield (
            f"The test split has {facts.test_positives} positive"
            f"{'s' if facts.test_positives > 1 else ''}: too few to rely on intervals."
        )
    ahead = {one.title: _ahead(differences[one.name]) for one in others if one is not rival}
    if any(ahead.values()):
        named = (f"{title} by {' and '.join(of)}" for title, of in ahead.items() if of)
        yield f"Also ahead of {reference.title}: {', '.join(named)}."
    base = differences.get("base_rate")
    if base is not None and rival.name != "base_rate" and not base.log_loss.low > 0:
        yield (
            f"The log loss of {reference.title} is not below that of the base rate "
            f"({interval_words(_opposite(base.log_loss))}): its probabilities say no more than one "
            "number for all rows."
        )
    if rare is not None and not rival.is_ours:
        seen = f"at most {rare.most:,} training rows" if rare.most else "no training row"
        yield (
            f"In the {rare.rows:,} test rows whose {rare.field} is in {seen}, the log "
            f"loss of {rival.title} less that of {reference.title} is "
            f"{interval_words(rare.rare)}; in the others {interval_words(rare.frequent)}."
        )
    found = differences[rival.name]
    if rival.is_tree and _ahead(found) and not _ahead(_turned(found)) and reference.is_ours:
        yield from _why(facts)


def interval_words(found: Interval) -> str:
    """Write a difference with its interval."""
    return f"{found.difference:+.5f}, 95% interval {found.low:+.5f} to {found.high:+.5f}"


def _headline(reference: Standing, rival: Standing, found: Difference) -> str:
    parts = []
    for first, second, of in ((rival, reference, found), (reference, rival, _turned(found))):
        if better := _ahead(of):
            by = " and ".join(f"by {measure} ({words})" for measure, words in better.items())
            parts.append(f"{first.title} is ahead of {second.title} {by}")
    settled = {**_ahead(found), **_ahead(_turned(found))}
    if level := {of: words for of, words in _words(found).items() if of not in settled}:
        by = " or ".join(f"by {measure} ({words})" for measure, words in level.items())
        both = f"{rival.title} and {reference.title}"
        less = f"; of {rival.title} less {reference.title}"
        parts.append(
            f"{'there' if parts else 'There'} is no evidence that {both} differ {by}{less}"
        )
    spent = (
        f"{rival.title} took {_time(rival.seconds)}, {reference.title} {_time(reference.seconds)}"
    )
    return f"{'; '.join(parts)}. {spent}."


def _words(found: Difference) -> dict[str, str]:
    return {"AUC": interval_words(found.auc), "log loss": interval_words(found.log_loss)}


def _ahead(found: Difference) -> dict[str, str]:
    """Return the measures by which a contender is better beyond the interval, and how much."""
    better = {"AUC": found.auc.low > 0, "log loss": found.log_loss.high < 0}
    return {of: words for of, words in _words(found).items() if better[of]}


def _turned(found: Difference) -> Difference:
    return Difference(_opposite(found.auc), _opposite(found.log_loss))


def _opposite(found: Interval) -> Interval:
    return Interval(0.0 - found.difference, 0.0 - found.high, 0.0 - found.low)


def _why(facts: RowFacts) -> Iterator[str]:
    """Say what about the rows speaks for trees, and what may help ours."""
    reasons, tries = [], ["multiembed tune, which looks for settings that suit these rows"]
    if facts.numbers >= MANY_NUMBERS * facts.fields:
        buckets = facts.kept < facts.numbers
        reasons.append(
            f"{facts.numbers} of {facts.fields} fields are numbers, "
            + (
                "here in buckets, whose order trees use and tables of ids do not"
                if buckets
                else "which trees cut where it helps"
            )
        )
        if buckets:
            tries.append("prepare with --numeric-embedding plr, which keeps the numbers")
    if 0 < facts.rows_per_id < FEW_ROWS_PER_ID:
        reasons.append(
            f"half of the {facts.ids:,} ids of categories are in at most {facts.rows_per_id:.0f} "
            "training rows, few to learn a vector from"
        )
        dropping = (
            f", or with --drop {facts.largest} ({facts.largest_ids:,} ids, half of them in at most "
            f"{facts.largest_rows_per_id:.0f} training rows)"
        )
        tries.append(f"prepare with a larger --min-count{dropping if facts.droppable else ''}")
    if facts.rows < FEW_ROWS:
        reasons.append(f"there are {facts.rows:,} training rows, few for a network")
    if reasons:
        yield f"Why we think so: {'; '.join(reasons)}."
    else:
        yield "Nothing that we count of the rows says why."
    yield f"Worth a try: {'; '.join(tries)}."


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:,.0f} s"
