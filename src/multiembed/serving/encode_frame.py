"""A table in memory encoded as a dataset on disk is: values counted, numbered, split."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Int32, Int64, UInt8

from multiembed.data.encoding.values import cut_quantiles, read_values
from multiembed.data.encoding.vocabulary import Encoder, number_values, write_vocabulary
from multiembed.data.options import PrepareOptions
from multiembed.data.sources.columnar import tell_columns
from multiembed.data.store.schema import Field, NumericRule, Schema, SplitName, SplitSummary
from multiembed.data.store.shards import shard_name, write_shard

VALIDATION_SHARE = 10
"""One row in so many of each class, at least one, says when training stops."""
LABEL = "label"
NO_COLUMN = "\0"


class Encoded(NamedTuple):
    """Rows as ids, and how they became that."""

    encoder: Encoder
    vocabularies: dict[str, pl.DataFrame]
    ids: Int32[np.ndarray, "rows fields"]
    labels: UInt8[np.ndarray, " rows"]
    splits: dict[SplitName, Int64[np.ndarray, " of_split"]]
    """Numbers of the rows of every split."""


def encode_table(
    rows: pl.DataFrame,
    labels: UInt8[np.ndarray, " rows"],
    options: PrepareOptions,
    *,
    seed: int,
) -> Encoded:
    """Count the values of rows that train, number them, and encode all rows."""
    held_back = _held_back(labels, seed)
    splits: dict[SplitName, np.ndarray] = {
        "train": np.setdiff1d(np.arange(len(labels)), held_back),
        "valid": held_back,
    }
    chosen = _fields(rows, options)
    values = read_values(rows[splits["train"]], chosen).columns
    fields, vocabularies = [], {}
    for field in chosen:
        counts = values.select(pl.col(field.name).alias("value")).group_by("value")
        counts = counts.agg(pl.len().cast(pl.Int64).alias("count"))
        numeric = field.numeric
        if numeric is not None and numeric.rule == "quantiles":
            numeric, counts = cut_quantiles(counts)
        vocabulary = number_values(counts, field.min_count)
        vocabularies[field.name] = vocabulary
        change = {"numeric": numeric, "cardinality": vocabulary.height + 1}
        fields.append(field.model_copy(update=change))
    encoder = Encoder(fields, vocabularies)
    return Encoded(encoder, vocabularies, encoder.encode(rows), labels, splits)


def write_encoded(encoded: Encoded, folder: Path) -> None:
    """Write a dataset that training can open."""
    folder.mkdir()
    for name, vocabulary in encoded.vocabularies.items():
        write_vocabulary(folder, name, vocabulary)
    sizes: dict[SplitName, SplitSummary] = {}
    for name, rows in encoded.splits.items():
        (folder / name).mkdir()
        labels = encoded.labels[rows]
        write_shard(folder / name / shard_name(0), encoded.ids[rows], labels)
        sizes[name] = SplitSummary(rows=len(rows), positives=int(labels.sum()))
    Schema(label=LABEL, fields=encoded.encoder.fields, splits=sizes).save(folder / "schema.json")


def _fields(rows: pl.DataFrame, options: PrepareOptions) -> list[Field]:
    numeric = NumericRule(rule=options.numeric_rule)
    columns = tell_columns(rows, NO_COLUMN, options)
    return [
        Field(
            name=column.name,
            kind=column.kind,
            cardinality=1,
            min_count=options.threshold,
            numeric=numeric if column.kind == "numeric" else None,
        )
        for column in columns
    ]


def _held_back(labels: UInt8[np.ndarray, " rows"], seed: int) -> Int64[np.ndarray, " held_back"]:
    """Draw rows for validation, of each class its share."""
    random = np.random.default_rng(seed)
    parts: Sequence[np.ndarray] = [
        random.permutation(rows)[: max(1, len(rows) // VALIDATION_SHARE)]
        for rows in (np.flatnonzero(labels == 0), np.flatnonzero(labels == 1))
    ]
    return np.sort(np.concatenate(parts))
