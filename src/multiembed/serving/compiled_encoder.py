"""A run's encoder in a form that needs no rules: texts with ids, intervals of numbers with ids."""

import sys
from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
from jaxtyping import Bool, Float64, Int32, Int64
from pydantic import BaseModel

from multiembed.base.errors import DataError
from multiembed.data.encoding.values import read_values
from multiembed.data.encoding.vocabulary import Encoder
from multiembed.data.store.schema import Field

LARGEST = sys.float_info.max
KNOWN = {"name", "kind", "cardinality", "min_count", "numeric", "max_values", "other"}
"""What a bundle can express of a field; it must not be one that says more of itself."""
NOT_A_NUMBER = "no number"
NEVER_SEEN = "a value that training never saw"


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
    places = np.concatenate([[-LARGEST], thresholds, [np.nan]])
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
    low = np.full(count, _place(-LARGEST), np.int64)
    high = np.full(count, _place(LARGEST), np.int64)
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
