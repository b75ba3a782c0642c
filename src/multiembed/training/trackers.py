"""Experiment trackers: TensorBoard, MLflow and Weights & Biases behind one protocol.

A tracker's library is an extra, imported when the tracker is made. What it needs on disk lies in
the run's `trackers/`; where it sends things is said by its own environment variables, such as
`MLFLOW_TRACKING_URI` and `WANDB_MODE`.
"""

import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from uuid import uuid4

from typing_extensions import override

from multiembed.base.errors import ConfigError
from multiembed.base.files import write_text
from multiembed.config import TRACKERS
from multiembed.training.progress import Observer

PROJECT = "multiembed"
"""What a tracker calls the project where its environment does not say."""

MLFLOW_BATCH = 1000
"""Most metrics that MLflow takes at once."""

MLFLOW_PARAMETERS = 100
"""Most parameters that MLflow takes at once."""


@runtime_checkable
class Tracker(Protocol):
    """Whoever keeps the numbers of a training."""

    def start(self, configuration: Mapping[str, object], *, step: int) -> None:
        """Begin a training, or go on with one after `step` steps."""

    def log(self, metrics: Mapping[str, int | float], *, step: int) -> None:
        """Keep numbers of one step."""

    def finish(self) -> None:
        """Make sure that everything is kept."""


class TensorBoard(Tracker):
    """Writes event files to `trackers/tensorboard` of the run."""

    def __init__(self, run: Path) -> None:
        self._writer_type = _library("torch.utils.tensorboard", "tensorboard").SummaryWriter
        self._folder = run / "trackers" / "tensorboard"

    @override
    def start(self, configuration: Mapping[str, object], *, step: int) -> None:
        # What a killed training logged after its last checkpoint will be logged again.
        purge = step + 1 if step else None
        self._writer = self._writer_type(str(self._folder), purge_step=purge)
        self._writer.add_text("configuration", f"```\n{json.dumps(configuration, indent=2)}\n```")

    @override
    def log(self, metrics: Mapping[str, int | float], *, step: int) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    @override
    def finish(self) -> None:
        self._writer.close()


class MLflow(Tracker):
    """Logs to the server, or the store, that MLflow's environment variables name."""

    def __init__(self, run: Path) -> None:
        self._mlflow = _library("mlflow", "mlflow")
        self._name = run.name
        self._id_file = run / "trackers" / "mlflow_run"

    @override
    def start(self, configuration: Mapping[str, object], *, step: int) -> None:
        self._client = self._mlflow.MlflowClient()
        self._run = _kept(self._id_file, self._create)
        settings = [
            self._mlflow.entities.Param(key, json.dumps(value))
            for key, value in _flat(configuration).items()
        ]
        for part in _parts(settings, MLFLOW_PARAMETERS):
            self._client.log_batch(self._run, params=part)

    @override
    def log(self, metrics: Mapping[str, int | float], *, step: int) -> None:
        now = int(time.time() * 1000)
        logged = [
            self._mlflow.entities.Metric(re.sub(r"[^A-Za-z0-9_\-. /]", "_", name), value, now, step)
            for name, value in metrics.items()
        ]
        for part in _parts(logged, MLFLOW_BATCH):
            self._client.log_batch(self._run, metrics=part)

    @override
    def finish(self) -> None:
        self._client.set_terminated(self._run)

    def _create(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self._client.get_experiment_by_name(name)
        known = (
            self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        )
        return self._client.create_run(known, run_name=self._name).info.run_id


class WandB(Tracker):
    """Logs to Weights & Biases, or with `WANDB_MODE=offline` to `trackers/wandb` of the run."""

    def __init__(self, run: Path) -> None:
        self._wandb = _library("wandb", "wandb")
        self._name = run.name
        self._folder = run / "trackers"

    @override
    def start(self, configuration: Mapping[str, object], *, step: int) -> None:
        self._folder.mkdir(exist_ok=True)
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=self._name,
            id=_kept(self._folder / "wandb_run", lambda: uuid4().hex[:12]),
            resume="allow",
            dir=str(self._folder),
            config=dict(configuration),
        )

    @override
    def log(self, metrics: Mapping[str, int | float], *, step: int) -> None:
        self._run.log(dict(metrics), step=step)

    @override
    def finish(self) -> None:
        self._run.finish()


class Tracking:
    """All trackers of one training, none of which can end it.

    Args:
        names: Which ones.
        run: The run directory.
        observer: Warned of a tracker that failed and hears no more.

    Raises:
        ConfigError: If the library of one is not installed.
    """

    def __init__(self, names: Sequence[str], run: Path, observer: Observer | None = None) -> None:
        self._trackers: dict[str, Tracker] = {name: TRACKERS[name](run) for name in names}
        self._observer = observer

    def start(self, configuration: Mapping[str, object], *, step: int) -> None:
        """Begin, or go on after `step` steps.

        Raises:
            ConfigError: If one cannot, before anything is trained.
        """
        for name, tracker in self._trackers.items():
            try:
                tracker.start(configuration, step=step)
            except Exception as error:
                raise ConfigError(
                    f"tracker {name} must be able to start, got {_short(error)}"
                ) from error

    def log(self, metrics: Mapping[str, int | float], *, step: int) -> None:
        """Pass numbers of one step on."""
        self._each(lambda tracker: tracker.log(metrics, step=step))

    def finish(self) -> None:
        """Let all finish."""
        self._each(lambda tracker: tracker.finish())

    def _each(self, act: Callable[[Tracker], object]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                act(tracker)
            except Exception as error:  # a dashboard that is down must not cost a training
                del self._trackers[name]
                if self._observer is not None:
                    self._observer.warned(f"tracker {name} failed and was left: {_short(error)}")


def _library(module: str, tracker: str) -> Any:  # noqa: ANN401
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"tracker {tracker} must be installed, got {_short(error)}; "
            "try pip install 'multiembed[track]'"
        ) from None


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _kept(file: Path, create: Callable[[], str]) -> str:
    """Return what `file` holds; create it if there is none, so that a resumed run finds it."""
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        write_text(file, create())
    return file.read_text(encoding="utf-8")


def _flat(table: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return a nested table under dotted keys."""
    flat: dict[str, object] = {}
    for key, value in table.items():
        inner = isinstance(value, Mapping)
        flat |= _flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return flat


def _parts(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[at : at + size] for at in range(0, len(items), size)]
