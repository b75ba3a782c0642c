"""A run directory: what it holds, who may write to it, and files that are whole or absent.

`config.toml`, `schema.json`, `vocabulary/` and `row_counts.npy` say what is trained on what;
`best.safetensors` is the model to use, `last.safetensors` everything needed to go on,
`reliability.json` what its probabilities are worth on the validation split,
`metrics.jsonl` one line per evaluation, `collapse.jsonl` one per measurement of the tables,
`trackers/` what experiment trackers keep there, `summary.json` the end, `README.md` the model card;
`calibration.json` is there once the run was calibrated.
"""

import io
import itertools
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from multiembed.base.errors import ConfigError, DataError, WriteError
from multiembed.base.files import (
    first_foreign,
    folder_identity,
    local_path,
    make_folder,
    read_small,
    whole,
    write_text,
    write_whole,
)
from multiembed.base.json_files import parsed
from multiembed.base.workplaces import locked, replace_folder, workplace, workplace_of
from multiembed.data.store.ownership import schema_files
from multiembed.data.store.schema import Field, Schema
from multiembed.data.store.vocabularies import VOCABULARIES, read_vocabulary
from multiembed.runs.metrics import ReliabilityBin, expected_calibration_error

LOCK_FILE = ".lock"
_OWN = re.compile(
    r"config\.toml|(schema|reliability|summary|calibration|outcome)\.json|row_counts\.npy|"
    r"(best|last)\.safetensors|(metrics|collapse)\.jsonl|README\.md|\.lock|"
    r"trackers/((mlflow|wandb)_run|wandb/.*|tensorboard/events\.out\.tfevents\.[^/]*)"
)
"""What a run writes, beside the vocabularies of its fields."""
VOCABULARY_COLUMNS = {"value": pl.String, "count": pl.Int64, "id": pl.Int32}
"""Those that grew also have `seen`."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, object]) -> None:
    """Write tensors and a JSON-able state as one safetensors file, whole or not at all.

    Args:
        path: The file; its directory must be there.
        tensors: On any device.
        state: Kept in the file's metadata, so that it is never that of other tensors.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"state": json.dumps(state)}
    write_whole(path, lambda to: save_file(contiguous, to, metadata=metadata))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Raises:
        DataError: If the file is missing or no such file.
    """
    try:
        path.open("rb").close()  # of a file that may not be read the library says it is not there
        with safe_open(path, framework="pt") as file:
            state = parsed((file.metadata() or {})["state"])
            if not isinstance(state, dict):
                raise ValueError(f"a state of {type(state).__name__}")
            return {name: file.get_tensor(name) for name in file.keys()}, state  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} must be a checkpoint of a run, got: {reason}") from None


class RunDirectory:
    """The files of one run, named here for all who write or read them.

    Args:
        path: The directory, which need not be there yet.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.config = self.path / "config.toml"
        self.schema = self.path / "schema.json"
        self.vocabulary = self.path / "vocabulary"
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
        self._seen = folder_identity(self.path)

    def writing_to(self, *, resume: bool, overwrite: bool) -> "RunDirectory":
        """Return where a training writes: here, or beside a run that stays until it is replaced.

        Args:
            resume: Go on with what was begun last.
            overwrite: Begin anew.

        Raises:
            ConfigError: If it holds a run and neither `resume` nor `overwrite` was said, or if it
                is something else than a run directory; overwritten, it must hold nothing else.
        """
        local_path(self.path)
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"{self.path} must be a directory, got a file")
        if not self.path.is_dir() or not any(self.path.iterdir()):
            return self
        foreign, begun = self.foreign(), self.config.exists() and self.schema.exists()
        if foreign and (overwrite or not begun):
            rule = "a run directory and nothing else" if overwrite else "empty or a run directory"
            raise ConfigError(f"{self.path} must be {rule}, got {foreign} in it")
        successor = RunDirectory(workplace_of(self.path) / self.path.name)
        if overwrite:
            return successor if self.config.exists() else self
        if resume and successor.config.exists() and not (successor.path / LOCK_FILE).exists():
            return successor  # with a lock it would be the run that was replaced
        if self.config.exists() and not resume:
            state = "a finished run" if self.summary.exists() else "an unfinished run"
            raise ConfigError(f"{self.path} holds {state}; say --resume or --overwrite")
        return self

    @contextmanager
    def claimed(self, target: "RunDirectory", *, anew: bool) -> Iterator[None]:
        """Take what `writing_to` returned for writing, and give it the name `target` at the end.

        Args:
            target: Where the run is to be; another training of it is refused meanwhile.
            anew: Whether what an earlier training left here goes.

        Raises:
            ConfigError: If it is in use, or `target` has come to hold other files.
        """
        make_folder(target.path)
        with locked(target.path / LOCK_FILE, subject=target.path):
            if self.path == target.path:
                yield
                return
            with workplace(target.path, busy="is in use by another process"):
                if anew:
                    shutil.rmtree(self.path, ignore_errors=True)
                make_folder(self.path)
                yield
                foreign = target.foreign()
                if foreign:
                    raise ConfigError(
                        f"{target.path} must hold nothing but the run that is overwritten, got "
                        f"{foreign} in it; the new run waits: move it away and say --resume"
                    )
                replace_folder(self.path, target.path)

    def foreign(self) -> str:
        """Return the first entry of the directory that no run writes, or ""."""
        known = schema_files(self.path)
        return first_foreign(self.path, lambda path: path in known or _OWN.fullmatch(path))

    def check_same(self) -> None:
        """Refuse to go on reading when another run has taken this one's place.

        Raises:
            DataError: If it has.
        """
        if self._seen not in (None, folder_identity(self.path)):
            raise DataError(f"{self.path} must stay while it is read, got another run in its place")

    def write_inputs(
        self, config_toml: str, dataset: Path, row_counts: Int[np.ndarray, " rows"]
    ) -> None:
        """Write what the run is about; `config.toml` last, since it makes this a run."""
        # First, since it says which vocabularies are the run's.
        write_whole(self.schema, lambda to: shutil.copyfile(dataset / "schema.json", to))
        shutil.rmtree(self.vocabulary, ignore_errors=True)
        with whole(self.vocabulary) as partial:
            shutil.copytree(dataset / VOCABULARIES, partial)
        array = io.BytesIO()
        np.save(array, row_counts)
        write_whole(self.row_counts, lambda to: to.write_bytes(array.getbuffer()))
        write_text(self.config, config_toml)

    def read_row_counts(self, cardinalities: Sequence[int]) -> list[Int[np.ndarray, " rows"]]:
        """Return how often training saw each id of every field.

        The file's header is compared with what it must be, never interpreted.

        Args:
            cardinalities: Number of ids of every field, as the run's schema says.

        Raises:
            DataError: If the file is not there, or holds anything else.
        """
        file, rows = self.row_counts, sum(cardinalities)
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "<i8", "fortran_order": False, "shape": (rows,)}
        )
        expected = header.getvalue()
        try:
            with file.open("rb") as counts:
                content = counts.read(len(expected) + 8 * rows + 1)
        except OSError as error:
            raise DataError(f"{file} must be readable, got: {error.strerror}") from None
        if not content.startswith(expected) or len(content) != len(expected) + 8 * rows:
            raise DataError(
                f"{file} must hold {rows} whole numbers as NumPy saves them, got others"
            )
        self.check_same()
        counts = np.frombuffer(content, "<i8", offset=len(expected))
        return np.split(counts, np.cumsum(cardinalities)[:-1])

    def read_vocabularies(self, schema: Schema) -> dict[str, pl.DataFrame]:
        """Return the kept values of every field (null: missing), their counts and their ids.

        Raises:
            DataError: If a vocabulary is not whole or is another field's.
        """
        found = {field.name: _checked_vocabulary(self.path, field) for field in schema.tables}
        self.check_same()
        return found

    def write_best(
        self,
        tensors: Mapping[str, Tensor],
        record: Mapping[str, object],
        curve: Sequence[ReliabilityBin],
    ) -> None:
        """Write the best model so far and its reliability curve; never that of another model."""
        # First, so that a kill between the two leaves a model without a curve, not with another's.
        self.reliability.unlink(missing_ok=True)
        save_tensors(self.best, tensors, record)
        content = {
            "split": "valid",
            "expected_calibration_error": expected_calibration_error(curve),
            "bins": [of.model_dump() for of in curve],
        }
        write_text(self.reliability, json.dumps(content, indent=1) + "\n")

    def write_metrics(self, records: Iterable[Mapping[str, object]]) -> None:
        """Write all evaluations so far, one JSON object a line."""
        write_text(self.metrics, "".join(json.dumps(record) + "\n" for record in records))

    def read_metrics(self) -> list[dict[str, int | float]]:
        """Return what `write_metrics` wrote.

        Raises:
            DataError: If the file holds anything else.
        """
        try:
            records = list(map(parsed, read_small(self.metrics).splitlines()))
            self.check_same()
        except (OSError, ValueError) as error:
            raise DataError(f"{self.metrics} must hold JSON lines, got: {error}") from None
        if not all(isinstance(record, dict) for record in records):
            raise DataError(f"{self.metrics} must hold a JSON object a line, got others")
        return records

    def append_observation(self, record: Mapping[str, object]) -> None:
        """Add one measurement of the tables; what a kill leaves of a line, the next start cuts."""
        try:
            with self.collapse.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise WriteError(self.collapse, error.strerror or str(error)) from None

    def keep_observations(self, count: int) -> None:
        """Cut the measurements back to the first so many, those that a checkpoint knows of."""
        if self.collapse.exists():
            with self.collapse.open(encoding="utf-8") as file:
                kept = "".join(itertools.islice(file, count))
            write_text(self.collapse, kept)

    def write_summary(self, summary: Mapping[str, object]) -> None:
        """Write the end of the run; its presence means that training finished."""
        write_text(self.summary, json.dumps(summary, indent=2) + "\n")


def module_tensors(module: torch.nn.Module, prefix: str) -> dict[str, Tensor]:
    """Return parameters and buffers of `module` under `prefix.`."""
    return {f"{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `prefix.`, without it."""
    start = prefix + "."
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}


def _checked_vocabulary(folder: Path, field: Field) -> pl.DataFrame:
    try:
        vocabulary = read_vocabulary(folder, field.name)
        problem = _problem(vocabulary, field)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        vocabulary, problem = pl.DataFrame(), (str(error).splitlines() or ["nothing"])[0]
    if problem:
        raise DataError(
            f"{folder}: vocabulary of {field.name!r} must number each of {field.cardinality - 1} "
            f"values once, got {problem}"
        )
    return vocabulary


def _problem(vocabulary: pl.DataFrame, field: Field) -> str:
    if dict(vocabulary.schema) not in (VOCABULARY_COLUMNS, VOCABULARY_COLUMNS | {"seen": pl.Int32}):
        return f"columns {', '.join(vocabulary.columns)}"
    if vocabulary.height != field.cardinality - 1:
        return f"{vocabulary.height} values"
    numbers = pl.Series("id", np.arange(1, field.cardinality, dtype=np.int32))
    if not vocabulary["id"].equals(numbers):
        return "other ids"
    values = vocabulary["value"]
    if field.kind == "numeric" and field.bucketed:
        buckets = values.cast(pl.Int64, strict=False)
        if buckets.null_count() != values.null_count():
            return "text where numbers of buckets should be"
        values = buckets
    return "a value twice" if values.n_unique() != len(values) else ""
