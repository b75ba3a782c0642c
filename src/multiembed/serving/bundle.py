"""A bundle: a directory that scores raw values without this library.

`manifest.json` says what is in it, `model.onnx` or `model.pt2` maps ids to probabilities,
`vocabulary/` holds the values behind the ids, `loader.py` puts them together, and `SHA256SUMS`
shows whether every file is as it was exported.
"""

import hashlib
import runpy
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import polars as pl
from pydantic import BaseModel, JsonValue

from multiembed.base.errors import DataError
from multiembed.runs.run import Run
from multiembed.serving.compiled_encoder import CompiledField, compile_field

FORMAT_VERSION = 1
LOADER = "loader.py"
Format = Literal["onnx", "torch"]


class Parity(BaseModel):
    """How far the bundle is from the run it was made of."""

    rows: int
    """Rows that both scored."""
    of: str
    """Where they come from."""
    largest_difference: float
    tolerance: float


class Manifest(BaseModel):
    """What a bundle holds."""

    format_version: int = FORMAT_VERSION
    format: Format
    model: str
    """File that maps a matrix of int64 ids, one column per field, to probabilities."""
    fields: tuple[CompiledField, ...]
    label: str
    """What the probability is of."""
    calibration: dict[str, JsonValue] | None
    parity: Parity | None = None
    trained: dict[str, JsonValue]
    """The run's model, and its quality on the validation split."""
    versions: dict[str, str]


def write_fields(run: Run, folder: Path) -> tuple[CompiledField, ...]:
    """Write the vocabularies of a run, and return its fields as a manifest describes them."""
    (folder / "vocabulary").mkdir()
    fields = []
    for number, field in enumerate(run.schema.fields):
        vocabulary = run.vocabularies[field.name]
        compiled = compile_field(run.encoder, field, vocabulary)
        if field.kind == "categorical":
            name = f"vocabulary/{number}.parquet"
            vocabulary.select("value").write_parquet(folder / name)
            compiled = compiled.model_copy(update={"vocabulary": name})
        fields.append(compiled)
    return tuple(fields)


def describe(
    run: Run, fields: tuple[CompiledField, ...], *, format: Format, model: str
) -> Manifest:
    """Return the manifest of a bundle before its parity is known."""
    packages = ("multiembed", "torch", "numpy", "pyarrow")
    packages += ("onnx", "onnxruntime") if format == "onnx" else ()
    calibration = run.calibration
    return Manifest(
        format=format,
        model=model,
        fields=fields,
        label=run.schema.label,
        calibration=None if calibration is None else calibration.model_dump(mode="json"),
        trained={"model": run.config.model.model_dump(mode="json"), "best": run.best_state},
        versions={name: version(name) for name in packages},
    )


def seal(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, the loader and the checksums of everything."""
    shutil.copyfile(Path(__file__).with_name(LOADER), folder / LOADER)
    (folder / "manifest.json").write_text(manifest.model_dump_json(indent=1) + "\n", "utf-8")
    sums = folder / "SHA256SUMS"
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file != sums)
    lines = [f"{_digest(file)}  {file.relative_to(folder)}\n" for file in files]
    sums.write_text("".join(lines), "utf-8")


def score(folder: Path, rows: pl.DataFrame | Mapping[str, list]) -> pl.Series:
    """Score raw rows by a bundle's own loader.

    Raises:
        DataError: If the directory is no whole bundle.
    """
    try:
        bundle = runpy.run_path(str(folder / LOADER))["Bundle"](folder)
        return pl.Series("probability", bundle.predict(rows))
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{folder} must be a whole bundle, got: {error}") from None


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
