"""What a tuning found: its trials, the best of them, and the numbers for machines."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from multiembed.base.errors import DataError
from multiembed.config import RunConfig, parse_config
from multiembed.experiments.tune.knobs import SettingValue, Space
from multiembed.experiments.tune.trials import TrialRecord, run_folder
from multiembed.experiments.tune.tune_options import TuneOptions
from multiembed.runs.run import Run

_COUNTED = ("complete", "pruned", "failed")


@dataclass(frozen=True)
class Tuning:
    """Where a tuning is, and what it found."""

    folder: Path
    options: TuneOptions
    space: Space
    asked: int
    """Trials that there are to be."""
    records: list[TrialRecord]
    """In their order."""
    importance: Mapping[str, float]
    """By setting; they add up to 1. Empty for few trials."""

    @property
    def counted(self) -> list[TrialRecord]:
        """The trials that have ended, whichever way."""
        return [record for record in self.records if record.state in _COUNTED]

    @property
    def best(self) -> TrialRecord | None:
        """The best of those that came to their end; None before the first has."""
        return best_of([record for record in self.records if record.state == "complete"], self.by)

    @property
    def recipe(self) -> TrialRecord:
        """The first trial."""
        return self.records[0]

    @property
    def by(self) -> str:
        """What is best."""
        return self.options.by

    @property
    def measure(self) -> str:
        """What that is called."""
        return "AUC" if self.by == "auc" else "log loss"

    @property
    def run(self) -> Run:
        """The run of the best trial.

        Raises:
            DataError: If there is none yet.
        """
        if self.best is None:
            raise DataError(f"{self.folder} must hold a finished trial, got none")
        return Run(self.run_path)

    @property
    def run_path(self) -> Path:
        """Where that run is."""
        return run_folder(self.folder, 0 if self.best is None else self.best.number)

    def config(self, record: TrialRecord) -> RunConfig:
        """Return the configuration of a trial."""
        return parse_config(tomllib.loads(record.toml), source=f"trial {record.number}")

    def settings(self, record: TrialRecord) -> dict[str, SettingValue]:
        """Return what was varied in a trial, by key."""
        return self.space.shown(self.config(record)) if record.toml else {}


def best_of(records: list[TrialRecord], by: str) -> TrialRecord | None:
    """Return the best of some trials, the first of equal ones."""
    sign = -1.0 if by == "auc" else 1.0
    return min(records, key=lambda record: sign * (record.value or 0.0), default=None)


def results(tuning: Tuning) -> dict[str, Any]:
    """Return everything that a tuning found, for JSON."""

    def told(record: TrialRecord) -> dict[str, Any]:
        rest = {k: v for k, v in asdict(record).items() if k not in ("toml", "chosen")}
        return rest | {"settings": tuning.settings(record)}

    return {
        "by": tuning.by,
        "recipe": told(tuning.recipe),
        "best": None if tuning.best is None else told(tuning.best),
        "run": None if tuning.best is None else str(tuning.run_path),
        "importance": dict(tuning.importance),
        "trials": [told(record) for record in tuning.records],
    }


def setting_text(value: SettingValue) -> str:
    """Write a setting's value where there is little room."""
    if value is None:
        return "none"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
