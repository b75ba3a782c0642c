"""From values to ids and back: counting, vocabularies on disk, and the encoder."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int32

from multiembed.base.errors import DataError
from multiembed.data.encoding.cells import split_cells
from multiembed.data.encoding.values import cut_values, read_values
from multiembed.data.store.schema import Field, Schema

FOLDER = "vocabulary"
COMPACT_ABOVE = 1_000_000
"""Values held besides the sum before they are added to it."""


def add_up(counts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Add up counts of the values of one field in different rows; they come in no order."""
    total, pending, height = None, [], 0
    for part in counts:
        pending.append(part)
        height += part.height
        if total is None or height > COMPACT_ABOVE + total.height:
            total, pending, height = _added(total, pending), [], 0
    return _added(total, pending)


def _added(total: pl.DataFrame | None, pending: list[pl.DataFrame]) -> pl.DataFrame:
    frames = pending if total is None else [total, *pending]
    return pl.concat(frames).group_by("value").agg(pl.col("count").sum())


def number_values(
    counts: pl.DataFrame, min_count: int, max_values: int | None = None
) -> pl.DataFrame:
    """Give every value that is frequent enough its id: falling count, ties by value, from 1.

    Values become text, and a missing one null. Of more than `max_values` the first are kept.
    """
    text = pl.col("value").cast(pl.String).fill_null("")
    kept = counts.filter(pl.col("count") >= min_count).with_columns(text)
    ordered = kept.sort(["count", "value"], descending=[True, False])
    ordered = ordered if max_values is None else ordered.head(max_values)
    missing = pl.when(pl.col("value") != "").then(pl.col("value"))
    number = pl.int_range(1, pl.len() + 1, dtype=pl.Int32)
    return ordered.select(missing.alias("value"), "count", number.alias("id"))


def write_vocabulary(folder: Path, field: str, vocabulary: pl.DataFrame) -> None:
    """Write the kept values of a field below a dataset or run directory."""
    path = folder / FOLDER / _file_name(field)
    path.parent.mkdir(parents=True, exist_ok=True)
    vocabulary.write_parquet(path, compression="zstd")


def read_vocabulary(folder: Path, field: str) -> pl.DataFrame:
    """Read the kept values of a field (null: missing), their counts and their ids.

    Raises:
        DataError: If the directory holds none for this field.
    """
    path = folder / FOLDER / _file_name(field)
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} must be the vocabulary of field {field!r}, got {reason}") from None


class Encoder:
    """Turns raw columns into ids, the same way wherever it is used."""

    def __init__(self, fields: Sequence[Field], vocabularies: Mapping[str, pl.DataFrame]) -> None:
        self.fields = tuple(fields)
        ends = accumulate(field.slots for field in self.fields)
        self.places = {
            f.name: slice(end - f.slots, end) for f, end in zip(self.fields, ends, strict=True)
        }
        """The columns of the id matrix that every field has."""
        self._values = {f.name: vocabularies[f.name]["value"] for f in self.fields}
        self._ids = {f.name: vocabularies[f.name]["id"] for f in self.fields}
        self._categories = {
            f.name: pl.Enum(self._values[f.name].fill_null(""))
            for f in self.fields
            if not f.bucketed
        }

    @classmethod
    def load(cls, folder: Path | str) -> "Encoder":
        """Read the encoder of a dataset or of a run directory."""
        fields = Schema.load(Path(folder) / "schema.json").fields
        return cls(fields, {f.name: read_vocabulary(Path(folder), f.name) for f in fields})

    def encode(self, rows: pl.DataFrame) -> Int32[np.ndarray, "rows columns"]:
        """Return the ids of raw rows; columns that are no field are ignored.

        A field has one column, or as many as it has slots.

        A value that the vocabulary does not hold, and a number that cannot be read, is
        *other*, id 0.

        Raises:
            DataError: If a column is absent.
        """
        absent = [field.column for field in self.fields if field.column not in rows.columns]
        if absent:
            raise DataError(f"rows must have a column {absent[0]!r}, got {', '.join(rows.columns)}")
        values, unreadable = read_values(rows, self.fields)
        if any(field.delimiter is not None for field in self.fields):
            parts = [self.number(field, values[field.name]) for field in self.fields]
            matrix = np.hstack(parts) if parts else np.zeros((rows.height, 0), np.int32)
        else:
            ids = values.select(self._id_expression(field) for field in self.fields)
            matrix = ids.to_numpy(order="c").reshape(rows.height, len(self.fields))
        for name, those in unreadable.items():
            matrix[those, self.places[name].start] = 0
        return matrix

    def number(self, field: Field, values: pl.Series) -> Int32[np.ndarray, "values slots"]:
        """Return the ids of values, or of cells, of one field, as `read_values` gives them."""
        if field.delimiter is None:
            return self._numbered(field, cut_values(values, field)).reshape(-1, 1)
        cells = split_cells(values, field)
        return cells.matrix(self._numbered(field, cells.values), field.slots)

    def decode(self, ids: Int32[np.ndarray, "rows columns"]) -> pl.DataFrame:
        """Return the values of ids; null where the value is missing or *other*.

        Several values of a cell are a list.
        """
        columns = []
        for field in self.fields:
            values = pl.concat([pl.Series([None], dtype=pl.String), self._values[field.name]])
            of_field = ids[:, self.places[field.name]]
            if field.delimiter is None:
                columns.append(values.gather(of_field[:, 0]).alias(field.name))
            else:
                lists = [values.gather(row[row >= 0]).to_list() for row in of_field]
                columns.append(pl.Series(field.name, lists, dtype=pl.List(pl.String)))
        return pl.DataFrame(columns)

    def _numbered(self, field: Field, values: pl.Series) -> Int32[np.ndarray, " values"]:
        named = values.alias(field.name).to_frame()
        return named.select(self._id_expression(field)).to_series().to_numpy()

    def _id_expression(self, field: Field) -> pl.Expr:
        column, name = pl.col(field.name), field.name
        if not field.bucketed:
            place = column.cast(self._categories[name], strict=False).to_physical()
            return place.cast(pl.Int32).add(1).fill_null(0)
        buckets = self._values[name].cast(pl.Int64)
        return column.replace_strict(buckets, self._ids[name], default=0, return_dtype=pl.Int32)


def _file_name(field: str) -> str:
    """Return a file name for a field whatever characters it has and however long it is."""
    plain = re.sub(r'[%/\\:*?"<>|\x00-\x1f]', lambda char: f"%{ord(char[0]):02X}", field)
    if len(plain.encode()) > 120:
        digest = hashlib.sha256(field.encode()).hexdigest()[:12]
        plain = plain.encode()[:100].decode(errors="ignore") + "%" + digest
    return plain + ".parquet"
