"""What a comparison says in words, for numbers made up so that only one thing can be said."""

from dataclasses import replace

import pytest

from multiembed.experiments.analysis.statistics import Interval
from multiembed.experiments.compare.fits import Difference, Standing
from multiembed.experiments.compare.row_facts import RareRows, RowFacts
from multiembed.experiments.compare.worth import verdict

LEVEL, UP, DOWN = (Interval(of, of - 0.01, of + 0.01) for of in (0.0, 0.02, -0.02))
WORDS = {of: f"{of.difference:+.5f}, 95% interval {of.low:+.5f} to {of.high:+.5f}" for of in (UP,)}
RARE = RareRows(field="user", most=12, rows=60, rare=DOWN, frequent=LEVEL)
MANY = RowFacts(
    rows=500_000,
    positives=1000,
    test_positives=100,
    fields=10,
    numbers=0,
    kept=0,
    droppable=True,
    ids=5000,
    rows_per_id=300.0,
    largest="user",
    largest_ids=4000,
    largest_rows_per_id=250.0,
)


def standing(title, valid=0.5, *, ours=False, tree=False, name=None):
    return Standing(
        name=name or title.lower(),
        title=title,
        is_ours=ours,
        is_tree=tree,
        fits=1,
        auc=0.7,
        log_loss=0.5,
        calibration_ratio=1.0,
        seconds=2.5,
        valid_log_loss=valid,
        settings={},
        chosen=[],
    )


OURS = standing("ours", ours=True)
TREE = standing("Tree", 0.4, tree=True)


def said(auc, loss, *, others=(TREE,), facts=MANY, rare=None, more=None):
    differences = {others[0].name: Difference(auc, loss), **(more or {})}
    return list(verdict(OURS, others, differences, facts, rare))


def test_a_tree_that_is_ahead_is_named_first_with_its_intervals():
    first, *_ = said(UP, DOWN)

    assert first == (
        f"Tree is ahead of ours by AUC ({WORDS[UP]}) and by log loss (-0.02000, 95% interval "
        "-0.03000 to -0.01000). Tree took 2.5 s, ours 2.5 s."
    )


def test_ours_ahead_is_said_without_reasons_for_trees():
    first, *rest = said(DOWN, UP, rare=RARE)

    assert first.startswith(f"ours is ahead of Tree by AUC ({WORDS[UP]}) and by log loss (-0.0")
    assert len(rest) == 1
    assert rest[0].startswith(
        "In the 60 test rows whose user is in at most 12 training rows, the l"
    )
    assert "less that of ours is -0.02000, 95% interval -0.03000 to -0.01000; in the o" in rest[0]
    *_, of_new = said(DOWN, UP, rare=replace(RARE, most=0))
    assert of_new.startswith("In the 60 test rows whose user is in no training row, the log loss")


def test_level_models_are_level():
    (only,) = said(LEVEL, LEVEL)

    assert only.startswith("There is no evidence that Tree and ours differ by AUC (+0.00000")
    assert "ahead" not in only
    assert " or by log loss" in only
    assert "; of Tree less ours. " in only


@pytest.mark.parametrize(("auc", "loss"), [(UP, UP), (DOWN, DOWN)])
def test_measures_that_disagree_are_both_said(auc, loss):
    first, *rest = said(auc, loss)

    assert "Tree is ahead of ours by " in first
    assert "ours is ahead of Tree by " in first
    assert rest == []  # no reasons: neither is the better one


def test_an_interval_that_touches_zero_is_no_evidence():
    touching = Interval(0.02, 0.0, 0.04)

    assert said(touching, LEVEL)[0].startswith("There is no evidence")


def test_reasons_are_only_those_that_hold():
    assert said(UP, DOWN)[1:] == [
        "Nothing that we count of the rows says why.",
        "Worth a try: multiembed tune, which looks for settings that suit these rows.",
    ]
    changed = {"numbers": 2, "rows": 99_999, "rows_per_id": 29.0, "largest_rows_per_id": 2.0}
    why, tries = said(UP, DOWN, facts=RowFacts(**{**vars(MANY), **changed}))[1:]
    assert why == (
        "Why we think so: 2 of 10 fields are numbers, here in buckets, whose order trees use and "
        "tables of ids do not; half of the 5,000 ids of categories are "
        "in at most 29 training rows, few to learn a vector from; there are 99,999 training rows, "
        "few for a network."
    )
    assert "--numeric-embedding plr" in tries
    assert "--drop user (4,000 ids, half of them in at most 2 training rows)" in tries


def test_what_cannot_be_done_is_not_advised():
    """Numbers that are kept need no --numeric-embedding; a fixed format has no --drop."""
    changed = {"numbers": 5, "kept": 5, "rows_per_id": 3.0, "droppable": False}
    *_, why, tries = said(UP, DOWN, facts=RowFacts(**{**vars(MANY), **changed}))

    assert "5 of 10 fields are numbers, which trees cut where it helps;" in why
    assert "--numeric-embedding" not in tries
    assert "--drop" not in tries
    assert "--min-count" in tries


def test_few_positives_are_told():
    few = RowFacts(**{**vars(MANY), "test_positives": 2})

    assert said(LEVEL, LEVEL, facts=few)[1] == (
        "The test split has 2 positives: too few to rely on intervals."
    )


def test_a_regression_that_wins_is_no_tree():
    regression = standing("regression", 0.4)

    assert said(UP, DOWN, others=(regression,))[1:] == []


def test_others_that_are_ahead_too_are_named_and_a_base_rate_that_is_not_beaten():
    cat, base = standing("Cat", 0.45, tree=True), standing("base rate", 0.6, name="base_rate")
    more = {"cat": Difference(UP, LEVEL), "base_rate": Difference(DOWN, LEVEL)}

    _, also, beaten, *_ = said(UP, DOWN, others=(TREE, cat, base), more=more)
    assert also == "Also ahead of ours: Cat by AUC."
    assert beaten.startswith("The log loss of ours is not below that of the base rate (+0.00000")


def test_alone_there_is_nothing_to_say():
    (only,) = verdict(OURS, [], {}, MANY, None)

    assert only == "ours was fitted alone: there is nothing to compare it with."
