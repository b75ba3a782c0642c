"""Raw rows that stand for ids, where those that the ids were made of are not there any more."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
from jaxtyping import Bool, Int32

from multiembed.data.encoding.canonical import SINCE_1970, plain_format
from multiembed.data.encoding.vocabulary import Encoder
from multiembed.data.store.schema import Field
from multiembed.serving.bundle import bucket_starts

NOT_A_NUMBER = "no number"
NEVER_SEEN = "a value that training never saw"
MADE_UP_FROM, MADE_UP_STEP = datetime(2024, 1, 1), timedelta(hours=29)
"""Moments that pass through all hours and days."""


def rows_of(encoder: Encoder, ids: Int32[np.ndarray, "rows columns"]) -> pl.DataFrame:
    """Return raw rows, of text and lists, that an encoder turns into these ids.

    Moments and hashed values cannot be told from ids: they are made up.
    """
    columns: dict[str, pl.Series] = {}
    for field in encoder.fields:
        of_field = ids[:, encoder.places[field.name]]
        columns[field.column] = _column(encoder, field, of_field).alias(field.column)
    return pl.DataFrame(columns)


def rebuilt(encoder: Encoder) -> Bool[np.ndarray, " columns"]:
    """Say which columns of ids `rows_of` stands for, instead of making values up."""
    known = [field.date is None and field.hash_size is None for field in encoder.fields]
    return np.repeat(known, [field.slots for field in encoder.fields])


def _column(encoder: Encoder, field: Field, ids: Int32[np.ndarray, "rows slots"]) -> pl.Series:
    count = len(ids)
    if field.date is not None:
        moments = [MADE_UP_FROM + row * MADE_UP_STEP for row in range(count)]
        return pl.Series([_written(moment, field.date.format) for moment in moments])
    kept = [None, *encoder.kept(field)]
    if field.hash_size is not None:
        kept = [None, *(f"value {number}" for number in range(1, len(kept)))]
    elif field.kind == "numeric" and field.bucketed:
        starts = bucket_starts(field, np.array([int(b) for b in kept if b is not None]))
        numbers = iter(map(repr, starts.tolist()))
        kept = [None if bucket is None else next(numbers) for bucket in kept]
    kept[0] = NOT_A_NUMBER if field.kind == "numeric" else NEVER_SEEN
    if not field.multivalued:
        return pl.Series([kept[one] for one in ids[:, 0]], dtype=pl.String)
    cells = [[kept[one] for one in row if one >= 0] for row in ids]
    return pl.Series(cells, dtype=pl.List(pl.String))


def _written(moment: datetime, format: str) -> str:
    if format == "iso":
        return moment.isoformat()
    if format in SINCE_1970:
        since = (moment - datetime(1970, 1, 1)) / timedelta(microseconds=1)
        return str(round(since / SINCE_1970[format]))
    plain, fraction, offset = plain_format(format)
    return moment.strftime(plain) + fraction * ".5" + offset * " +0200"
