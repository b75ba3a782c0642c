"""Rows and labels as users of scikit-learn hand them over, encoded as a dataset on disk is.

Where scikit-learn's estimator checks ask for certain words in a message, they are in ours.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float32, Int64, Shaped, UInt8

from multiembed.base.errors import DataError
from multiembed.data.encoding.frames import ArrowTable, as_polars
from multiembed.data.encoding.plain_fields import plain_fields, share_sizes
from multiembed.data.encoding.typed import about_column, check_names, settled
from multiembed.data.encoding.values import read_values, split_cells
from multiembed.data.encoding.vocabulary import Encoder, Vocabulary, build_vocabulary
from multiembed.data.options import PrepareOptions
from multiembed.data.sources.column_kinds import tell_columns
from multiembed.data.store.dataset import DatasetWriter
from multiembed.data.store.schema import Field
from multiembed.data.store.shards import Batch
from multiembed.data.store.vocabularies import write_vocabulary

VALIDATION_SHARE = 10
"""One row in so many of each class, at least one, says when training stops."""


class FeatureTable(NamedTuple):
    """Rows, and the names that their columns came with."""

    rows: pl.DataFrame
    names: tuple[str, ...] | None
    """`None` for a matrix, whose columns are then called 0, 1, …."""


def read_table(rows: object) -> FeatureTable:
    """Read rows from a data frame, a matrix or a list of lists.

    Raises:
        DataError: If they are no table of plain values, or an empty one.
    """
    if isinstance(rows, ArrowTable) and not isinstance(rows, np.ndarray):
        frame = as_polars(rows)
        names = tuple(frame.columns)
        check_names(names, "rows")
    else:
        frame, names = _matrix_frame(rows), None
    if frame.height == 0:
        raise DataError(
            f"rows must be at least 1, got 0 sample(s) (shape={frame.shape}) while a minimum of "
            "1 is required."
        )
    if frame.width == 0:
        raise _no_columns(frame.shape)
    return FeatureTable(frame, names)


def read_classes(
    labels: object, *, rows: int, weights: Float32[np.ndarray, " rows"] | None = None
) -> tuple[Shaped[np.ndarray, " 2"], UInt8[np.ndarray, " rows"]]:
    """Return the two classes, in order, and which of them each row has.

    Raises:
        DataError: If there are not two classes, or not as many labels as rows.
    """
    if labels is None:
        raise DataError("y should be a 1d array of labels, got None")
    column = _array(labels, "y should be a 1d array of labels")
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    if column.ndim != 1:
        raise DataError(f"y should be a 1d array of labels, got shape {column.shape}")
    if len(column) != rows:
        raise DataError(f"y must have as many labels as there are rows, {rows}, got {len(column)}")
    _check_labels(column)
    classes, of_row = np.unique(column, return_inverse=True)
    if len(classes) > 2:
        raise DataError(
            "Only binary classification is supported. The type of the target is multiclass, got "
            f"{len(classes)} classes"
        )
    counted = of_row if weights is None else of_row[weights > 0]
    counts = np.bincount(counted, minlength=len(classes))
    if len(classes) < 2 or counts.min() < 2:
        each = (f"{n} of {c!r}" for c, n in zip(classes.tolist(), counts, strict=True))
        found = "one class" if len(classes) < 2 else ", ".join(each)
        raise DataError(f"y must have at least 2 rows of each of two classes, got {found}")
    return classes, of_row.astype(np.uint8)


def read_weights(weights: object, *, rows: int) -> Float32[np.ndarray, " rows"] | None:
    """Return what every row counts, if it is said.

    Raises:
        DataError: If these are not as many numbers of at least 0 as rows.
    """
    if weights is None:
        return None
    column = _array(weights, "sample_weight should be a 1d array of numbers")
    if column.shape not in ((rows,), ()):
        raise DataError(
            f"sample_weight.shape == {column.shape}, expected {(rows,)}: one number per row"
        )
    try:
        numbers = np.broadcast_to(column.astype(np.float32), rows)
    except (TypeError, ValueError):
        raise DataError(f"sample_weight must hold numbers, got {column.dtype}") from None
    unfit = ~(np.isfinite(numbers) & (numbers >= 0))
    if unfit.any():
        first = int(np.flatnonzero(unfit)[0])
        raise DataError(f"sample_weight must be at least 0, got {numbers[first]} in row {first}")
    if not numbers.any():
        raise DataError("sample_weight must be above 0 in some rows, got zero weights alone")
    return numbers


def write_table(
    rows: pl.DataFrame,
    labels: UInt8[np.ndarray, " rows"],
    options: PrepareOptions,
    folder: Path,
    *,
    seed: int,
    weights: Float32[np.ndarray, " rows"] | None = None,
) -> Encoder:
    """Write rows as a dataset that training can open, and return what encoded them.

    Args:
        rows: All columns are fields.
        labels: 0 or 1.
        options: How values become ids; they are counted on the rows that train.
        folder: Directory to write.
        seed: Of the draw of rows that say when training stops.
        weights: What every row counts, if not the same; rows of weight 0 are left out.
    """
    if weights is not None:
        there = weights > 0
        rows, labels, weights = rows.filter(pl.Series(there)), labels[there], weights[there]
    held_back = _held_back(labels, seed)
    trained = np.setdiff1d(np.arange(len(labels)), held_back)
    chosen = plain_fields(tell_columns(rows, None, options), options)
    rows = settled(rows)
    values = read_values(rows[trained], chosen).columns
    every = read_values(rows, [field for field in chosen if field.shares]).columns
    found = {f.name: _vocabulary(values[f.name], f) for f in chosen if f.shares is None}
    histories = [_history(every[field.name], field) for field in chosen if field.shares]
    fields = share_sizes([*(vocabulary.field for vocabulary in found.values()), *histories])
    encoder = Encoder(fields, {name: vocabulary.kept for name, vocabulary in found.items()})
    encoded = encoder.read(rows)
    folder.mkdir()
    writer = DatasetWriter(folder, [field.slots for field in fields])
    for name, vocabulary in found.items():
        write_vocabulary(folder, name, vocabulary.kept)
    whole = Batch(encoded.ids, labels, weights, encoded.numbers)
    writer.shard("train", whole.take(trained))
    writer.shard("valid", whole.take(held_back))
    writer.finish("label", fields, weight=None if weights is None else "sample_weight")
    return encoder


def _vocabulary(values: pl.Series, field: Field) -> Vocabulary:
    counts = values.alias("value").value_counts(name="count")
    counts = counts.with_columns(pl.col("count").cast(pl.Int64))
    if field.multivalued:
        cells = split_cells(counts["value"], field)
        field = field.model_copy(update={"slots": int(cells.sizes.max())})
        counts = cells.counts(counts["count"].to_numpy())
    return build_vocabulary(counts, field)


def _history(values: pl.Series, field: Field) -> Field:
    cells = split_cells(values, field)
    empty = int(np.count_nonzero(cells.sizes == 0))
    return field.model_copy(update={"slots": max(1, int(cells.sizes.max())), "empty": empty})


def _matrix_frame(rows: object) -> pl.DataFrame:
    if type(rows).__module__.startswith("scipy.sparse"):
        raise DataError("rows must be dense, got a sparse matrix")
    if np.ma.isMaskedArray(rows):
        values = np.ma.getdata(rows).astype(object)
        values[np.ma.getmaskarray(rows)] = None
        rows = values
    matrix = _array(rows, "rows must be a table of plain values")
    if np.iscomplexobj(matrix):
        raise DataError("Complex data not supported: rows must be real numbers or text")
    if matrix.ndim != 2:
        raise DataError(
            f"rows must be a table of 2 dimensions, got {matrix.ndim}. Reshape your data: "
            "reshape(-1, 1) makes one column, reshape(1, -1) one row"
        )
    names = [str(place) for place in range(matrix.shape[1])]
    if not names:
        raise _no_columns(matrix.shape)
    if matrix.dtype != object:
        with about_column(", ".join(names)):
            return pl.DataFrame(matrix, schema=names)
    return pl.DataFrame([pl.Series(n, _plain(matrix[:, at])) for at, n in enumerate(names)])


def _array(values: object, rule: str) -> Shaped[np.ndarray, "..."]:
    """Return an array; a list with a gap is one of objects, for NumPy makes text of gaps."""
    try:
        found = np.asarray(values)
        of_text = found.dtype.kind in "US" and isinstance(values, list | tuple)
        objects = np.asarray(values, object) if of_text else found
        gap = of_text and any(_is_absent(value) for value in objects.flat)
    except ValueError as error:  # rows of several lengths
        raise DataError(f"{rule}, got {str(error).split('.')[0].lower()}") from None
    return objects if gap else found


def _is_absent(value: object) -> bool:
    try:
        return value is None or bool(value != value)
    except (TypeError, ValueError):  # pandas' NA is not equal to anything, nor different
        return type(value).__name__ == "NAType"


def _no_columns(shape: tuple[int, ...]) -> DataError:
    return DataError(
        f"columns must be at least 1, got 0 feature(s) (shape={shape}) while a minimum of 1 is "
        "required."
    )


def _plain(column: Shaped[np.ndarray, " rows"]) -> list[str | None]:
    """Return the values of a column of objects as they are written."""
    values = [None if _is_absent(value) else value for value in column]
    for value in values:
        if not isinstance(value, str | int | float | np.generic | None):
            raise DataError(
                f"a value must be a string or a number: argument must be a string or a number, "
                f"got {type(value).__name__}"
            )
    return [None if value is None else str(value) for value in values]


def _check_labels(column: Shaped[np.ndarray, " rows"]) -> None:
    if column.dtype == object:
        absent = [value for value in column if _is_absent(value)]
        kinds = sorted({type(value).__name__ for value in column})
        if absent:
            raise DataError(f"y must be labels, got {absent[0]!r} among them")
        if len(kinds) > 1:
            raise DataError(f"y must be labels of one type, got {' and '.join(kinds)}")
    if np.iscomplexobj(column):
        raise DataError("Complex data not supported: y must be labels")
    if column.dtype.kind == "f":
        if not np.isfinite(column).all():
            raise DataError("y must be labels, got Input contains NaN or infinity")
        if (column != np.floor(column)).any():
            raise DataError("Unknown label type: y must be labels, got continuous numbers")


def _held_back(labels: UInt8[np.ndarray, " rows"], seed: int) -> Int64[np.ndarray, " held_back"]:
    """Draw rows for validation, of each class its share."""
    random = np.random.default_rng(seed)
    parts: Sequence[np.ndarray] = [
        random.permutation(rows)[: max(1, len(rows) // VALIDATION_SHARE)]
        for rows in (np.flatnonzero(labels == 0), np.flatnonzero(labels == 1))
    ]
    return np.sort(np.concatenate(parts))
