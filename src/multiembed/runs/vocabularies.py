"""The vocabularies of a run, refused where they do not fit its schema."""

from pathlib import Path

import numpy as np
import polars as pl

from multiembed.base.errors import DataError
from multiembed.data.encoding.vocabulary import read_vocabulary
from multiembed.data.store.schema import Field, Schema

COLUMNS = {"value": pl.String, "count": pl.Int64, "id": pl.Int32}


def read_vocabularies(folder: Path, schema: Schema) -> dict[str, pl.DataFrame]:
    """Read the kept values of every field (null: missing), their counts and their ids.

    Raises:
        DataError: If a vocabulary is not whole or is another field's.
    """
    return {field.name: _checked(folder, field) for field in schema.fields}


def _checked(folder: Path, field: Field) -> pl.DataFrame:
    try:
        vocabulary = read_vocabulary(folder, field.name)
        problem = _problem(vocabulary, field)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise _refused(folder, field, (str(error).splitlines() or ["nothing"])[0]) from None
    if problem:
        raise _refused(folder, field, problem)
    return vocabulary


def _refused(folder: Path, field: Field, problem: str) -> DataError:
    return DataError(
        f"{folder}: vocabulary of {field.name!r} must number each of {field.cardinality - 1} "
        f"values once, got {problem}"
    )


def _problem(vocabulary: pl.DataFrame, field: Field) -> str:
    if dict(vocabulary.schema) != COLUMNS:
        return f"columns {', '.join(vocabulary.columns)}"
    if vocabulary.height != field.cardinality - 1:
        return f"{vocabulary.height} values"
    numbers = pl.Series("id", np.arange(1, field.cardinality, dtype=np.int32))
    if not vocabulary["id"].equals(numbers):
        return "other ids"
    values = vocabulary["value"]
    if field.kind == "numeric" and field.bucketed:
        buckets = values.cast(pl.Int64, strict=False)
        if buckets.null_count() != values.null_count():
            return "text where numbers of buckets should be"
        values = buckets
    return "a value twice" if values.n_unique() != len(values) else ""
