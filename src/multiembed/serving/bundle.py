"""A bundle: a directory that scores raw values without this library.

`manifest.json` says what is in it, `model.onnx` or `model.pt2` maps ids to probabilities,
`vocabulary/` holds the values behind the ids, `loader.py` puts them together, and `SHA256SUMS`
shows whether every file is as it was exported.
"""

import hashlib
import runpy
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, Float64, Int32, Int64
from pydantic import BaseModel, JsonValue

from multiembed.base.errors import DataError
from multiembed.data.encoding.values import read_values
from multiembed.data.encoding.vocabulary import Encoder
from multiembed.data.store.schema import Field
from multiembed.runs.run import Run

BUNDLE_VERSION = 1
LOADER = "loader.py"
LARGEST_FLOAT = sys.float_info.max
KNOWN = {"name", "kind", "cardinality", "min_count", "numeric", "max_values", "other"}
"""What a bundle can express of a field; it must not be one that says more of itself."""
NOT_A_NUMBER = "no number"
NEVER_SEEN = "a value that training never saw"


class Parity(BaseModel):
    """How far the bundle is from the run it was made of."""

    rows: int
    """Rows that both scored."""
    of: str
    """Where they come from."""
    largest_difference: float
    tolerance: float


class CompiledField(BaseModel):
    """One field of a bundle's manifest."""

    name: str
    missing: int
    """Id of a missing value."""
    vocabulary: str | None = None
    """File whose `value` column holds the texts of the ids 1, 2, …; for categories."""
    thresholds: tuple[float, ...] = ()
    """Where intervals of numbers begin, ascending; for numbers."""
    ids: tuple[int, ...] = ()
    """Id of every interval, the first of them before the first threshold."""


class Manifest(BaseModel):
    """What a bundle holds."""

    format_version: int = BUNDLE_VERSION
    format: str
    """One of `EXPORT_FORMATS`."""
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
    run: Run,
    fields: tuple[CompiledField, ...],
    *,
    format: str,
    model: str,
    runs_on: tuple[str, ...] = (),
) -> Manifest:
    """Return the manifest of a bundle before its parity is known.

    Args:
        run: What the bundle is made of.
        fields: As `write_fields` returns them.
        format: Name of the model file's format.
        model: The model file's name.
        runs_on: Packages that the format runs on, beside those that every bundle needs.
    """
    packages = ("multiembed", "torch", "numpy", "pyarrow", *runs_on)
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


def is_plain(field: Field) -> bool:
    """Say whether a field is made of its own column by a rule that a bundle can express."""
    return not _more_than_plain(field)


def check_fields(fields: Sequence[Field]) -> None:
    """Refuse fields that say more of themselves than a bundle can express, such as dates."""
    for field in fields:
        unknown = _more_than_plain(field)
        if unknown:
            raise DataError(f"{field.name} must be plain to be exported, got one with {unknown[0]}")


def compile_field(encoder: Encoder, field: Field, vocabulary: pl.DataFrame) -> CompiledField:
    """Return what an encoder does with one field."""
    if field.kind == "categorical":
        missing = vocabulary.filter(pl.col("value").is_null())["id"].to_list()
        return CompiledField(name=field.name, missing=missing[0] if missing else 0)
    thresholds = _thresholds(field, vocabulary)
    places = np.concatenate([[-LARGEST_FLOAT], thresholds, [np.nan]])
    found = _ids(encoder, field, places).tolist()
    return CompiledField(
        name=field.name, missing=found[-1], thresholds=tuple(thresholds.tolist()), ids=found[:-1]
    )


def rows_of(encoder: Encoder, ids: Int32[np.ndarray, "rows fields"]) -> pl.DataFrame:
    """Return raw rows, all of them text, that an encoder turns into these ids."""
    values = encoder.decode(ids)
    columns = []
    for field, of_row in zip(encoder.fields, ids.T, strict=True):
        numeric = field.kind == "numeric"
        column = values[field.name]
        if numeric:
            buckets = column.drop_nulls().unique()
            numbers = _start(field, buckets.cast(pl.Int64).to_numpy())
            texts = dict(zip(buckets, map(repr, numbers.tolist()), strict=True))
            column = column.replace_strict(texts, default=None, return_dtype=pl.String)
        unseen = pl.Series(of_row == 0)
        other = pl.lit(NOT_A_NUMBER if numeric else NEVER_SEEN)
        columns.append(pl.select(pl.when(unseen).then(other).otherwise(column).alias(field.name)))
    return pl.concat(columns, how="horizontal")


def _more_than_plain(field: Field) -> list[str]:
    told = field.model_dump(exclude_defaults=True, exclude_none=True)
    as_is = field.numeric is not None and field.numeric.rule == "as_is"
    return [key for key in told if key not in KNOWN or (key == "numeric" and as_is)]


def _thresholds(field: Field, vocabulary: pl.DataFrame) -> Float64[np.ndarray, " thresholds"]:
    """Return where a kept bucket begins or ends, and where numbers begin to have buckets."""
    kept = vocabulary["value"].drop_nulls().cast(pl.Int64).to_numpy()
    lowest = np.array([np.iinfo(np.int64).min])
    starts = _start(field, np.unique(np.concatenate([lowest, kept, kept + 1])))
    return np.unique(starts[np.isfinite(starts)])


def _start(field: Field, buckets: Int64[np.ndarray, " buckets"]) -> Float64[np.ndarray, " buckets"]:
    """Return the first number of these buckets or of any above; infinity if there is none."""

    def reached(numbers: Float64[np.ndarray, " buckets"]) -> Bool[np.ndarray, " buckets"]:
        found = read_values(pl.DataFrame({field.name: numbers}), [field]).columns[field.name]
        return (found >= pl.Series(buckets)).fill_null(False).to_numpy()

    return _first(reached, len(buckets))


def _first(
    reached: Callable[[Float64[np.ndarray, " many"]], Bool[np.ndarray, " many"]], count: int
) -> Float64[np.ndarray, " many"]:
    """Return the smallest numbers for which a rising condition holds, to the last bit."""
    low = np.full(count, _place(-LARGEST_FLOAT), np.int64)
    high = np.full(count, _place(LARGEST_FLOAT), np.int64)
    never = ~reached(_at(high))
    while (low < high).any():
        middle = (low & high) + ((low ^ high) >> 1)  # their mean, without overflow
        there = reached(_at(middle))
        low = np.where(there, low, np.minimum(middle + 1, high))
        high = np.where(there, middle, high)
    return np.where(never, np.inf, _at(high))


def _place(number: float) -> int:
    """Return where a number stands among all numbers of its type, 0 being in the middle."""
    bits = int(np.float64(abs(number)).view(np.int64))
    return bits if number >= 0 else -bits


def _at(places: Int64[np.ndarray, " many"]) -> Float64[np.ndarray, " many"]:
    return np.copysign(np.abs(places).view(np.float64), places)


def _ids(
    encoder: Encoder, field: Field, numbers: Float64[np.ndarray, " many"]
) -> Int32[np.ndarray, " many"]:
    rows = {other.name: numbers for other in encoder.fields}
    return encoder.encode(pl.DataFrame(rows))[:, encoder.fields.index(field)]


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
