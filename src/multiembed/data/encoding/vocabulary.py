"""From counted values to vocabularies, and by these from values to ids and back."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float32, Int32

from multiembed.base.errors import DataError
from multiembed.data.encoding.number_scale import on_scale, scaled
from multiembed.data.encoding.typed import about_column, as_written, canonical, settled
from multiembed.data.encoding.values import cut_quantiles, cut_values, read_values, split_cells
from multiembed.data.store.schema import Field, Schema
from multiembed.data.store.vocabularies import read_vocabulary

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
    """With its cardinality, the edges of its buckets, and the scale of its numbers."""
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
    rule, scale = field.numeric, field.number
    if scale is not None:
        scale = scaled(scale, counts)
        counts = in_buckets(counts, field)
    if rule is not None and rule.rule == "quantiles":
        rule, counts = cut_quantiles(counts)
    text = pl.col("value").cast(pl.String).fill_null("")
    frequent = counts.filter(pl.col("count") >= field.min_count).with_columns(text)
    ordered = frequent.sort(["count", "value"], descending=[True, False])
    ordered = ordered if field.max_values is None else ordered.head(field.max_values)
    missing = pl.when(pl.col("value") != "").then(pl.col("value"))
    number = pl.int_range(1, pl.len() + 1, dtype=pl.Int32)
    kept = ordered.select(missing.alias("value"), "count", number.alias("id"))
    change = {"numeric": rule, "number": scale, "cardinality": kept.height + 1}
    return Vocabulary(field.model_copy(update=change), kept, counts.height)


def in_buckets(counts: pl.DataFrame, field: Field) -> pl.DataFrame:
    """Turn counts of the numbers of a field that keeps them into counts of its buckets."""
    bucket = cut_values(counts["value"], field).alias("value")
    return counts.with_columns(bucket).group_by("value").agg(pl.col("count").sum())


class Encoded(NamedTuple):
    """What rows are to a model."""

    ids: Int32[np.ndarray, "rows columns"]
    numbers: Float32[np.ndarray, "rows numbers"] | None
    """On the scales of the fields whose numbers are kept; NaN where one is missing. None where
    there is no such field."""


class Encoder:
    """Turns raw columns into ids, the same way wherever it is used."""

    def __init__(self, fields: Sequence[Field], vocabularies: Mapping[str, pl.DataFrame]) -> None:
        self.fields = tuple(fields)
        ends = accumulate(field.slots for field in self.fields)
        self.places = {
            f.name: slice(end - f.slots, end) for f, end in zip(self.fields, ends, strict=True)
        }
        """The columns of the id matrix that every field has."""
        self.numeric = [field for field in self.fields if field.number is not None]
        """Those whose numbers are kept, a column of numbers each."""
        self._values = {f.name: vocabularies[f.table]["value"] for f in self.fields}
        self._ids = {f.name: vocabularies[f.table]["id"] for f in self.fields}
        self._odd: dict[str, dict[str, int]] = {}
        self._categories = {
            f.name: pl.Enum(self._values[f.name].fill_null(""))
            for f in self.fields
            if not f.bucketed
        }

    @classmethod
    def load(cls, folder: Path | str) -> "Encoder":
        """Read the encoder of a dataset or of a run directory."""
        schema = Schema.load(Path(folder) / "schema.json")
        names = schema.field_names
        return cls(schema.fields, {name: read_vocabulary(Path(folder), name) for name in names})

    def encode(self, rows: pl.DataFrame) -> Int32[np.ndarray, "rows columns"]:
        """Return the ids of raw rows, see `read`."""
        return self.read(rows).ids

    def read(self, rows: pl.DataFrame) -> Encoded:
        """Return the ids and the numbers of raw rows; columns that are no field are ignored.

        A field has one column, or as many as it has slots.

        A value that the vocabulary does not hold, and a number that cannot be read, is
        *other*, id 0; and a number that cannot be read is a missing one.

        Raises:
            DataError: If a column is absent, or of a type that its field cannot be.
        """
        known = set(rows.columns)
        absent = [field.column for field in self.fields if field.column not in known]
        if absent:
            raise DataError(f"rows must have a column {absent[0]!r}, got {', '.join(rows.columns)}")
        rows = settled(rows.select(list(dict.fromkeys(field.column for field in self.fields))))
        matrix = np.empty((rows.height, sum(field.slots for field in self.fields)), np.int32)
        quick = [field for field in self.fields if field.plain_text]
        texts = pl.DataFrame([as_written(rows[field.name]).fill_null("") for field in quick])
        ids = texts.select(self._id_expression(field) for field in quick)
        for field in quick:
            found = ids[field.name].to_numpy(writable=True)
            self._look_again(field, texts[field.name], found)
            matrix[:, self.places[field.name].start] = found
        slow = [field for field in self.fields if not field.plain_text]
        values, unreadable = read_values(rows, slow)
        for field in slow:
            with about_column(field.column):
                matrix[:, self.places[field.name]] = self.number(field, values[field.name])
        for name, those in unreadable.items():
            matrix[those, self.places[name].start] = 0
        if not self.numeric:
            return Encoded(matrix, None)
        return Encoded(matrix, np.column_stack([on_scale(values[f.name], f) for f in self.numeric]))

    def _look_again(self, field: Field, texts: pl.Series, ids: Int32[np.ndarray, " rows"]) -> None:
        """Give texts without an id that of their canonical text.

        Texts that the vocabulary holds as they are need no canonical one; in vocabularies made
        before there was one, these are the values that were trained on.
        """
        missed = ids == 0
        if not missed.any():
            return
        rest = texts.filter(pl.Series(missed))
        unseen = rest.unique()
        found, odd = canonical(unseen, field.missing), self._odd_values(field)
        asks = (found != unseen) | bool(odd)
        if not asks.any():
            return
        found = found.filter(asks)
        places = self._numbered(field, found).tolist()
        if odd:
            places = [at or odd.get(text, 0) for at, text in zip(places, found, strict=True)]
        ids[missed] = rest.replace_strict(
            unseen.filter(asks), places, default=0, return_dtype=pl.Int32
        ).to_numpy()

    def _odd_values(self, field: Field) -> dict[str, int]:
        """Return the ids of canonical texts of which the vocabulary holds other texts."""
        if field.name not in self._odd:
            known = self._values[field.name].fill_null("")
            texts = canonical(known)
            odd = (texts != known).reverse()
            columns = (one.reverse().filter(odd) for one in (texts, self._ids[field.name]))
            self._odd[field.name] = dict(zip(*columns, strict=True))
        return self._odd[field.name]

    def kept(self, field: Field) -> list[str | None]:
        """Return the values of a field's ids 1, 2, …; a missing one is none."""
        return self._values[field.name].to_list()

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
