"""Finished runs as tables: one line per run, and one per point of a grid over its seeds."""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from multiembed.experiments.analysis.statistics import Spread, spread
from multiembed.experiments.grid.grid import Case, Labels
from multiembed.experiments.grid.outcome import Outcome
from multiembed.experiments.grid.running import Failure, GridState
from multiembed.runs.directory import write_whole


@dataclass(frozen=True)
class Point:
    """One point of a grid: what its runs are called, less the seed, and what came of them."""

    labels: Labels
    """With the smallest of the seeds and folds."""
    outcomes: tuple[Outcome, ...]
    """In the order of folds and seeds."""
    replicas: tuple[tuple[int | None, int], ...]
    """Fold and seed of every outcome: what points are paired by."""

    def values(self, measure: str) -> list[float]:
        """Return one measure of every run."""
        return [float(getattr(outcome, measure)) for outcome in self.outcomes]

    def by_replica(self, measure: str) -> dict[tuple[int | None, int], float]:
        """Return one measure by fold and seed."""
        return dict(zip(self.replicas, self.values(measure), strict=True))

    def spread(self, measure: str) -> Spread:
        """Return mean and standard deviation of a measure over the runs."""
        return spread(self.values(measure))


def row_of(case: Case, outcome: Outcome) -> dict[str, Any]:
    """Return one run as column to value."""
    return {**asdict(case.labels), **outcome.model_dump()}


def points(done: Iterable[tuple[Case, Outcome]]) -> list[Point]:
    """Gather runs that differ in seed and fold alone, in the order of the first of each."""
    gathered: dict[tuple[object, ...], list[tuple[Case, Outcome]]] = {}
    for case, outcome in done:
        labels = case.labels
        place = (
            labels.architecture,
            labels.variant,
            labels.share,
            labels.scaling,
            outcome.dim,
            outcome.sets,
        )
        gathered.setdefault(place, []).append((case, outcome))
    return [_point(runs) for runs in gathered.values()]


def _point(runs: Sequence[tuple[Case, Outcome]]) -> Point:
    ordered = sorted(runs, key=lambda run: (run[0].labels.fold or 0, run[0].labels.seed))
    return Point(
        labels=ordered[0][0].labels,
        outcomes=tuple(outcome for _, outcome in ordered),
        replicas=tuple((case.labels.fold, case.labels.seed) for case, _ in ordered),
    )


def write_results(folder: Path, state: GridState) -> None:
    """Write `results.csv` and `results.json`: all finished runs, and why others are not."""
    rows = [row_of(case, outcome) for case, outcome in state.done]
    failures = [failure_row(failure) for failure in state.failed]
    content = {"runs": rows, "failures": failures}
    text = json.dumps(content, indent=1) + "\n"
    write_whole(folder / "results.json", lambda to: to.write_text(text, encoding="utf-8"))
    write_csv(folder / "results.csv", rows)


def failure_row(failure: Failure) -> dict[str, Any]:
    """Return a run that failed as column to value."""
    return {**asdict(failure.case.labels), "run": failure.case.name, "failure": failure.reason}


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows of the same columns as CSV, whole or not at all."""

    def write(to: Path) -> None:
        with to.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    write_whole(path, write)
