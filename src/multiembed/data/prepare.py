"""Raw rows to an encoded dataset, in three stages that can be interrupted; and a preview of it.

Rows are read once and kept as parts: codes and distinct values (`reading`). Vocabularies are
counted on the distinct values (`counting`). Ids are looked up for the distinct values and written
shard by shard (`sharding`). A journal says what is finished.
"""

import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from multiembed.base.errors import ConfigError, DataError
from multiembed.base.workplaces import workplace
from multiembed.data.encoding.counting import count_values, vocabulary_of
from multiembed.data.encoding.growth import choice_like, fields_like, options_like
from multiembed.data.encoding.journal import (
    BUSY,
    Journal,
    journal_key,
    resumable_folder,
    settled_target,
)
from multiembed.data.encoding.ordering import tell_order
from multiembed.data.encoding.plain_fields import plain_fields
from multiembed.data.encoding.reading import (
    Extras,
    PrepareProgress,
    Rejects,
    StageReport,
    write_parts,
)
from multiembed.data.encoding.sharding import encode_rows
from multiembed.data.encoding.values import read_labels, read_values, split_cells
from multiembed.data.encoding.vocabulary import Encoder, Vocabulary
from multiembed.data.options import PrepareOptions
from multiembed.data.remarks import field_remarks, sample_remarks
from multiembed.data.sources.fetching import downloading
from multiembed.data.sources.formats import is_embedded
from multiembed.data.sources.found_files import RawSource
from multiembed.data.sources.raw_formats import FORMATS
from multiembed.data.sources.read_options import ReadOptions
from multiembed.data.sources.source import RowSource
from multiembed.data.store.earlier import Earlier, read_earlier
from multiembed.data.store.schema import BadRows, Field, Schema
from multiembed.data.store.vocabularies import read_vocabulary

SAMPLE_ROWS = 100_000
TABLE_OPTIONS = tuple(
    name for name in ReadOptions.model_fields if name != "split_by" and "download" not in name
)


def prepare(
    source: RawSource,
    dataset: Path | str,
    options: PrepareOptions | None = None,
    *,
    progress: PrepareProgress | None = None,
    remark: Callable[[str], None] | None = None,
) -> Schema:
    """Encode the rows of `source` into a new directory `dataset`, and return its schema.

    Equal input and options give equal bytes, whatever the number of threads. A call that was
    killed or ran out of disk is taken up where it stopped by an equal call.

        >>> import multiembed as me
        >>> import polars as pl
        >>> pl.DataFrame({"click": [0, 1] * 20, "site": list("aabbc") * 8}).write_csv("clicks.csv")
        >>> schema = me.prepare("clicks.csv", "clicks", me.PrepareOptions(label="click"))
        >>> schema.fields[0].cardinality, schema.splits["train"].rows
        (4, 32)

    Args:
        source: A file, a directory, a pattern or a URL, or several of them; a mapping from
            `train`, `valid` and `test` to these keeps a split that is there already; the word
            `flights` stands for the records of that format.
        dataset: Directory to write.
        options: How the rows are read and encoded; a table with column names if nothing is said.
        progress: Called with the stage (`count` or `encode`), the bytes that are done, all bytes,
            and the speed in words.
        remark: Called with lines about what was left out or skipped, once all is written.

    Raises:
        ConfigError: If options contradict each other or the source.
        DataError: If `source` cannot be read as asked, or `dataset` is there already.
    """
    asked, tell = options or PrepareOptions(), remark or (lambda line: None)
    again = asked.overwrite
    target = settled_target(Path(dataset), overwrite=again)
    with workplace(target, busy=BUSY) as place, downloading(place) as downloads:
        raw, options = open_source(source, asked, downloads)
        key = journal_key(raw, options)
        with resumable_folder(place, target, key, overwrite=again) as (folder, journal):
            report = progress or (lambda stage, done, total, speed: None)
            schema = _prepare(raw, options, journal, folder=folder, progress=report)
    for line in raw.reader.remarks:
        tell(line)
    return schema


def _prepare(
    source: RowSource,
    options: PrepareOptions,
    journal: Journal,
    *,
    folder: Path,
    progress: PrepareProgress,
) -> Schema:
    write_parts(source, options, journal, folder=folder, progress=progress)
    with ThreadPoolExecutor(1) as pool:
        described = pool.submit(source.described)
        count_values(source, options, journal, folder=folder)
        names = [field.name for field in journal.fields if field.shares is None]
        vocabularies = {name: read_vocabulary(folder, name) for name in names}
        report = StageReport("encode", source.size, progress)
        writer = encode_rows(
            Encoder(journal.fields, vocabularies),
            options,
            journal,
            folder=folder,
            report=lambda rows, share: report.add(rows, round(source.size * share)),
        )
        sources = described.result()
    if journal_key(source, options) != journal.key:
        raise DataError(
            f"{source.files[0]} must not change while it is read, got another size or time"
        )
    return writer.finish(
        source.label,
        journal.fields,
        weight=options.weight,
        bad_rows=journal.bad_rows,
        sources=sources,
        options=options.model_dump(mode="json"),
        order=journal.order,
        grown_from=_grown_from(source.like, options),
    )


def _grown_from(like: Earlier | None, options: PrepareOptions) -> tuple[str, ...]:
    if like is None:
        return ()
    return (*like.schema.grown_from, *([like.values] if options.grow else []))


def open_source(
    source: RawSource, asked: PrepareOptions, downloads: Path
) -> tuple[RowSource, PrepareOptions]:
    """Open raw rows of the format that the options name; return all options that hold for them.

    Args:
        source: As for `prepare`.
        asked: As for `prepare`.
        downloads: Directory for what comes from URLs.

    Raises:
        ConfigError: If options contradict each other or the source.
        DataError: If there is no such file, or its columns are not the format's.
    """
    like, options = None if asked.like is None else read_earlier(asked.like), asked
    if like is not None:
        options = options_like(asked, like, given=isinstance(source, Mapping))
    elif is_embedded(source) and "format" not in asked.model_fields_set:
        options = asked.model_copy(update={"format": str(source)})
    _check_options(options)
    format, split = FORMATS[options.format], options.split_column
    # What was dropped earlier need not be there: the fields are known.
    reading = options if like is None else options.model_copy(update={"drop": ()})
    reader = format.open_all(source, downloads, reading)
    if reader.given and split:
        raise ConfigError(f"split_by must be left out if files are given by split, got {split}")
    for extra in options.extra_columns:
        if extra not in reader.names:
            name = "split_by" if extra == split else "weight" if extra == options.weight else "keep"
            raise DataError(
                f"{name} must be a column of {reader.files[0]} ({', '.join(reader.names)}), "
                f"got {extra!r}"
            )
    if like is None:
        label, columns = format.choose(reader, options)
        fields = plain_fields(columns, options)
    else:
        label, columns = choice_like(reader, like)
        fields = fields_like(like, asked, options)
    return RowSource(reader, label, columns, options.extra_columns, tuple(fields), like), options


def _check_options(options: PrepareOptions) -> None:
    for name, needs in (("retire", "grow"), ("grow", "like")):
        if getattr(options, name) and not getattr(options, needs):
            raise ConfigError(f"{name} must stand with {needs}, got none")
    if options.split_by is not None and options.split_by_group is not None:
        raise ConfigError(
            f"split_by_group must be left out if split_by is given, got {options.split_by_group!r}"
        )
    format = FORMATS[options.format]
    for name in TABLE_OPTIONS:
        if not format.table_options and getattr(options, name):
            raise ConfigError(
                f"{name} must be left out unless format is table, got {options.format}"
            )
    if format.embedded and options.split_column:
        raise ConfigError(
            f"split_by must be left out for format {options.format}, got {options.split_column!r}"
        )


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
    remarks: tuple[str, ...] = ()
    """What is odd about them or was left out, in one line each."""


def preview(
    source: RawSource, options: PrepareOptions, downloads: Path, *, rows: int = SAMPLE_ROWS
) -> Preview:
    """Read the first rows of a source and say what would become of its columns.

    Args:
        source: As for `prepare`.
        options: As for `prepare`.
        downloads: Directory for what comes from URLs.
        rows: How many rows are read.

    Raises:
        DataError: If the source cannot be read as asked.
    """
    raw, options = open_source(source, options, downloads)
    plain, order = raw.fields, tell_order(raw.reader, options)
    extras = Extras(order, options)
    rejects = Rejects(sys.maxsize, BadRows(), 0, rules=extras.rules)
    blocks: list[pl.DataFrame] = []
    for block in raw.blocks():
        labels = read_labels(block.rows, raw.label, options.positive, options.missing)
        _, unreadable = extras.read(block.rows)
        found = read_values(block.rows, plain).unreadable
        unreadable |= {field.column: found[field.name] for field in plain if field.name in found}
        rejects.add(block, labels, unreadable)
        blocks.append(block.rows)
        if sum(part.height for part in blocks) >= rows:
            break
    sample = pl.concat(blocks).head(rows) if blocks else pl.DataFrame()
    if sample.height == 0:
        raise DataError(f"{raw.files[0]} must hold rows, got none that can be read")
    labels = read_labels(sample, raw.label, options.positive, options.missing)
    known = labels.drop_nulls()
    fields: list[FieldPreview] = []
    kept: dict[str, pl.Series] = {}
    number = partial(vocabulary_of, like=raw.like, options=options)
    for field in plain:
        fields.append(_field_preview(sample, field, kept, number))
    keys = pl.Series(dtype=pl.Float64) if order is None else order.keys(sample[order.column])[0]
    distinct = [(one.field, one.values) for one in fields]
    return Preview(
        raw.label,
        sample.height,
        rejects.record.count,
        float(known.sum()) / max(1, len(known)),
        tuple(fields),
        (
            *rejects.record.first,
            *rejects.advice,
            *sample_remarks(labels, distinct, keys, order),
            *field_remarks(one.field for one in fields),
            *raw.reader.remarks,
        ),
    )


def _field_preview(
    sample: pl.DataFrame,
    field: Field,
    kept: dict[str, pl.Series],
    number: Callable[[pl.DataFrame, Field], Vocabulary],
) -> FieldPreview:
    """Look at a field.

    Args:
        sample: Some rows.
        field: As it is before its values are counted.
        kept: The values that fields before it keep; is added to.
        number: Makes a vocabulary of counts of values.
    """
    values = read_values(sample, [field]).columns.to_series()
    counts = values.alias("value").value_counts(name="count")
    if field.multivalued:
        cells = split_cells(counts["value"], field)
        counts = cells.counts(counts["count"].to_numpy().astype(np.int64))
        field = field.model_copy(update={"slots": max(1, int(cells.sizes.max()))})
    missing = values.null_count() if field.bucketed or field.number else int((values == "").sum())
    total = max(1, int(counts["count"].sum()))
    if field.shares is not None:
        known = kept[field.shares]
        there = counts.filter(pl.col("value").is_in(known.to_list()))
        field = field.model_copy(update={"cardinality": len(known) + 1})
        rare = 1 - int(there["count"].sum()) / total if counts.height else 0.0
        return FieldPreview(field, counts.height, rare, missing / len(values))
    found = number(counts, field)
    kept[field.name] = found.kept["value"]
    rare = 1 - int(found.kept["count"].sum()) / total
    return FieldPreview(found.field, found.distinct, rare, missing / len(values))
