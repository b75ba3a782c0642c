"""A trained run as a bundle, checked against the run before it gets its name."""

import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import nn

from multiembed.base.errors import ConfigError, DataError
from multiembed.data.encoding.staging import downloading
from multiembed.runs.run import Run
from multiembed.runs.scoring import EVALUATION_BATCH
from multiembed.serving.bundle import Format, Parity, describe, score, seal, write_fields
from multiembed.serving.compiled_encoder import check_fields, rows_of
from multiembed.serving.folders import new_folder
from multiembed.serving.probability import ProbabilityModel
from multiembed.serving.raw import open_rows, whole_batches

PARITY_ROWS = 1000
TOLERANCE = 1e-5
MODEL_FILES: dict[Format, str] = {"onnx": "model.onnx", "torch": "model.pt2"}
NEEDED: dict[Format, tuple[str, ...]] = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "torch": ()}


def export(
    run: Run, out: Path | str, *, format: Format = "onnx", rows: Path | str | None = None
) -> Parity:
    """Write a bundle that scores raw values without this library.

    The bundle scores some rows by its own loader, and is kept only if it agrees with the run.

    Args:
        run: A trained run.
        out: Directory to write; it must be new.
        format: `onnx` for onnxruntime, `torch` for torch alone.
        rows: Raw rows to check it on; by default rows of the dataset's test split.

    Raises:
        ConfigError: If the packages that the format needs are not installed.
        DataError: If the rows to check it on are not there, or the bundle does not agree.
    """
    for package in NEEDED[format]:
        if importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"format {format} needs the package {package}: pip install 'multiembed[export]'"
            )
    check_fields(run.schema.fields)
    with downloading(Path(out)) as folder:
        checked, source = _some_rows(run, rows, folder)
    with new_folder(Path(out)) as folder:
        fields = write_fields(run, folder)
        rate, calibration = run.config.training.negative_rate, run.calibration
        model = ProbabilityModel(run.model, negative_rate=rate, calibration=calibration)
        write_model(model.eval(), folder / MODEL_FILES[format], fields=len(fields))
        manifest = describe(run, fields, format=format, model=MODEL_FILES[format])
        seal(folder, manifest)
        ours = run.predict_proba(checked)
        largest = float(np.abs(score(folder, checked).to_numpy() - ours).max())
        if not largest <= TOLERANCE:
            raise DataError(
                f"the bundle must agree with the run within {TOLERANCE:g}, got {largest:g}"
            )
        parity = Parity(rows=len(ours), of=source, largest_difference=largest, tolerance=TOLERANCE)
        seal(folder, manifest.model_copy(update={"parity": parity}))
    return parity


def write_model(model: nn.Module, file: Path, *, fields: int) -> None:
    """Write a model that takes any number of rows of int64 ids, in the format of the suffix."""
    example = torch.zeros(8, fields, dtype=torch.int64)
    with _quiet():
        program = torch.export.export(
            model, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},)
        )
        if file.suffix == ".pt2":
            torch.export.save(program, file)
            return
        converted = torch.onnx.export(
            program,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=["ids"],
            output_names=["probability"],
        )
        assert converted is not None, "the exporter returns a program"
        converted.save(str(file))


def _some_rows(run: Run, rows: Path | str | None, downloads: Path) -> tuple[pl.DataFrame, str]:
    """Return raw rows to check a bundle on, and where they come from."""
    if rows is not None:
        opened = open_rows(rows, run.schema, downloads)
        found = next(whole_batches(opened.source, EVALUATION_BATCH), None)
        if found is None:
            raise DataError(f"{rows} must hold rows, got none")
        return found[0].select(run.schema.field_names).head(PARITY_ROWS), str(rows)
    split = run.dataset().split("test")
    ids = split.take(np.linspace(0, split.rows - 1, min(split.rows, PARITY_ROWS)).astype(int)).ids
    rebuilt = rows_of(run.encoder, ids)
    if not np.array_equal(run.encoder.encode(rebuilt), ids):
        raise DataError(
            f"{run.path} must have the vocabularies of its dataset, got others; name raw rows to "
            "check the bundle on"
        )
    return rebuilt, f"test split of {run.config.dataset}, raw values rebuilt from its ids"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to ourselves what exporters say about their own insides."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
