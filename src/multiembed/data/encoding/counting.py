"""The second stage: how rows are split, and the vocabularies of the rows that train."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, UInt8

from multiembed.base.errors import DataError
from multiembed.data.encoding.cells import split_cells
from multiembed.data.encoding.journal import Journal, part_path
from multiembed.data.encoding.parts import Interned, Part
from multiembed.data.encoding.split import Cuts, cut_order, group_codes, split_codes
from multiembed.data.encoding.values import cut_quantiles
from multiembed.data.encoding.vocabulary import add_up, number_values, write_vocabulary
from multiembed.data.options import PrepareOptions
from multiembed.data.sources.formats import plain_fields
from multiembed.data.sources.source import Source
from multiembed.data.store.schema import SPLITS, Field

FIELDS_AT_ONCE = 2
"""Fields counted side by side: each may need memory for all its distinct values."""


def count_rows(source: Source, options: PrepareOptions, journal: Journal, *, folder: Path) -> None:
    """Split the rows, count the values of those that train, and write the vocabularies."""
    if journal.fields:
        return
    fields = plain_fields(source, options)
    # Mapped anew for every field: pages that were read of a part count as memory while it is open.
    parts = [part_path(folder, place) for place in range(len(journal.parts))]
    sizes = np.zeros(len(SPLITS), np.int64)
    for place, codes in enumerate(_splits(parts, len(fields), options, given=source.given)):
        np.save(split_path(folder, place), codes)
        sizes += np.bincount(codes, minlength=len(SPLITS))
    _check_splits(source.files[0], sizes.tolist())
    if options.vocabulary == "train":
        chosen = [np.load(split_path(folder, place)) == 0 for place in range(len(parts))]
    else:
        chosen = [None] * len(parts)

    def finish(place: int) -> Field:
        field = _with_slots(fields[place], parts, place)
        counts = add_up(
            _value_counts(Part(part).field(place), rows, field)
            for part, rows in zip(parts, chosen, strict=True)
        )
        rule = field.numeric
        if rule is not None and rule.rule == "quantiles":
            rule, counts = cut_quantiles(counts)
        vocabulary = number_values(counts, field.min_count, field.max_values)
        write_vocabulary(folder, field.name, vocabulary)
        change = {"numeric": rule, "cardinality": vocabulary.height + 1}
        return field.model_copy(update=change)

    with ThreadPoolExecutor(FIELDS_AT_ONCE) as pool:
        journal.fields = list(pool.map(finish, range(len(fields))))
    journal.save(folder)


def split_path(folder: Path, place: int) -> Path:
    """Return the file that says how the rows of a part are split."""
    return part_path(folder, place).with_suffix(".npy")


def _splits(
    parts: list[Path], fields: int, options: PrepareOptions, *, given: bool
) -> Iterator[UInt8[np.ndarray, " rows"]]:
    cuts = None
    if options.split_by is not None:
        cuts = cut_order(add_up(_counts(Part(part).field(fields), None) for part in parts))
    for path in parts:
        part = Part(path)
        if given:
            yield part.given
        elif options.split_column is None:
            yield split_codes(part.numbers, options.seed)
        else:
            yield _by_column(part.field(fields), cuts, options.seed)


def _by_column(column: Interned, cuts: Cuts | None, seed: int) -> UInt8[np.ndarray, " rows"]:
    values = column.values
    codes = group_codes(values, seed) if cuts is None else cuts.codes(values)
    return codes[column.codes]


def _with_slots(field: Field, parts: list[Path], place: int) -> Field:
    """Return a field with as many slots as some cell needs, and the rows whose cell is cut."""
    if field.delimiter is None:
        return field
    slots = cut = 0
    for part in parts:
        cells = _counts(Part(part).field(place), None)
        found = split_cells(cells["value"], field)
        slots = max(slots, int(found.sizes.max(initial=0)))  # a part may hold bad rows alone
        cut += int(cells["count"].to_numpy() @ found.cut)
    return field.model_copy(update={"slots": slots, "cut": cut})


def _value_counts(
    column: Interned, rows: Bool[np.ndarray, " rows"] | None, field: Field
) -> pl.DataFrame:
    counts = _counts(column, rows)
    if field.delimiter is None:
        return counts
    return split_cells(counts["value"], field).counts(counts["count"].to_numpy())


def _counts(column: Interned, rows: Bool[np.ndarray, " rows"] | None) -> pl.DataFrame:
    codes = column.codes if rows is None else column.codes[rows]
    counts = np.bincount(codes, minlength=len(column.values))
    frame = pl.DataFrame({"value": column.values, "count": counts})
    return frame.filter(pl.col("count") > 0)


def _check_splits(file: Path, sizes: list[int]) -> None:
    for name, rows in zip(SPLITS, sizes, strict=True):
        if rows == 0:
            raise DataError(
                f"{file} must have enough rows for every split (10 do), got {sum(sizes)} and none "
                f"for {name}"
            )
