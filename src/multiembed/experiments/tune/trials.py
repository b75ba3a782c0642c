"""Trials of a tuning: chosen by Optuna, trained, pruned where others do better, kept in a file."""

import os
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from multiembed.base.errors import DataError, WriteError
from multiembed.config import BestBy, RunConfig, parse_config
from multiembed.data.store.dataset import Dataset, open_dataset
from multiembed.experiments.grid.outcome import TRIALS_FILE
from multiembed.experiments.tune.knobs import SettingValue, Space, costs_of
from multiembed.runs.directory import RunDirectory
from multiembed.training.progress import Observer, TrainingProgress
from multiembed.training.start import train

_STUDY = "tune"
_BEFORE_PRUNING = 5
"""Trials that come to their end before others are compared with them."""
_WARM_UP = 2
"""The first evaluation by which a trial may be pruned."""
_MOST_TIMES = 10
"""As many times the parameters, and operations, of the recipe's model a model may have."""
_MOST_SKIPPED = 100
"""Choices in a row that are not worth a training: then there are no others."""


@dataclass(frozen=True)
class Slot:
    """A place for one trial: which one, is chosen when its turn comes."""

    name: str
    dataset: Path
    space: Space
    config: RunConfig
    """The base; its threads are those of every trial."""
    resumes: int | None = None
    """A trial that was killed, to go on with."""
    deadline: float | None = None
    """Second of the epoch after which no trial begins."""


@dataclass(frozen=True)
class TrialRecord:
    """What became of one trial."""

    number: int
    state: str
    """complete, pruned, failed, skipped, running or waiting."""
    value: float | None
    """The best on the validation split; of a pruned one, until then."""
    chosen: Mapping[str, SettingValue]
    """What was varied, as Optuna knows it."""
    seconds: float | None
    """Of training and validation."""
    evaluations: int
    reason: str = ""
    """Why it failed or was skipped."""
    toml: str = field(default="", repr=False)
    """Its configuration."""


def open_study(folder: Path, by: BestBy, *, new: bool = False) -> Study:
    """Open the file of a tuning's trials; where none is there, make one if that is wanted.

    Raises:
        DataError: If it holds anything else.
        WriteError: If it cannot be written.
    """
    file = folder / TRIALS_FILE
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with _writing(file):
            backend = JournalFileBackend(str(file), lock_obj=JournalFileOpenLock(str(file)))
            storage = JournalStorage(backend)
            if new:
                aim = "maximize" if by == "auc" else "minimize"
                optuna.create_study(
                    storage=storage, study_name=_STUDY, direction=aim, load_if_exists=True
                )
            pruner = optuna.pruners.MedianPruner(_BEFORE_PRUNING, _WARM_UP)
            return optuna.load_study(study_name=_STUDY, storage=storage, pruner=pruner)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise DataError(f"{file} must be the journal of a tuning, got: {error}") from None
    finally:
        optuna.logging.set_verbosity(level)


def mend_journal(folder: Path) -> None:
    """Cut the line that a kill left unfinished, and the lock that it left; nobody may write."""
    file = folder / TRIALS_FILE
    file.with_name(f"{TRIALS_FILE}.lock").unlink(missing_ok=True)
    if file.is_file():
        content = file.read_bytes()
        os.truncate(file, content.rfind(b"\n") + 1)


def run_folder(folder: Path, number: int) -> Path:
    """Return where the training of a trial is."""
    return folder / "runs" / f"{number:04}"


def run_trial(slot: Slot, folder: Path, observer: Observer) -> int | None:
    """Choose a trial, or take up one that was killed, and train it until it ends or is pruned.

    Args:
        slot: Its place.
        folder: Of the tuning.
        observer: Told of the training's steps.

    Returns:
        Its number; None if time is up, or there is nothing left to choose.

    Raises:
        InputError: If it cannot be trained; it is left to whoever has the books.
    """
    by = slot.config.training.best_by
    dataset, study = open_dataset(slot.dataset), open_study(folder, by)
    with _writing(folder / TRIALS_FILE):
        trial = _chosen(slot, study, dataset)
    if trial is None:
        return None
    run = RunDirectory(run_folder(folder, trial.number))
    watching = _Watching(trial, slot.config, folder / TRIALS_FILE, observer)
    config = parse_config(tomllib.loads(trial.user_attrs["toml"]), source="trial")
    try:
        watching.take_up(run.read_metrics() if run.metrics.is_file() else [])
        done = train(config, dataset=dataset, run=run.path, resume=True, observer=watching)
        ended: dict[str, Any] = {"values": float(done.best_state[by])}
    except optuna.TrialPruned:
        ended = {"state": TrialState.PRUNED}
    with _writing(folder / TRIALS_FILE):
        study.tell(trial, **ended)
    return trial.number


def give_up(study: Study, slot: Slot, reason: str) -> int | None:
    """Note that the trial of a place failed; return its number, None if there is none.

    The first trial stays as it is: without the recipe there is nothing to compare with.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.user_attrs.get("slot") == slot.name:
            if trial.number:
                Trial(study, trial._trial_id).set_user_attr("reason", reason)
                study.tell(trial.number, state=TrialState.FAIL)
            return trial.number
    return None


def records_of(study: Study) -> list[TrialRecord]:
    """Return what became of every trial so far, in their order."""
    return [_record(study, trial) for trial in study.get_trials(deepcopy=False)]


def _chosen(slot: Slot, study: Study, dataset: Dataset) -> Trial | None:
    if slot.resumes is not None:
        killed = study.get_trials(deepcopy=False)[slot.resumes]
        trial = Trial(study, killed._trial_id)
        trial.set_user_attr("slot", slot.name)
        if "toml" in killed.user_attrs:
            return trial
        if _settled(trial, slot, study, dataset):
            return trial
    for _ in range(_MOST_SKIPPED):
        if slot.deadline is not None and time.time() > slot.deadline:
            return None
        trial = study.ask()
        trial.set_user_attr("slot", slot.name)
        if _settled(trial, slot, study, dataset):
            return trial
    return None


def _settled(trial: Trial, slot: Slot, study: Study, dataset: Dataset) -> bool:
    """Choose the configuration of a trial; say whether it is worth a training."""
    # By its number: what is chosen then depends on the trials before alone, not on who asks.
    seed = np.random.SeedSequence((slot.config.training.seed, trial.number)).generate_state(1)
    study.sampler = optuna.samplers.TPESampler(seed=int(seed[0]))
    config = slot.space.chosen_by(trial)
    threads = {"threads": slot.config.training.threads}
    config = config.model_copy(update={"training": config.training.model_copy(update=threads)})
    text = config.to_toml()
    reason = _not_worth(trial, text, config, slot, dataset)
    if reason:
        trial.set_user_attr("skipped", reason)
        study.tell(trial, state=TrialState.PRUNED)
    else:
        trial.set_user_attr("toml", text)
    return not reason


def _not_worth(trial: Trial, text: str, config: RunConfig, slot: Slot, dataset: Dataset) -> str:
    """Return why a configuration is not trained, "" if it is."""
    for other in trial.study.get_trials(deepcopy=False):
        if other.number != trial.number and other.user_attrs.get("toml") == text:
            return f"the settings of trial {other.number}"
    costs = (costs_of(of, dataset.schema.sizes) for of in (config, slot.space.base))
    for what, mine, recipes in zip(("parameters", "operations per row"), *costs, strict=True):
        if mine > _MOST_TIMES * recipes:
            return f"{mine:,} {what}, above {_MOST_TIMES} times the recipe's {recipes:,}"
    return ""


@dataclass
class _Watching:
    """Tells Optuna of evaluations, and ends a training whose trial is to be pruned."""

    trial: Trial
    config: RunConfig
    file: Path
    observer: Observer

    @cached_property
    def _known(self) -> set[int]:
        trials = self.trial.study.get_trials(deepcopy=False)
        return set(trials[self.trial.number].intermediate_values)

    def take_up(self, records: list[dict[str, int | float]]) -> None:
        """Hear of the evaluations before a kill."""
        for record in records:
            self._tell(record)
        self._prune()

    def stepped(self, progress: TrainingProgress) -> None:
        self.observer.stepped(progress)

    def warned(self, message: str) -> None:
        self.observer.warned(message)

    def evaluated(self, record: Mapping[str, int | float]) -> None:
        self._tell(record)
        self._prune()

    def _tell(self, record: Mapping[str, int | float]) -> None:
        every = self.config.training.evaluate_every
        place = int(record["epoch"] if every is None else -(-record["step"] // every))
        if place not in self._known:
            self._known.add(place)
            with _writing(self.file):
                self.trial.set_user_attr("seconds", record["seconds"])
                self.trial.report(float(record[self.config.training.best_by]), place)

    def _prune(self) -> None:
        # The first is what all others are compared with.
        if self.trial.number and self.trial.should_prune():
            raise optuna.TrialPruned


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    """Say of what cannot be written as everywhere."""
    try:
        yield
    except OSError as error:
        raise WriteError(file, error.strerror or str(error)) from None


_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def _record(study: Study, trial: FrozenTrial) -> TrialRecord:
    seen = list(trial.intermediate_values.values())
    best = max if study.direction == StudyDirection.MAXIMIZE else min
    told: dict[str, Any] = trial.user_attrs
    return TrialRecord(
        number=trial.number,
        state="skipped" if "skipped" in told else _STATES[trial.state],
        value=best(seen) if seen else None,
        chosen=trial.params,
        seconds=told.get("seconds"),
        evaluations=len(seen),
        reason=told.get("skipped", told.get("reason", "")),
        toml=told.get("toml", ""),
    )
