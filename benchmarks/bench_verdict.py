"""The verdict on tables of known truth, beside the rule of another checkout.

    OMP_NUM_THREADS=1 python benchmarks/bench_verdict.py [--before ../old/src] [--out FILE.md]

Promise: of tables drawn by seeds on which no threshold was tuned, at least 90% are judged rightly
and 95% of those of low rank are found, and no other is called so. What a table is was decided when
it was made (`tests/planted_tables.py`). Some five minutes; `tests/test_planted_tables.py` is the
same with fewer seeds.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from bench_spectra import machine

TESTS = Path(__file__).parents[1] / "tests"
sys.path.append(str(TESTS))

from planted_tables import JUDGEMENTS, KINDS, LOW, planted  # noqa: E402

TUNED = range(0, 8)
"""Seeds that thresholds were tuned on."""
FRESH = range(3000, 3012)
"""Seeds that were first drawn when the rule was settled; those from 1000 on had been before."""
SWEPT = range(0, 4)
"""Of these, the seeds on which every threshold is moved."""
THRESHOLDS = {
    "diagnosis.case.IN_USE": (0.4, 0.5, 0.6),
    "diagnosis.case.IN_USE_FEW_ROWS": (0.25, 1 / 3, 0.5),
    "diagnosis.case.BEFORE_GAP": (0.85, 0.9, 0.95),
    "diagnosis.case.FREE": (0, 6, 12),
    "diagnosis.case.ENOUGH": (0.4, 0.5, 0.6),
    "diagnosis.case.RANDOM_SPREAD": (5.0, 10.0, 30.0),
    "diagnosis.case.RANDOM_SHARE_FEW_ROWS": (0.7, 1.25, 3.0),
    "diagnosis.case.FEW": (0.02, 0.05, 0.2),
    "diagnosis.survey.LONG_MATTER": (0.0, 0.005, 0.05),
    "spectra.standing.GAP": (1.2, 1.5, 2.5),
    "spectra.standing.EVEN": (0.1, 0.25, 1.0),
    "spectra.norms.NEAR_ZERO": (1e-5, 1e-3, 1e-1),
    "spectra.norms.LONG": (2.5, 4.0, 8.0),
}
"""By constant: a smaller value, its own, and a larger one."""
SHARES = {"right": 0.90, "found": 0.95}
"""What is promised: of all tables, and of those of low rank."""


def judged(seeds, kinds):
    """Judge tables with the `multiembed` that is imported; return records in order."""
    from multiembed.diagnosis.diagnose import diagnose

    records = []
    for kind in kinds:
        for seed in seeds:
            table = planted(seed, kind)
            counts = None if table.counts is None else {"x": table.counts}
            verdict = diagnose({"x": table.matrix}, counts=counts).fields[0].verdict
            records.append(
                {
                    "kind": kind,
                    "truth": table.truth,
                    "label": verdict.label,
                    "right": verdict.label in table.verdicts,
                    "near": "near a limit" in verdict.finding,
                }
            )
    return records


def judged_by(source, seeds, kinds):
    """Judge the same tables with the `multiembed` of another checkout, in its own process."""
    asked = json.dumps([list(seeds), list(kinds)])
    command = [sys.executable, __file__, "--judge", asked]
    environment = os.environ | {"PYTHONPATH": str(source)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def scores(records):
    """Return the shares that are promised, and how many others are called of low rank."""
    low = [of for of in records if of["truth"] == LOW]
    others = [of for of in records if of["truth"] != LOW]
    return {
        "tables": len(records),
        "right": sum(of["right"] for of in records) / len(records),
        "found": sum(of["label"] == LOW for of in low) / len(low),
        "false": sum(of["label"] == LOW for of in others),
        "others": len(others),
    }


def confusion(records):
    """Return lines of a table, truth by verdict."""
    truths = list(dict.fromkeys(of["truth"] for of in records))
    labels = [name for name, _ in Counter(of["label"] for of in records).most_common()]
    counts = Counter((of["truth"], of["label"]) for of in records)
    lines = [f"| truth | tables | right | {' | '.join(labels)} |", "|---" * (len(labels) + 3) + "|"]
    for truth in truths:
        of_truth = [of for of in records if of["truth"] == truth]
        right = sum(of["right"] for of in of_truth)
        cells = (str(counts[truth, label] or "") for label in labels)
        lines.append(f"| {truth} | {len(of_truth)} | {right} | {' | '.join(cells)} |")
    return lines


def by_kind(records, before):
    """Return lines of a table: each kind of table, and what the rules make of it."""
    lines = ["| kind | truth | tables | right | before | verdicts |", "|---|---|---|---|---|---|"]
    for kind in KINDS:
        mine = [of for of in records if of["kind"] == kind]
        right = sum(of["right"] for of in mine)
        old = sum(of["right"] for of in before if of["kind"] == kind) if before else ""
        lines.append(
            f"| {kind} | {mine[0]['truth']} | {len(mine)} | {right} | {old} | {_told(mine)} |"
        )
    return lines


def judgements(records, before):
    """Return lines of a table: what the rules call tables that have no one name."""
    lines = ["| kind | verdicts | before |", "|---|---|---|"]
    for kind in JUDGEMENTS:
        mine, old = ([of for of in all_ if of["kind"] == kind] for all_ in (records, before))
        lines.append(f"| {kind} | {_told(mine)} | {_told(old)} |")
    return lines


def _told(records):
    counts = Counter(of["label"] for of in records)
    return ", ".join(f"{count} {label}" for label, count in counts.most_common())


def _shares(name, records, *, tables=True):
    of = scores(records)
    number = f" {of['tables']} |" if tables else ""
    return (
        f"| {name} |{number} {of['right']:.1%} | {of['found']:.1%} | "
        f"{of['false']} of {of['others']} |"
    )


def moved():
    """Yield lines of a table: what becomes of tables if one threshold is another."""
    yield "| threshold | value | right | low rank found | others called of low rank | other words |"
    yield "|---|---|---|---|---|---|"
    kinds = [*KINDS, *JUDGEMENTS]
    usual = judged(SWEPT, kinds)
    yield f"{_shares('all as they are |', known(usual), tables=False)} |"
    for name, (smaller, used, larger) in THRESHOLDS.items():
        module, constant = name.rsplit(".", 1)
        home = importlib.import_module(f"multiembed.{module}")
        assert getattr(home, constant) == used, f"{name} must be {used}"
        for value in (smaller, larger):
            setattr(home, constant, value)
            found = judged(SWEPT, kinds)
            others = sum(a["label"] != b["label"] for a, b in zip(found, usual, strict=True))
            told = f"`{name}` | {value:.3g}, not {used:.3g}"
            yield f"{_shares(told, known(found), tables=False)} {others} of {len(found)} |"
        setattr(home, constant, used)


def known(records):
    """Return the records of tables that have one name."""
    return [of for of in records if of["kind"] in KINDS]


def report(tuned, fresh, judgement, before):
    """Return the results file as lines."""
    wrong = [of for of in fresh if not of["right"]]
    near = sum(of["near"] for of in fresh) / len(fresh)
    old = {name: found for name, found in before.items() if found}
    return [
        "# The verdict on planted tables",
        "",
        f"- {datetime.now(UTC):%Y-%m-%d}",
        *machine(),
        f"- seeds {TUNED.start} to {TUNED.stop - 1} were tuned on, {FRESH.start} to "
        f"{FRESH.stop - 1} drawn afterwards; {len(KINDS)} kinds of tables, one of each per seed",
        "",
        "| rule, seeds | tables | right | low rank found | others called of low rank |",
        "|---|---|---|---|---|",
        _shares("this, fresh", fresh),
        *([_shares("before, fresh", old["fresh"])] if old else []),
        _shares("this, tuned on", tuned),
        *([_shares("before, tuned on", old["tuned"])] if old else []),
        "",
        "A rule that has no word for a truth cannot be right about it; the last two columns ask "
        "no more than low rank or not, which both rules have words for.",
        f"Of the fresh tables {near:.0%} are said to be near a limit, of the {len(wrong)} judged "
        f"wrongly {sum(of['near'] for of in wrong)}.",
        "",
        "## Truth by verdict, fresh seeds",
        "",
        *confusion(fresh),
        "",
        *(["The rule before, same tables:", "", *confusion(old["fresh"]), ""] if old else []),
        "## Kind by kind, fresh seeds",
        "",
        *by_kind(fresh, old.get("fresh", [])),
        "",
        "## Judgements",
        "",
        "Tables that two people would call by two names; none is counted above.",
        "",
        *judgements(judgement, old.get("judgement", [])),
        "",
        "## Each threshold moved, all others as they are",
        "",
        f"Seeds {SWEPT.start} to {SWEPT.stop - 1}, a table of each kind; other words: how many "
        "get another verdict, those that are a judgement among them.",
        "",
        *moved(),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="src of another checkout, judged beside")
    parser.add_argument("--out", type=Path, help="write the report here")
    parser.add_argument("--judge", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.judge:
        print(json.dumps(judged(*json.loads(options.judge))))
        return
    asked = {"tuned": (TUNED, KINDS), "fresh": (FRESH, KINDS), "judgement": (FRESH, JUDGEMENTS)}
    found = {name: judged(*of) for name, of in asked.items()}
    before = {
        name: judged_by(options.before, *of) if options.before else [] for name, of in asked.items()
    }
    text = "\n".join(report(**found, before=before))
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    reached = scores(found["fresh"])
    assert all(reached[name] >= least for name, least in SHARES.items()), reached
    assert reached["false"] == 0, reached


if __name__ == "__main__":
    main()
