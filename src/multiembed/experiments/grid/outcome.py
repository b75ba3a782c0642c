"""What a finished run came to: quality, cost and collapse in one record, kept beside the run."""

import math
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from multiembed.base.errors import DataError
from multiembed.data.store.dataset import Dataset
from multiembed.diagnosis.field import diagnose_field
from multiembed.diagnosis.readers.checkpoint import read_checkpoint
from multiembed.runs.directory import RunDirectory, write_whole
from multiembed.runs.run import Run

FILE_NAME = "outcome.json"


class Outcome(BaseModel):
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
    information_abundance: float
    """As the paper defines it, all sets side by side."""
    centered_information_abundance: float
    normalized_information_abundance: float
    first_information_abundance: float
    """At the first evaluation."""
    epochs: int
    best_epoch: int
    seconds: float
    """Of training and validation."""
    peak_memory_bytes: int


def outcome_of(path: Path, dataset: Dataset) -> Outcome:
    """Measure a finished run on the test split, or read what was measured before.

    Raises:
        DataError: If the run is not finished.
    """
    kept = path / FILE_NAME
    try:
        return Outcome.model_validate_json(kept.read_bytes())
    except (OSError, ValidationError):
        outcome = _measure(path, dataset)
    text = outcome.model_dump_json(indent=2) + "\n"
    write_whole(kept, lambda to: to.write_text(text, encoding="utf-8"))
    return outcome


def is_finished(path: Path) -> bool:
    """Whether a run's training came to its end."""
    return RunDirectory(path).summary.is_file()


def _measure(path: Path, dataset: Dataset) -> Outcome:
    if not is_finished(path):
        raise DataError(f"{path} must be a finished run, got one without an end")
    run = Run(path)
    budget = run.model.summary()
    measured = run.evaluate("test", dataset=dataset)
    records = run.records
    views = [diagnose_field(table)[0] for table in read_checkpoint(path).tables]
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
        information_abundance=_mean([v.information_abundance for v in views]),
        centered_information_abundance=_mean([v.centered_information_abundance for v in views]),
        normalized_information_abundance=_mean([v.normalized_information_abundance for v in views]),
        first_information_abundance=records[0]["mean_information_abundance"],
        epochs=int(records[-1]["epoch"]),
        best_epoch=int(run.best_state["epoch"]),
        seconds=records[-1]["seconds"],
        peak_memory_bytes=int(max(record["peak_memory_bytes"] for record in records)),
    )


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)
