"""What finished runs came to: a record of each, their means over seeds, and tables of them all."""

import csv
import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from multiembed.base.errors import ConfigError, DataError
from multiembed.base.files import make_folder, read_small, write_text, write_whole
from multiembed.base.workplaces import locked
from multiembed.data.store.dataset import Dataset
from multiembed.diagnosis.field import diagnose_field
from multiembed.diagnosis.readers.checkpoint import read_checkpoint
from multiembed.experiments.grid.grid import GridCase, RunLabels
from multiembed.runs.directory import LOCK_FILE, RunDirectory
from multiembed.runs.evaluation import defined
from multiembed.runs.run import Run
from multiembed.spectra.catalogue import Measured, mean_measures, measures_at
from multiembed.training.progress import TrainingProgress

_FILE_NAME = "outcome.json"
REPORTS = (
    *("results.json", "results.csv", "advice.html", "index.html", "report.html", "best.toml"),
)
"""What is written beside runs when they have ended."""
CONTENDERS_FOLDER, TRIALS_FILE = "contenders", "trials.journal"
"""What a comparison, and a tuning, are known by: there as soon as they have begun."""
_ALONE = ("config.toml", "schema.json")
"""What a run or a dataset is known by, in which no experiment may be."""


class Outcome(Measured, BaseModel):
    """One run in numbers; abundances are of the best model, averaged over fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    dim: int
    sets: int
    parameters: int
    parameters_embedding: int
    parameters_interaction: int
    parameters_head: int
    flops: int
    """Of one forward pass of one example."""
    valid_auc: float
    test_auc: float
    test_log_loss: float
    test_normalized_entropy: float
    test_calibration_ratio: float
    measures: Mapping[str, Any]
    """Means over fields, all sets side by side, by the names in `MEASURES`; in files and tables
    each stands under its own name, in this place."""
    first_information_abundance: float
    """At the first evaluation."""
    epochs: int
    best_epoch: int
    seconds: float
    """Of training and validation."""
    peak_memory_bytes: int

    @model_validator(mode="before")
    @classmethod
    def _gathered(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Take the measures from under their own names, as files hold them."""
        if "measures" in given:
            return given
        names = measures_at("outcome")
        rest = {name: value for name, value in given.items() if name not in names}
        return {**rest, "measures": {name: given[name] for name in names if name in given}}

    @field_validator("measures")
    @classmethod
    def _complete(cls, measures: Mapping[str, Any]) -> Mapping[str, Any]:
        missing = [name for name in measures_at("outcome") if name not in measures]
        if missing:
            raise ValueError(f"measures must have '{missing[0]}', got none")
        return measures

    @model_serializer(mode="wrap")
    def _flat(self, dump: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        flat: dict[str, Any] = {}
        for name, value in dump(self).items():
            flat |= value if name == "measures" else {name: value}
        return flat


@contextmanager
def experiment_in(folder: Path, sign: str | None = None) -> Iterator[None]:
    """Keep a directory of runs, and of reports about them, to one process.

    Args:
        folder: The directory.
        sign: What experiments of this kind are known by; None: by their runs.

    Raises:
        ConfigError: If another has it, it is a run, a dataset or an experiment of another kind,
            or it holds files of somebody else that reports would replace.
        WriteError: If it cannot be made.
    """
    others = [*_ALONE, *(of for of in (CONTENDERS_FOLDER, TRIALS_FILE) if of != sign)]
    if sign is not None:
        begun = (folder / sign).exists()
        others += [] if begun else ["runs", *REPORTS]
    else:
        begun = (folder / LOCK_FILE).exists() or any(
            path for runs in ("*", "*/*") for path in folder.glob(f"{runs}/config.toml")
        )
        others += [] if begun else REPORTS
    taken = next((name for name in others if (folder / name).exists()), None)
    if taken is not None:
        said = f"{folder} must be new or an experiment's of this kind"
        raise ConfigError(f"{said}, got {taken} of another")
    make_folder(folder)
    with locked(folder / LOCK_FILE, subject=folder):
        yield


def outcome_of(path: Path, dataset: Dataset) -> Outcome:
    """Measure a finished run on the test split, or read what was measured before.

    Raises:
        DataError: If the run is not finished.
    """
    kept = path / _FILE_NAME
    try:
        return Outcome.model_validate_json(read_small(kept))
    except (OSError, ValidationError):
        outcome = _measure(path, dataset)
    text = outcome.model_dump_json(indent=2) + "\n"
    write_text(kept, text)
    return outcome


def is_finished(path: Path) -> bool:
    """Whether a run's training came to its end."""
    return RunDirectory(path).summary.is_file()


def _measure(path: Path, dataset: Dataset) -> Outcome:
    if not is_finished(path):
        raise DataError(f"{path} must be a finished run, got one without an end")
    run = Run(path)
    budget = run.model.summary()
    measured = defined(run.evaluate("test", dataset=dataset))
    records = run.records
    fields = [diagnose_field(table)[0] for table in read_checkpoint(path).tables]
    return Outcome(
        run=path.name,
        dim=run.model.embedding.dim,
        sets=run.model.embedding.sets,
        parameters=budget.parameters.total,
        parameters_embedding=budget.parameters.embedding,
        parameters_interaction=budget.parameters.interaction,
        parameters_head=budget.parameters.head,
        flops=budget.flops.total,
        valid_auc=run.best_state["auc"],
        test_auc=measured["auc"],
        test_log_loss=measured["log_loss"],
        test_normalized_entropy=measured["normalized_entropy"],
        test_calibration_ratio=measured["calibration_ratio"],
        measures=mean_measures(fields, "outcome"),
        first_information_abundance=records[0]["mean_information_abundance"],
        epochs=int(records[-1]["epoch"]),
        best_epoch=int(run.best_state["epoch"]),
        seconds=records[-1]["seconds"],
        peak_memory_bytes=int(max(record["peak_memory_bytes"] for record in records)),
    )


@dataclass(frozen=True)
class Failure:
    """A run that could not be finished, and why."""

    case: GridCase
    reason: str


@dataclass
class GridState:
    """Where an experiment is."""

    waiting: deque[GridCase]
    running: dict[str, TrainingProgress | None] = field(default_factory=dict)
    """By name, how far each run is; `None` before its first step."""
    done: list[tuple[GridCase, Outcome]] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    work_left: float = 0.0
    """Operations of an epoch of all runs that have not ended."""
    seconds_per_work: float | None = None
    """As the finished runs took; `None` before the first."""
    workers: int = 1

    @property
    def total(self) -> int:
        """How many runs there are."""
        return len(self.waiting) + len(self.running) + len(self.done) + len(self.failed)

    @property
    def seconds_left(self) -> float | None:
        """Time until all have ended, were they like those that have; `None` before the first."""
        if self.seconds_per_work is None:
            return None
        return self.work_left * self.seconds_per_work / self.workers


@dataclass(frozen=True)
class Spread:
    """Repetitions of one measurement."""

    mean: float
    std: float
    """Of the sample, `n - 1` below; NaN for one repetition."""
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Return mean and sample standard deviation."""
    found = np.asarray(values, dtype=np.float64)
    std = float(found.std(ddof=1)) if len(found) > 1 else math.nan
    return Spread(float(found.mean()), std, len(found))


@dataclass(frozen=True)
class Point:
    """One point of a grid: what its runs are called, less the seed, and what came of them."""

    labels: RunLabels
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


def points(done: Iterable[tuple[GridCase, Outcome]]) -> list[Point]:
    """Gather runs that differ in seed and fold alone, in the order of the first of each."""
    gathered: dict[tuple[object, ...], list[tuple[GridCase, Outcome]]] = {}
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


def _point(runs: Sequence[tuple[GridCase, Outcome]]) -> Point:
    ordered = sorted(runs, key=lambda run: (run[0].labels.fold or 0, run[0].labels.seed))
    return Point(
        labels=ordered[0][0].labels,
        outcomes=tuple(outcome for _, outcome in ordered),
        replicas=tuple((case.labels.fold, case.labels.seed) for case, _ in ordered),
    )


def write_results(folder: Path, state: GridState) -> None:
    """Write `results.csv` and `results.json`: all finished runs, and why others are not."""
    rows = [asdict(case.labels) | outcome.model_dump() for case, outcome in state.done]
    failures = [
        asdict(one.case.labels) | {"run": one.case.name, "failure": one.reason}
        for one in state.failed
    ]
    content = {"runs": rows, "failures": failures}
    text = json.dumps(content, indent=1) + "\n"
    write_text(folder / "results.json", text)
    write_csv(folder / "results.csv", rows)


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows of the same columns as CSV, whole or not at all."""

    def write(to: Path) -> None:
        with to.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    write_whole(path, write)
