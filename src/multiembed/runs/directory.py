"""A run directory: what it holds, who may write to it, and files that are whole or absent.

`config.toml`, `schema.json`, `vocabulary/` and `row_counts.npy` say what is trained on what;
`best.safetensors` is the model to use, `last.safetensors` everything needed to go on,
`reliability.json` what its probabilities are worth on the validation split,
`metrics.jsonl` one line per evaluation, `collapse.jsonl` one per measurement of the tables,
`trackers/` what experiment trackers keep there, `summary.json` the end, `README.md` the model card;
`calibration.json` is there once the run was calibrated.
"""

import fcntl
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from jaxtyping import Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from multiembed.base.errors import ConfigError, DataError
from multiembed.runs.metrics import ReliabilityBin, expected_calibration_error


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file of another name, then give it `path`'s name."""
    unfinished = path.with_name(path.name + ".tmp")
    write(unfinished)
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.replace(path)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, object]) -> None:
    """Write tensors and a JSON-able state as one safetensors file, whole or not at all."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"state": json.dumps(state)}
    write_whole(path, lambda to: save_file(contiguous, to, metadata=metadata))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Raises:
        DataError: If the file is missing or no such file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})["state"])
            return {name: file.get_tensor(name) for name in file.keys()}, state  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise DataError(f"{path} must be a checkpoint of a run, got: {error}") from None


class RunDirectory:
    """The files of one run."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.config = self.path / "config.toml"
        self.schema = self.path / "schema.json"
        self.row_counts = self.path / "row_counts.npy"
        self.best = self.path / "best.safetensors"
        self.reliability = self.path / "reliability.json"
        self.last = self.path / "last.safetensors"
        self.metrics = self.path / "metrics.jsonl"
        self.collapse = self.path / "collapse.jsonl"
        self.trackers = self.path / "trackers"
        self.summary = self.path / "summary.json"
        self.calibration = self.path / "calibration.json"
        self.card = self.path / "README.md"
        self._lock: IO[str] | None = None

    def claim(self, *, resume: bool, overwrite: bool) -> None:
        """Take the directory for writing; the claim ends with the process or with `release`.

        Raises:
            ConfigError: If it holds a run and neither `resume` nor `overwrite` was said, if it is
                in use, or if it is something else than a run directory.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"{self.path} must be a directory, got a file")
        if self.path.exists() and not self._is_ours():
            raise ConfigError(f"{self.path} must be empty or a run directory, got other files")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / ".lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise ConfigError(f"{self.path} is in use by another process") from None
        except OSError as error:
            raise ConfigError(f"{self.path} must be writable, got: {error.strerror}") from None
        if self.config.exists() and not (resume or overwrite):
            state = "a finished run" if self.summary.exists() else "an unfinished run"
            self.release()
            raise ConfigError(f"{self.path} holds {state}; say --resume or --overwrite")
        if overwrite:
            self._clear()

    def release(self) -> None:
        """Let others write."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def write_inputs(
        self, config_toml: str, dataset: Path, row_counts: Int[np.ndarray, " rows"]
    ) -> None:
        """Write what the run is about; `config.toml` last, since it makes this a run."""
        copied = self.path / "vocabulary"
        with suppress(FileNotFoundError):
            shutil.rmtree(copied)
        shutil.copytree(dataset / "vocabulary", copied)
        write_whole(self.schema, lambda to: shutil.copyfile(dataset / "schema.json", to))
        write_whole(self.row_counts, lambda to: _save_array(to, row_counts))
        write_whole(self.config, lambda to: to.write_text(config_toml, encoding="utf-8"))

    def write_best(
        self,
        tensors: Mapping[str, Tensor],
        record: Mapping[str, object],
        curve: Sequence[ReliabilityBin],
    ) -> None:
        """Write the best model so far and its reliability curve; never that of another model."""
        self.reliability.unlink(missing_ok=True)
        save_tensors(self.best, tensors, record)
        content = {
            "split": "valid",
            "expected_calibration_error": expected_calibration_error(curve),
            "bins": [of._asdict() for of in curve],
        }
        text = json.dumps(content, indent=1) + "\n"
        write_whole(self.reliability, lambda to: to.write_text(text, encoding="utf-8"))

    def write_metrics(self, records: Iterable[Mapping[str, object]]) -> None:
        """Write all evaluations so far, one JSON object a line."""
        text = "".join(json.dumps(record) + "\n" for record in records)
        write_whole(self.metrics, lambda to: to.write_text(text, encoding="utf-8"))

    def append_observation(self, record: Mapping[str, object]) -> None:
        """Add one measurement of the tables; what a kill leaves of a line, the next start cuts."""
        with self.collapse.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def keep_observations(self, count: int) -> None:
        """Cut the measurements back to the first so many, those that a checkpoint knows of."""
        if self.collapse.exists():
            with self.collapse.open(encoding="utf-8") as file:
                kept = "".join(itertools.islice(file, count))
            write_whole(self.collapse, lambda to: to.write_text(kept, encoding="utf-8"))

    def write_summary(self, summary: Mapping[str, object]) -> None:
        """Write the end of the run; its presence means that training finished."""
        text = json.dumps(summary, indent=2) + "\n"
        write_whole(self.summary, lambda to: to.write_text(text, encoding="utf-8"))

    def _is_ours(self) -> bool:
        """Whether this is a run, the beginning of one, or nothing yet."""
        lock = self.path / ".lock"
        return self.config.exists() or lock.exists() or not any(self.path.iterdir())

    def _clear(self) -> None:
        # The configuration goes first: a directory without one is no run.
        files = (self.config, self.summary, self.last, self.best, self.metrics, self.collapse)
        for file in (*files, self.reliability, self.calibration, self.card):
            file.unlink(missing_ok=True)
        shutil.rmtree(self.trackers, ignore_errors=True)


def _save_array(path: Path, array: Int[np.ndarray, " rows"]) -> None:
    with path.open("wb") as file:
        np.save(file, array)


def module_tensors(module: torch.nn.Module, prefix: str) -> dict[str, Tensor]:
    """Return parameters and buffers of `module` under `prefix.`."""
    return {f"{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `prefix.`, without it."""
    start = prefix + "."
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
