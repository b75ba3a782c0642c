"""Vectors in the columns of a table of rows: one column of lists, or columns that are numbered."""

import re
from collections.abc import Iterator

import numpy as np
import polars as pl
from polars import selectors

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.nested import of_array
from multiembed.diagnosis.readers.table import Contents, Skipped, StoredTensor

_NUMBERED = re.compile(r"(?P<stem>.*?)[\W_]*\d+")
_NO_PART = re.compile(r"(?:.*_)?(?:id|ids|index|idx|row|key|count|label|unnamed.*)|", re.IGNORECASE)
_VECTOR = r"^\s*[\[(]?\s*[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?(?:[\s,;]+[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?)+"


def contents_of_frame(frame: pl.DataFrame, name: str) -> Contents:
    """Return the vectors that a frame holds, each row one.

    Lists of numbers, also written as text, are one table a column. Else columns of one name with
    numbers behind it are one table (`e0`, `e1`, …); else all columns of numbers are, but those
    that are named as an id, a count or a label.

    Args:
        frame: Rows.
        name: Of the table, where there is only one.

    Raises:
        DataError: If no column holds numbers, or lists of one column have several lengths.
    """
    matrices = dict(_lists(frame, name)) or dict(_numbered(frame)) or dict(_numbers(frame))
    if not matrices:
        raise DataError(f"{name} must have columns of numbers or lists, got {_listed(frame)}")
    used = {column for _, columns in matrices.values() for column in columns}
    single = len(matrices) == 1
    tensors = {name if single else of: _stored(matrix) for of, (matrix, _) in matrices.items()}
    skipped = tuple(
        Skipped(column, (frame.height,), "a column that is no part of a vector")
        for column in frame.columns
        if column not in used
    )
    return Contents(tensors=tensors, tables=frozenset(tensors), skipped=skipped)


def _stored(matrix: np.ndarray) -> StoredTensor:
    stored = of_array(matrix)
    if isinstance(stored, str):
        raise DataError(f"vectors must be numbers, got {stored}")
    return stored


def _lists(frame: pl.DataFrame, name: str) -> Iterator[tuple[str, tuple[np.ndarray, list[str]]]]:
    for column in frame.columns:
        series = _taken_apart(frame[column])
        inner = getattr(series.dtype, "inner", None)
        if inner is None or not inner.is_numeric():
            continue
        series = series.cast(pl.List(inner))
        lengths = series.list.len().unique().drop_nulls().to_list()
        if len(lengths) != 1 or series.null_count():
            raise DataError(
                f"{name}: vectors of '{column}' must have one length, got "
                + ", ".join(map(str, sorted(lengths)[:3]))
                + (" and missing ones" if series.null_count() else "")
            )
        flat = series.explode().to_numpy()
        yield column, (flat.reshape(frame.height, lengths[0]), [column])


def _taken_apart(series: pl.Series) -> pl.Series:
    """Return lists of numbers that are written as text (`[0.1, 0.2]`) as lists."""
    some = series.drop_nulls().head(5) if series.dtype == pl.String else series.clear()
    if not len(some) or not some.str.contains(_VECTOR).all():
        return series
    spaced = series.str.replace_all(r"[\[\](),;\s]+", " ").str.strip_chars()
    return spaced.str.split(" ").cast(pl.List(pl.Float64), strict=False)


def _numbered(frame: pl.DataFrame) -> Iterator[tuple[str, tuple[np.ndarray, list[str]]]]:
    stems: dict[str, list[str]] = {}
    for column in frame.select(selectors.numeric()).columns:
        if match := _NUMBERED.fullmatch(column):
            stems.setdefault(match["stem"], []).append(column)
    for stem, columns in stems.items():
        if len(columns) > 1:
            yield stem or "vectors", (frame.select(columns).to_numpy(), columns)


def _numbers(frame: pl.DataFrame) -> Iterator[tuple[str, tuple[np.ndarray, list[str]]]]:
    numeric = frame.select(selectors.numeric()).columns
    columns = [column for column in numeric if not _NO_PART.fullmatch(column.strip())]
    if len(columns) > 1:
        yield "vectors", (frame.select(columns).to_numpy(), columns)


def _listed(frame: pl.DataFrame) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in list(frame.schema.items())[:5])
