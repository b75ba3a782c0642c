"""From counted values to vocabularies, and by these from values to ids and back."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import polars as pl
import pyarrow as pa
from jaxtyping import Int32

from multiembed.base.errors import DataError
from multiembed.data.encoding.values import cut_quantiles, cut_values, read_values, split_cells
from multiembed.data.store.dataset import read_vocabulary
from multiembed.data.store.schema import Field, Schema

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


class Vocabulary(NamedTuple):
    """What a field is once its values are counted."""

    field: Field
    """With its cardinality, and the edges of its buckets."""
    kept: pl.DataFrame
    """Columns `value` (text; a missing one is null), `count` and `id`, from 1."""
    distinct: int
    """How many values were counted, the rare ones included."""


def build_vocabulary(counts: pl.DataFrame, field: Field) -> Vocabulary:
    """Give every value that is frequent enough its id: falling count, ties by value, from 1.

    Numbers whose buckets are to hold equal counts are first cut into these.

    Args:
        counts: Columns `value`, as `read_values` gives it, and `count`.
        field: Says which values are rare, and how many are kept at most.
    """
    rule = field.numeric
    if rule is not None and rule.rule == "quantiles":
        rule, counts = cut_quantiles(counts)
    text = pl.col("value").cast(pl.String).fill_null("")
    frequent = counts.filter(pl.col("count") >= field.min_count).with_columns(text)
    ordered = frequent.sort(["count", "value"], descending=[True, False])
    ordered = ordered if field.max_values is None else ordered.head(field.max_values)
    missing = pl.when(pl.col("value") != "").then(pl.col("value"))
    number = pl.int_range(1, pl.len() + 1, dtype=pl.Int32)
    kept = ordered.select(missing.alias("value"), "count", number.alias("id"))
    change = {"numeric": rule, "cardinality": kept.height + 1}
    return Vocabulary(field.model_copy(update=change), kept, counts.height)


@runtime_checkable
class ArrowTable(Protocol):
    """A table that can hand its columns over as Arrow: polars, pandas, PyArrow, DuckDB, …."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Return a capsule with the columns."""


def as_polars(rows: ArrowTable) -> pl.DataFrame:
    """Return a table of any library as a polars data frame.

    Raises:
        DataError: If a column holds values of several types.
    """
    if isinstance(rows, pl.DataFrame):
        return rows
    try:
        return pl.DataFrame(rows)
    except (pa.ArrowException, pl.exceptions.PolarsError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or ["nothing"])[0]
        raise DataError(f"rows must have columns of one type each, got: {reason}") from None


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
        if any(field.multivalued for field in self.fields):
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
        if not field.multivalued:
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
            if not field.multivalued:
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
