"""The books of a tuning: which trials are to come, what became of the others, and their files."""

import json
import shutil
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from multiembed.base.errors import ConfigError, DataError
from multiembed.base.files import write_text
from multiembed.data.store.dataset import Dataset
from multiembed.experiments.grid.dataset_views import identity
from multiembed.experiments.grid.pool import Work
from multiembed.experiments.tune.knobs import Space
from multiembed.experiments.tune.trials import (
    Slot,
    TrialRecord,
    give_up,
    mend_journal,
    open_study,
    records_of,
    run_folder,
    run_trial,
)
from multiembed.experiments.tune.tune_options import TuneOptions
from multiembed.experiments.tune.tuned import Tuning, results
from multiembed.experiments.tune.tuning_page import tuning_page
from multiembed.experiments.tune.what_mattered import importances
from multiembed.training.progress import Observer, TrainingProgress

BEST = "best.toml"


@runtime_checkable
class TuneObserver(Protocol):
    """Whoever watches a tuning."""

    def moved(self, tuning: Tuning, running: Mapping[str, TrainingProgress | None]) -> None:
        """Hear of trials that went on."""

    def ended(self, tuning: Tuning, record: TrialRecord) -> None:
        """Hear of a trial that ended, whichever way."""

    def found(self, tuning: Tuning) -> None:
        """Hear, before anything is trained, that earlier calls made some of the trials."""


class Books:
    """The trials of a tuning: which are to come, and what became of the others."""

    def __init__(
        self,
        folder: Path,
        options: TuneOptions,
        space: Space,
        dataset: Dataset,
        trials: int,
        observer: TuneObserver | None,
    ) -> None:
        self.folder, self.observer = folder, observer
        self.waiting: deque[Slot] = deque()
        self._dataset, self._running = dataset, dict[str, TrainingProgress | None]()
        mend_journal(folder)
        self._study = open_study(folder, options.by, new=True)
        self._check_asked(options, space)
        if not self._study.get_trials(deepcopy=False):
            self._study.enqueue_trial(space.first())
        self.tuning = Tuning(folder, options, space, trials, records_of(self._study), {})

    def _check_asked(self, options: TuneOptions, space: Space) -> None:
        """Refuse to go on with trials of other rows or another aim: they compare with nothing."""
        asked = options.model_dump(mode="json") | {
            "dataset": identity(self._dataset),
            "recipe": space.base.to_toml(),
            "knobs": [repr(knob) for knob in space.knobs],
        }
        before = self._study.user_attrs.get("asked")
        if before is None:
            self._study.set_user_attr("asked", asked)
        for key, value in (before or {}).items():
            if asked.get(key) != value:
                raise ConfigError(
                    f"{self.folder} must be gone on with as it was begun, got another {key}"
                )

    def fill(self, threads: int, deadline: float | None) -> None:
        """Make a place for every trial that is to come, those first that were killed."""
        base = self.tuning.space.base
        training = base.training.model_copy(update={"threads": threads})
        slot = Slot(
            name="",
            dataset=self._dataset.path.resolve(),
            space=self.tuning.space,
            config=base.model_copy(update={"training": training}),
            deadline=deadline,
        )
        begun = [record.number for record in self.tuning.records if record.state == "running"]
        left = max(0, self.tuning.asked - len(self.tuning.counted) - len(begun))
        places = [*begun, *[None] * left]
        self.waiting.extend(
            replace(slot, name=f"trial-{place}", resumes=number)
            for place, number in enumerate(places)
        )
        self._keep_best()
        if self.tuning.counted and self.observer is not None:
            self.observer.found(self.tuning)

    @property
    def work(self) -> Work[Slot]:
        """What brings one to its end."""
        return run_trial

    def run(self, slot: Slot, observer: Observer) -> int | None:
        """Bring one to its end in this process."""
        return self.work(slot, self.folder, observer)

    def begin(self, slot: Slot) -> None:
        """Note that one begins."""
        self._moved(slot, None)

    def move(self, slot: Slot, progress: TrainingProgress) -> None:
        """Note how far one is."""
        self._moved(slot, progress)

    def _moved(self, slot: Slot, progress: TrainingProgress | None) -> None:
        self._running[slot.name] = progress
        if self.observer is not None:
            self.observer.moved(self.tuning, self._running)

    def end(self, slot: Slot, result: int | str | None) -> None:
        """Note what became of one, and write what is known by now."""
        self._running.pop(slot.name, None)
        number = give_up(self._study, slot, result) if isinstance(result, str) else result
        if isinstance(result, str) and not number:
            what = "trials must begin" if number is None else "the recipe itself must be trainable"
            raise DataError(f"{what}, got: {result}")
        self.tuning = replace(self.tuning, records=records_of(self._study))
        if number is None:  # time is up, or all there is was tried
            self.waiting.clear()
            return
        self._keep_best()
        self._write()
        if self.observer is not None:
            self.observer.ended(self.tuning, self.tuning.records[number])

    def _keep_best(self) -> None:
        """Remove the runs of trials that have ended but for the best one."""
        for record in self.tuning.records:
            if record.state != "running" and record != self.tuning.best:
                shutil.rmtree(run_folder(self.folder, record.number), ignore_errors=True)

    def _write(self) -> None:
        """Write the numbers, and the configuration that makes the best again."""
        tuning = self.tuning
        write_text(self.folder / "results.json", json.dumps(results(tuning), indent=1) + "\n")
        if tuning.best is not None:
            said = (
                f"# Trial {tuning.best.number} of a tuning: {tuning.by} {tuning.best.value} on the "
                "validation split.\n# multiembed train DATASET RUN --config best.toml makes it "
                "again.\n"
            )
            write_text(self.folder / BEST, said + tuning.best.toml)

    def closed(self) -> Tuning:
        """Write the report, and return what was found.

        Raises:
            DataError: If no trial came to its end.
        """
        if self.tuning.best is None:
            raise DataError(f"{self.folder} must come to a finished trial, got none in time")
        self.tuning = replace(self.tuning, importance=importances(self._study))
        self._write()
        write_text(self.folder / "report.html", tuning_page(self.tuning))
        return self.tuning
