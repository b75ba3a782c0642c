"""The verdict on tables of known truth: what `benchmarks/bench_verdict.py` reports, in small."""

from collections import Counter

import pytest
from planted_tables import KINDS, LOW, planted

from multiembed import diagnose

SEEDS = range(2000, 2003)
"""Neither tuned on nor reported."""


@pytest.fixture(scope="module")
def judged():
    """Return every table with the verdict on it."""
    found = []
    for kind in KINDS:
        for seed in SEEDS:
            table = planted(seed, kind)
            counts = None if table.counts is None else {"x": table.counts}
            found.append((table, diagnose({"x": table.matrix}, counts=counts).fields[0].verdict))
    return found


def test_nine_in_ten_tables_are_judged_rightly(judged):
    wrong = [(t.kind, t.seed, v.label) for t, v in judged if v.label not in t.verdicts]

    assert len(judged) == len(KINDS) * len(SEEDS)
    assert len(wrong) <= 0.1 * len(judged), wrong


def test_low_rank_is_found(judged):
    low = [(t.kind, t.seed, v.label) for t, v in judged if t.truth == LOW]
    missed = [of for of in low if of[2] != LOW]

    assert len(low) > 30
    assert len(missed) <= 0.05 * len(low), missed


def test_no_table_in_use_is_called_collapsed(judged):
    assert [(t.kind, t.seed) for t, v in judged if v.label == LOW and t.truth != LOW] == []


def test_the_tables_do_not_make_it_easy(judged):
    """Whoever says one thing of every table is wrong of most, and truths are many."""
    truths = Counter(t.truth for t, _ in judged)

    assert len(truths) >= 9
    assert all(
        sum(label in t.verdicts for t, _ in judged) < 0.6 * len(judged)
        for label in (LOW, "healthy", "few rows dominate")
    )
