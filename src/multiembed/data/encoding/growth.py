"""New rows encoded like earlier ones: their options and fields, and how vocabularies grow.

A vocabulary that grows keeps the ids of its values. A value that no training row had for
`retire` growths is *other* from then on; its id is empty until a new value takes it.
"""

import polars as pl

from multiembed.base.errors import ConfigError, DataError
from multiembed.base.validation import checked
from multiembed.data.encoding.vocabulary import Vocabulary, in_buckets
from multiembed.data.options import PrepareOptions
from multiembed.data.sources.formats import Choice
from multiembed.data.sources.source import Column, RowReader
from multiembed.data.store.earlier import Earlier
from multiembed.data.store.schema import Field

OF_THE_ROWS = {
    *("split_by", "split_by_group", "seed", "keep", "weight", "shard_rows", "overwrite"),
    *("max_bad_rows", "max_download_bytes", "max_download_seconds", "like", "grow", "retire"),
}
"""Options that say nothing about what a value is: new rows may have their own."""
ADMISSION = {"min_count", "field_min_counts"}
"""Options that say which new values get an id."""
RETIRED = -1
"""Stands in the place of the growth that last saw a value, where the id has none any more."""


def options_like(asked: PrepareOptions, earlier: Earlier, *, given: bool) -> PrepareOptions:
    """Return the options of an earlier preparation, with those that new rows have of their own.

    Args:
        asked: Options of the new rows; those left out are the earlier ones.
        earlier: What the rows are encoded like.
        given: Whether files say how rows are split.

    Raises:
        ConfigError: If an option contradicts the earlier ones.
        DataError: If the earlier dataset does not say how it was prepared.
    """
    schema, path = earlier.schema, earlier.path
    if "format" not in schema.options:
        raise DataError(f"{path} must say how its rows were prepared, got no options in its schema")
    known = {n: schema.options[n] for n in PrepareOptions.model_fields if n in schema.options}
    there = checked(PrepareOptions, known, at=f"{path}: ")
    own = OF_THE_ROWS | (ADMISSION if asked.grow else set())
    said = asked.model_fields_set
    for name in sorted(said - own):
        here, before = getattr(asked, name), getattr(there, name)
        if here != before:
            unless = " unless grow is on" if name in ADMISSION else ""
            raise ConfigError(f"{name} must be that of {path}, {before!r}{unless}, got {here!r}")
    update = {name: getattr(asked, name) for name in said & own}
    if given or said & {"split_by", "split_by_group"}:
        update = dict.fromkeys(("split_by", "split_by_group")) | update
    update |= {"like": asked.like, "grow": asked.grow, "retire": asked.retire}
    if "field_min_counts" in update:
        update["field_min_counts"] = {**there.field_min_counts, **asked.field_min_counts}
    return there.model_copy(update=update)


def choice_like(reader: RowReader, earlier: Earlier) -> Choice:
    """Return the label and the fields of an earlier dataset, as columns of new rows.

    Raises:
        DataError: If a column is absent.
    """
    schema = earlier.schema
    for name in (schema.label, *(field.column for field in schema.fields)):
        if name not in reader.names:
            raise DataError(
                f"{reader.files[0]} must have the columns of {earlier.path}, got no {name!r} "
                f"among {', '.join(reader.names[:20])}"
            )
    columns = (
        Column(
            field.name,
            field.kind,
            field.date,
            field.delimiter,
            field.decimal,
            field.remark,
            field.shares,
        )
        for field in schema.fields
    )
    return Choice(schema.label, tuple(columns))


def fields_like(earlier: Earlier, asked: PrepareOptions, options: PrepareOptions) -> list[Field]:
    """Return the fields of an earlier dataset, before the new rows are counted.

    Args:
        earlier: What the rows are encoded like.
        asked: As the user gave them: a count of their own for new values.
        options: As `options_like` returns them.
    """
    for name in asked.field_min_counts:
        if name not in earlier.schema.field_names:
            known = ", ".join(earlier.schema.field_names)
            raise DataError(f"a field must be one of {known}, got {name!r}")
    fields = []
    for field in earlier.schema.fields:
        count = asked.field_min_counts.get(field.name, asked.min_count or field.min_count)
        update = {"other": {}, "cut": 0, "min_count": count if asked.grow else field.min_count}
        if asked.grow and field.multivalued and field.shares is None:
            update["slots"] = options.max_cell_values
        fields.append(field.model_copy(update=update))
    return fields


def vocabulary_like(
    known: pl.DataFrame, counts: pl.DataFrame, field: Field, *, growth: int | None, retire: int
) -> Vocabulary:
    """Return an earlier vocabulary with the counts of new rows, grown where it is to grow.

    Values keep their ids. New ones that are frequent enough first take ids that stand empty, then
    follow behind, by falling count, ties by value.

    Args:
        known: Columns `value`, `count`, `id`, and `seen` where it grew before: the growth whose
            training rows last had the value.
        counts: Columns `value`, as `read_values` gives it, and `count`.
        field: Says which new values are rare, and how many are kept at most.
        growth: Number of this growth, from 1; None leaves the values as they are.
        retire: Growths without a value after which it is *other*; 0 for never.
    """
    counts = counts if field.number is None else in_buckets(counts, field)
    text = pl.col("value").cast(pl.String).fill_null("")
    counted, before = counts.with_columns(text), known.with_columns(text)
    kept = before.drop("count").join(counted, on="value", how="left", maintain_order="left")
    kept = kept.with_columns(pl.col("count").fill_null(0).cast(pl.Int64))
    if growth is not None:
        kept = _marked(kept, field, growth=growth, retire=retire)
        fresh = counted.join(before, on="value", how="anti")
        kept = _admitted(kept, fresh, field, growth=growth)
    value = pl.when(pl.col("value") != "").then(pl.col("value")).alias("value")
    kept = kept.select(value, "count", "id", *(["seen"] if "seen" in kept.columns else []))
    update = {"cardinality": kept.height + 1}
    return Vocabulary(field.model_copy(update=update), kept, counts.height)


def _marked(kept: pl.DataFrame, field: Field, *, growth: int, retire: int) -> pl.DataFrame:
    """Note which values the rows have, and empty the ids of those not seen for too long."""
    seen = pl.col("seen") if "seen" in kept.columns else pl.lit(0, pl.Int32)
    here = (seen != RETIRED) & (pl.col("count") > 0)
    kept = kept.with_columns(
        pl.when(here).then(growth).otherwise(seen).cast(pl.Int32).alias("seen")
    )
    if not retire or field.bucketed:  # buckets are few, and none is worth another's place
        return kept
    live = (pl.col("seen") != RETIRED) & (pl.col("value") != "")
    gone = live & (growth - pl.col("seen") >= retire)
    name = pl.format("⟨retired {}⟩", pl.col("id"))
    return kept.with_columns(
        pl.when(gone).then(name).otherwise("value").alias("value"),
        pl.when(gone).then(RETIRED).otherwise("seen").cast(pl.Int32).alias("seen"),
    )


def _admitted(
    kept: pl.DataFrame, fresh: pl.DataFrame, field: Field, *, growth: int
) -> pl.DataFrame:
    """Give new values that are frequent enough the ids that stand empty, then those behind."""
    fresh = fresh.filter(pl.col("count") >= field.min_count)
    fresh = fresh.sort(["count", "value"], descending=[True, False])
    empty = kept.filter(pl.col("seen") == RETIRED)
    if field.max_values is not None:
        fresh = fresh.head(max(0, field.max_values - kept.height + empty.height))
    behind = pl.int_range(kept.height + 1, kept.height + 1 + fresh.height, eager=True)
    ids = pl.concat([empty["id"], behind.cast(pl.Int32)]).head(fresh.height)
    new = fresh.with_columns(
        pl.col("count").cast(pl.Int64), ids.alias("id"), pl.lit(growth, pl.Int32).alias("seen")
    )
    rest = kept.join(new, on="id", how="anti").select(new.columns)
    return pl.concat([rest, new]).sort("id")
