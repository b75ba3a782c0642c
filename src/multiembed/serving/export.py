"""A run for other programs: a bundle checked against the run, and its embedding tables."""

import importlib.util
import io
import logging
import math
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from multiembed.base.errors import ConfigError, DataError, without_secrets
from multiembed.base.files import new_folder, place_beside
from multiembed.base.validation import known_name
from multiembed.data.sources.formats import is_embedded, open_to_score
from multiembed.models.click_model import ClickModel, folded
from multiembed.runs.calibration import SMALLEST, Calibration
from multiembed.runs.run import Run, load_run
from multiembed.serving.bundle import (
    Parity,
    describe,
    score,
    seal,
    write_fields,
)
from multiembed.serving.raw_rows import rebuilt, rows_of

if TYPE_CHECKING:
    from torch.export import ExportedProgram  # takes a while to load

PARITY_ROWS = 1000
TOLERANCE = 1e-5


@dataclass(frozen=True)
class ExportFormat:
    """A kind of file for what maps ids to probabilities; `loader.py` must know how to run it."""

    file: str
    """Its name in a bundle."""
    write: "Callable[[ExportedProgram, Path], None]"
    """Writes a program whose arguments are a matrix of int64 ids of any number of rows and, for a
    model that embeds numbers, one of these in float32."""
    needs: tuple[str, ...] = ()
    """Packages beside torch that writing it takes."""
    runs_on: tuple[str, ...] = ()
    """Those of them whose versions a bundle's manifest names."""


def _write_onnx(program: "ExportedProgram", file: Path) -> None:
    arguments = (program.example_inputs or ((),))[0]
    converted = torch.onnx.export(
        program,
        arguments,
        dynamo=True,
        verbose=False,
        input_names=["ids", "numbers"][: len(arguments)],
        output_names=["probability"],
    )
    assert converted is not None, "the exporter returns a program"
    converted.save(str(file))


def _write_torch(program: "ExportedProgram", file: Path) -> None:
    content = io.BytesIO()  # where a disk is full, torch's own writer ends the process
    torch.export.save(program, content)
    file.write_bytes(content.getbuffer())


EXPORT_FORMATS = {
    "onnx": ExportFormat(
        "model.onnx",
        _write_onnx,
        needs=("onnx", "onnxscript", "onnxruntime"),
        runs_on=("onnx", "onnxruntime"),
    ),
    "torch": ExportFormat("model.pt2", _write_torch),
}


def export(
    run: Run | Path | str,
    out: Path | str,
    *,
    format: str = "onnx",
    rows: Path | str | None = None,
) -> Parity:
    """Write a bundle that scores raw values without this library.

    The bundle scores some rows by its own loader, and is kept only if it agrees with the run.

        >>> import multiembed as me
        >>> import polars as pl
        >>> pl.DataFrame({"click": [0, 1] * 20, "site": list("aabbc") * 8}).write_csv("ads.csv")
        >>> _ = me.prepare("ads.csv", "ads_encoded", me.PrepareOptions(label="click"))
        >>> config = me.RunConfig(
        ...     model=me.ModelConfig(architecture="dnn", dim=2, options={"hidden": [4]}),
        ...     training=me.TrainingConfig(max_epochs=1),
        ... )
        >>> run = me.train(config, dataset=me.open_dataset("ads_encoded"), run="ads_run")
        >>> me.export(run, "ads_bundle", format="torch").rows
        40

    Args:
        run: A trained run, or its directory.
        out: Directory to write; it must be new.
        format: One of `EXPORT_FORMATS`: `onnx` for onnxruntime, `torch` for torch alone.
        rows: Raw rows to check it on; by default those that the dataset was prepared from, or,
            where they are no longer there, rows that stand for the ids of its test split.

    Raises:
        ConfigError: If there is no such format, or packages that it needs are not installed.
        DataError: If the rows to check it on are not there, or the bundle does not agree.
    """
    chosen, run = _usable(format), load_run(run)
    with place_beside(Path(out)) as folder:
        checked, source = _some_rows(run, rows, folder)
    with new_folder(Path(out)) as folder:
        fields = write_fields(run, folder)
        rate, calibration = run.config.training.negative_rate, run.calibration
        model = ProbabilityModel(folded(run.model), negative_rate=rate, calibration=calibration)
        numeric = run.model.embedding.numeric
        numbers = 0 if numeric is None else numeric.count
        shape = {"columns": sum(run.schema.slots), "numbers": numbers}
        write_model(model.eval(), folder / chosen.file, chosen, **shape)
        manifest = describe(run, fields, format=format, model=chosen.file, runs_on=chosen.runs_on)
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


def _usable(format: str) -> ExportFormat:
    chosen = EXPORT_FORMATS[known_name(format, EXPORT_FORMATS, subject="format")]
    for package in chosen.needs:
        if importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"format {format} needs the package {package}: pip install 'multiembed[export]'"
            )
    return chosen


def write_model(
    model: nn.Module, file: Path, format: ExportFormat, *, columns: int, numbers: int = 0
) -> None:
    """Write a model that takes any number of rows of int64 ids, and numbers, in so many columns."""
    examples = [torch.zeros(8, columns, dtype=torch.int64)]
    if numbers:
        examples.append(torch.zeros(8, numbers))
    shapes = tuple({0: torch.export.Dim("batch")} for _ in examples)
    with _quiet():
        program = torch.export.export(model, tuple(examples), dynamic_shapes=shapes)
        format.write(program, file)


def write_embeddings(run: Run, out: Path | str) -> list[str]:
    """Write one Parquet file per field into a new directory; return their names.

    A row is one id: `id`, `value` (null: missing, or *other* where the id is 0), `count` (rows
    that the vocabulary was counted on), `training_count` (rows of the training split) and one
    list of numbers per embedding set, `set_0`, `set_1`, …. The file's metadata name the `field`.
    Of a field whose numbers are embedded, a row is a missing number, or one at which its scale has
    a point: both counts are null.

    Raises:
        DataError: If `out` is there already, or the run is not whole.
    """
    embedding = run.model.embedding
    training_counts = run.directory.read_row_counts(run.schema.cardinalities)
    blocks = embedding.by_field()
    kinds = run.config.model.numeric_kinds(run.schema.kept_numbers)
    names = []
    with new_folder(Path(out)) as folder:
        for number, field in enumerate(run.schema.tables):
            other = pl.DataFrame({"id": [0]}, schema={"id": pl.Int32})
            rows = pl.concat([other, run.vocabularies[field.name]], how="diagonal").with_columns(
                pl.Series("training_count", training_counts[number])
            )
            if field.number is not None and kinds:
                rows, blocks[number] = _points(run, number)
            table = rows.select("id", "value", "count", "training_count").to_arrow(
                compat_level=pl.CompatLevel.oldest()
            )
            table = table.replace_schema_metadata({"field": field.name})
            block = blocks[number].detach().cpu().numpy()
            for m, of_set in enumerate(np.split(block, embedding.sets, axis=1)):
                table = table.append_column(f"set_{m}", _lists(of_set))
            names.append(f"{number:03}_{re.sub(r'[^0-9A-Za-z.-]', '_', field.name)[:80]}.parquet")
            pq.write_table(table, (folder / names[-1]).absolute())
    return names


@torch.no_grad()
def _points(run: Run, place: int) -> tuple[pl.DataFrame, Float[Tensor, "rows columns"]]:
    """Return numbers of a field, and what they are embedded as: a missing one, then its scale's."""
    scale, embedding = run.schema.fields[place].number, run.model.embedding
    assert scale is not None, "only a field that is kept as numbers has a scale"
    levels = torch.tensor([math.nan, *scale.levels])
    numbers = levels[:, None].expand(-1, run.schema.numbers)
    tables = len(embedding.table_rows) + len(embedding.shares)
    found = levels.new_zeros(len(levels), embedding.sets, tables, embedding.width)
    rows = pl.DataFrame({"id": range(len(levels)), "value": [None, *map(repr, scale.values)]})
    empty = [pl.lit(None, pl.Int64).alias(name) for name in ("count", "training_count")]
    of_field = embedding.complete(found, numbers)[:, :, place]
    return rows.with_columns(pl.col("id").cast(pl.Int32), *empty), of_field.flatten(1)


def _lists(rows: Float[np.ndarray, "rows dim"]) -> pa.FixedSizeListArray:
    flat = pa.array(np.ascontiguousarray(rows).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])


def _some_rows(run: Run, rows: Path | str | None, downloads: Path) -> tuple[pl.DataFrame, str]:
    """Return raw rows to check a bundle on, with the types that they have, and their origin."""
    columns = list(dict.fromkeys(field.column for field in run.schema.fields))
    source = _source(run) if rows is None else rows
    if source is not None:
        found = open_to_score(source, run.schema, downloads).sample(PARITY_ROWS)
        return found.select(columns).head(PARITY_ROWS), without_secrets(str(source))
    split = run.dataset().split("test")
    ids = split.take(np.linspace(0, split.rows - 1, min(split.rows, PARITY_ROWS)).astype(int)).ids
    made, known = rows_of(run.encoder, ids), rebuilt(run.encoder)
    if not np.array_equal(run.encoder.encode(made)[:, known], ids[:, known]):
        raise DataError(
            f"{run.path} must have the vocabularies of its dataset, got others; name raw rows to "
            "check the bundle on"
        )
    return made, f"test split of {run.config.dataset}, raw values rebuilt from its ids"


def _source(run: Run) -> str | None:
    """Return the first file of raw rows that a run's dataset was prepared from, if it is there."""
    if is_embedded(format := run.schema.options.get("format")):
        return str(format)
    files = (source.path for source in run.schema.sources)
    return next((file for file in files if os.path.isfile(file)), None)


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


class PlattLine(nn.Module):
    """A line on the logit."""

    def __init__(self, calibration: Calibration) -> None:
        super().__init__()
        self.slope, self.intercept = calibration.slope, calibration.intercept

    def forward(self, logits: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return the probability of every row."""
        largest = math.log1p(-SMALLEST) - math.log(SMALLEST)
        return torch.sigmoid(self.slope * logits.clamp(-largest, largest) + self.intercept)


class RisingLines(nn.Module):
    """Straight lines through points, level beyond the first and the last."""

    before: Tensor
    after: Tensor
    slopes: Tensor

    def __init__(self, calibration: Calibration) -> None:
        super().__init__()
        before, after = torch.tensor(calibration.points, dtype=torch.float64).T
        runs = before.diff()
        slopes = torch.where(runs > 0, after.diff() / runs, 0)
        self.register_buffer("before", before.float())
        self.register_buffer("after", after.float())
        # A slope per line: level before the first point, and beyond the last.
        self.register_buffer("slopes", nn.functional.pad(slopes, (1, 1)).float())

    def forward(self, logits: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return the probability of every row."""
        p = torch.sigmoid(logits)
        passed = (p[:, None] >= self.before).sum(dim=1)
        start = (passed - 1).clamp(min=0)
        return self.after[start] + (p - self.before[start]) * self.slopes[passed]


class ProbabilityModel(nn.Module):
    """Ids to probabilities, as a run gives them."""

    def __init__(
        self, model: ClickModel, *, negative_rate: float, calibration: Calibration | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.shift = math.log(negative_rate)
        if calibration is None:
            self.last = nn.Sigmoid()
        else:
            kinds = {"platt": PlattLine, "isotonic": RisingLines}
            self.last = kinds[calibration.method](calibration)

    def forward(
        self,
        ids: Int[Tensor, "batch fields"],
        numbers: Float[Tensor, "batch numbers"] | None = None,
    ) -> Float[Tensor, " batch"]:
        """Return the probability of every row."""
        return self.last(self.model(ids, numbers) + self.shift)
