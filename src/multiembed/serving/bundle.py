"""A bundle: a directory that scores raw values without this library.

`manifest.json` says what is in it, `model.onnx` or `model.pt2` maps ids to probabilities,
`vocabulary/` holds the values behind the ids, `canonical.py` says how values are written,
`loader.py` puts them together, and `SHA256SUMS` shows whether every file is as it was exported.
"""

import hashlib
import runpy
import shutil
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, Float64, Int32, Int64
from pydantic import BaseModel, JsonValue, model_serializer

from multiembed.base.errors import DataError
from multiembed.data.encoding import canonical
from multiembed.data.encoding.values import cut_values, read_values
from multiembed.data.encoding.vocabulary import Encoder
from multiembed.data.store.schema import DateRule, Field, Kind, NumberScale
from multiembed.data.store.shards import write_frame
from multiembed.runs.run import Run

BUNDLE_VERSION = 2
LOADER = "loader.py"
LARGEST_FLOAT = sys.float_info.max


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
    column: str
    """The raw column that it is made from."""
    kind: Kind
    vocabulary: str | None = None
    """File whose `value` column holds the texts of the ids 1, 2, …; none for buckets of numbers."""
    missing: int = 0
    """For buckets: id of a missing value."""
    thresholds: tuple[float, ...] = ()
    """For buckets: where intervals of numbers begin, ascending."""
    ids: tuple[int, ...] = ()
    """For buckets: id of every interval, the first of them before the first threshold."""
    decimal: str = ""
    """For numbers in text with commas: the mark before the fraction."""
    absent: tuple[str, ...] = ()
    """Texts that stand for a missing value, beside the usual ones."""
    date: DateRule | None = None
    hash_size: int | None = None
    """If given, values are hashed to so many before they are looked up."""
    delimiter: str | None = None
    """What stands between the values of a cell, if there are several."""
    slots: int = 1
    """Columns of ids."""
    history: bool = False
    """Whether the last values of a cell are kept, and a cell may be empty."""
    number: NumberScale | None = None
    """If its numbers are embedded: how, and what the model reads in their place."""

    @model_serializer(mode="wrap")
    def _without_absent(self, dump: Callable) -> dict[str, object]:
        """Leave out what came later where it is absent."""
        content = dump(self)
        later = [name for name in ("number", "history") if not content[name]]
        return {name: value for name, value in content.items() if name not in later}


class Manifest(BaseModel):
    """What a bundle holds."""

    format_version: int = BUNDLE_VERSION
    format: str
    """One of `EXPORT_FORMATS`."""
    model: str
    """File that maps a matrix of int64 ids, one column per field, to probabilities; and where
    numbers are embedded, beside it a matrix of float32, a column for each of these fields."""
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
    fields, names = [], run.schema.field_names
    kinds = run.config.model.numeric_kinds(run.schema.kept_numbers)
    for number, field in enumerate(run.schema.fields):
        vocabulary = run.vocabularies[field.table]
        compiled = compile_field(run.encoder, field, vocabulary)
        if field.number is not None and kinds:
            scale = field.number.model_copy(update={"embedding": kinds[number]})
            compiled = compiled.model_copy(update={"number": scale})
        if not compiled.ids:
            name = f"vocabulary/{names.index(field.table)}.parquet"
            if field.shares is None:
                write_frame(folder / name, vocabulary.select("value"))
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
    """Write the manifest, the loader, the rules of texts and the checksums of everything."""
    for file in (Path(__file__).with_name(LOADER), Path(canonical.__file__)):
        shutil.copyfile(file, folder / file.name)
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


def compile_field(encoder: Encoder, field: Field, vocabulary: pl.DataFrame) -> CompiledField:
    """Return what an encoder does with one field."""
    compiled = CompiledField(
        name=field.name,
        column=field.column,
        kind=field.kind,
        decimal=field.decimal,
        absent=field.missing,
        date=field.date,
        hash_size=field.hash_size,
        delimiter=field.delimiter,
        slots=field.slots,
        history=field.shares is not None,
    )
    if field.numeric is None or field.numeric.rule == "as_is":
        return compiled
    thresholds = _thresholds(field, vocabulary)
    places = np.concatenate([[-LARGEST_FLOAT], thresholds, [np.nan]])
    found = tuple(_ids(encoder, field, places).tolist())
    buckets = {"missing": found[-1], "thresholds": tuple(thresholds.tolist()), "ids": found[:-1]}
    return compiled.model_copy(update=buckets)


def _thresholds(field: Field, vocabulary: pl.DataFrame) -> Float64[np.ndarray, " thresholds"]:
    """Return where a kept bucket begins or ends, and where numbers begin to have buckets."""
    kept = vocabulary["value"].drop_nulls().cast(pl.Int64).to_numpy()
    lowest = np.array([np.iinfo(np.int64).min])
    starts = bucket_starts(field, np.unique(np.concatenate([lowest, kept, kept + 1])))
    return np.unique(starts[np.isfinite(starts)])


def bucket_starts(
    field: Field, buckets: Int64[np.ndarray, " buckets"]
) -> Float64[np.ndarray, " buckets"]:
    """Return the first number of these buckets or of any above; infinity if there is none."""

    def reached(numbers: Float64[np.ndarray, " buckets"]) -> Bool[np.ndarray, " buckets"]:
        values = read_values(pl.DataFrame({field.name: numbers}), [field]).columns[field.name]
        found = cut_values(values, field)
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
    values = read_values(pl.DataFrame({field.column: numbers}), [field]).columns.to_series()
    return encoder.number(field, values)[:, 0]


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
