"""What a preparation would make of some raw rows, without writing anything."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from multiembed.base.errors import DataError
from multiembed.data.encoding.cells import split_cells
from multiembed.data.encoding.values import cut_quantiles, read_labels, read_values
from multiembed.data.encoding.vocabulary import number_values
from multiembed.data.options import PrepareOptions
from multiembed.data.sources.file_series import RawSource
from multiembed.data.sources.formats import open_source, plain_fields
from multiembed.data.store.schema import Field

SAMPLE_ROWS = 100_000


class FieldPreview(NamedTuple):
    """One field as the first rows show it."""

    field: Field
    values: int
    """Distinct values among these rows, a missing one included."""
    rare: float
    """Share of these values that are too rare among them to be kept."""
    missing: float
    """Share of these rows without a value."""


class Preview(NamedTuple):
    """What the first rows of a source show."""

    label: str
    rows: int
    bad_rows: int
    positives: float
    """Share of these rows with label 1."""
    fields: tuple[FieldPreview, ...]


def preview(
    source: RawSource, options: PrepareOptions, downloads: Path, *, rows: int = SAMPLE_ROWS
) -> Preview:
    """Read the first rows of a source and say what would become of its columns.

    Raises:
        DataError: If the source cannot be read as asked.
    """
    raw = open_source(source, options, downloads)
    blocks: list[pl.DataFrame] = []
    bad = 0
    for block in raw.blocks():
        blocks.append(block.rows)
        bad += block.bad_count
        if sum(part.height for part in blocks) >= rows:
            break
    sample = pl.concat(blocks).head(rows) if blocks else pl.DataFrame()
    if sample.height == 0:
        raise DataError(f"{raw.files[0]} must hold rows, got none that can be read")
    labels = read_labels(sample, raw.label)
    known = labels.drop_nulls()
    return Preview(
        raw.label,
        sample.height,
        bad + labels.null_count(),
        float(known.sum()) / max(1, len(known)),
        tuple(_field(sample, field) for field in plain_fields(raw, options)),
    )


def _field(sample: pl.DataFrame, field: Field) -> FieldPreview:
    values = read_values(sample, [field]).columns.to_series()
    counts = values.alias("value").value_counts(name="count")
    if field.delimiter is not None:
        cells = split_cells(counts["value"], field)
        counts = cells.counts(counts["count"].to_numpy().astype(np.int64))
        field = field.model_copy(update={"slots": int(cells.sizes.max())})
    rule = field.numeric
    if rule is not None and rule.rule == "quantiles":
        rule, counts = cut_quantiles(counts)
    kept = number_values(counts, field.min_count, field.max_values)
    total = int(counts["count"].sum())
    missing = values.null_count() if field.bucketed else int((values == "").sum())
    return FieldPreview(
        field.model_copy(update={"cardinality": kept.height + 1, "numeric": rule}),
        counts.height,
        1 - int(kept["count"].sum()) / total,
        missing / len(values),
    )
