"""The second stage: how rows are split, and the vocabularies of the rows that train."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, Int64, UInt8

from multiembed.base.errors import DataError
from multiembed.base.files import sync_all
from multiembed.base.splitmix import GOLDEN, mix64
from multiembed.data.encoding.growth import vocabulary_like
from multiembed.data.encoding.journal import Journal, part_path
from multiembed.data.encoding.ordering import Cuts, cut_order, tell_order
from multiembed.data.encoding.parts import Interned, Part
from multiembed.data.encoding.plain_fields import share_sizes
from multiembed.data.encoding.reading import OTHER_LABELS
from multiembed.data.encoding.values import split_cells
from multiembed.data.encoding.vocabulary import Vocabulary, add_up, build_vocabulary
from multiembed.data.options import PrepareOptions
from multiembed.data.sources.source import RowSource
from multiembed.data.store.earlier import Earlier
from multiembed.data.store.schema import SPLITS, BadRows, Field
from multiembed.data.store.vocabularies import VOCABULARIES, write_vocabulary

FIELDS_AT_ONCE = 2
"""Fields counted side by side: each may need memory for all its distinct values."""
GROUPS = 64
"""Times that parts are opened at most; each takes as long as they have columns."""
GROUP = 10
"""Of every ten rows, eight train, one validates and one tests."""


def count_values(
    source: RowSource, options: PrepareOptions, journal: Journal, *, folder: Path
) -> None:
    """Split the rows, count the values of those that train, and write the vocabularies."""
    if journal.fields:
        return
    fields = source.fields
    parts = [part_path(folder, place) for place in range(len(journal.parts))]
    cuts = _cuts(source, parts, len(fields), options, journal)
    sizes = np.zeros((len(SPLITS), 2), np.int64)
    for place, path in enumerate(parts):
        part = Part(path)
        codes = _split(part, len(fields), options, cuts, given=source.reader.given)
        np.save(split_path(folder, place), codes)
        sizes += np.bincount(2 * codes + part.labels, minlength=2 * len(SPLITS)).reshape(-1, 2)
    _check_splits(source, sizes, journal.bad_rows, options.split_by_group)
    if options.vocabulary == "train":
        chosen = [np.load(split_path(folder, place)) == 0 for place in range(len(parts))]
    else:
        chosen = [None] * len(parts)

    def finish(places: range) -> list[Field]:
        # Mapped anew: pages that were read of a part count as memory while it is open.
        opened, done = [Part(path) for path in parts], []
        for place in places:
            field = _with_slots(fields[place], opened, place, like=source.like)
            if field.shares is not None:  # its values are those of another field
                done.append(field)
                continue
            counts = add_up(
                _value_counts(part.field(place), rows, field)
                for part, rows in zip(opened, chosen, strict=True)
            )
            found = vocabulary_of(counts, field, source.like, options)
            write_vocabulary(folder, field.name, found.kept)
            done.append(found.field)
        return done

    step = max(1, len(fields) // GROUPS)
    groups = [range(first, min(first + step, len(fields))) for first in range(0, len(fields), step)]
    with ThreadPoolExecutor(FIELDS_AT_ONCE) as pool:
        journal.fields = share_sizes([f for found in pool.map(finish, groups) for f in found])
    sync_all(folder / VOCABULARIES)
    journal.save(folder)


def vocabulary_of(
    counts: pl.DataFrame, field: Field, like: Earlier | None, options: PrepareOptions
) -> Vocabulary:
    """Number the values of a field: anew, or as an earlier dataset did."""
    if like is None:
        return build_vocabulary(counts, field)
    growth = 1 + len(like.schema.grown_from) if options.grow else None
    known, retire = like.vocabularies[field.name], options.retire or 0
    return vocabulary_like(known, counts, field, growth=growth, retire=retire)


def split_codes(numbers: Int64[np.ndarray, " rows"], seed: int) -> UInt8[np.ndarray, " rows"]:
    """Say for every row number to which split it belongs: 0 train, 1 valid, 2 test.

    The rows are permuted within tens, by the seed, and the ninth and the tenth of each are
    valid and test. So the shares are exact, a row's split depends on its own number only,
    and rows that come later change nothing: no pass over the file is needed beforehand.
    """
    if len(numbers) == 0:
        return np.zeros(0, np.uint8)
    first = int(numbers.min()) // GROUP
    last = int(numbers.max()) // GROUP + 1
    key = np.random.SeedSequence(seed).generate_state(1, np.uint64)
    every = np.arange(first * GROUP, last * GROUP, dtype=np.uint64)
    ranks = mix64(every * GOLDEN + key)  # the same on every machine
    order = np.argsort(ranks.reshape(-1, GROUP), axis=1, kind="stable")
    codes = np.zeros(order.shape, np.uint8)
    np.put_along_axis(codes, order[:, :1], 1, axis=1)
    np.put_along_axis(codes, order[:, 1:2], 2, axis=1)
    return codes.reshape(-1)[numbers - first * GROUP]


def group_codes(values: pl.Series, seed: int) -> UInt8[np.ndarray, " values"]:
    """Say for every distinct value to which split its rows belong: by a hash of its text."""
    key = seed.to_bytes(16, "little")
    digests = (hashlib.blake2b(text.encode(), digest_size=8, key=key) for text in values)
    ranks = np.array([int.from_bytes(digest.digest(), "little") % GROUP for digest in digests])
    return np.select([ranks == 0, ranks == 1], [1, 2], 0).astype(np.uint8)


def split_path(folder: Path, place: int) -> Path:
    """Return the file that says how the rows of a part are split."""
    return part_path(folder, place).with_suffix(".npy")


def _cuts(
    source: RowSource, parts: list[Path], fields: int, options: PrepareOptions, journal: Journal
) -> Cuts | None:
    order = tell_order(source.reader, options)
    if order is None:
        return None
    counts = add_up(_counts(Part(part).field(fields), None) for part in parts)
    cuts, journal.order = cut_order(counts, order)
    return cuts


def _split(
    part: Part, fields: int, options: PrepareOptions, cuts: Cuts | None, *, given: bool
) -> UInt8[np.ndarray, " rows"]:
    if given:
        return part.given
    if options.split_column is None:
        return split_codes(part.numbers, options.seed)
    column = part.field(fields)
    values = column.values
    codes = group_codes(values, options.seed) if cuts is None else cuts.codes(values)
    return codes[column.codes]


def _with_slots(field: Field, parts: list[Part], place: int, *, like: Earlier | None) -> Field:
    """Return a field with as many slots as some cell needs, and the rows whose cell is cut.

    Rows that are encoded like others have as many as these, at least.
    """
    if not field.multivalued:
        return field
    slots = int(field.shares is not None)  # those that are all empty have one
    if like is not None:
        slots = like.schema.fields[place].slots
    cut = empty = 0
    for part in parts:
        cells = _counts(part.field(place), None)
        found = split_cells(cells["value"], field)
        slots = max(slots, int(found.sizes.max(initial=0)))  # a part may hold bad rows alone
        cut += int(cells["count"].to_numpy() @ found.cut)
        empty += int(cells["count"].to_numpy() @ (found.sizes == 0))
    return field.model_copy(update={"slots": slots, "cut": cut, "empty": empty})


def _value_counts(
    column: Interned, rows: Bool[np.ndarray, " rows"] | None, field: Field
) -> pl.DataFrame:
    counts = _counts(column, rows)
    if not field.multivalued:
        return counts
    return split_cells(counts["value"], field).counts(counts["count"].to_numpy())


def _counts(column: Interned, rows: Bool[np.ndarray, " rows"] | None) -> pl.DataFrame:
    codes = column.codes if rows is None else column.codes[rows]
    counts = np.bincount(codes, minlength=len(column.values))
    frame = pl.DataFrame({"value": column.values, "count": counts})
    return frame.filter(pl.col("count") > 0)


def _check_splits(
    source: RowSource, sizes: Int64[np.ndarray, "splits classes"], bad: BadRows, group: str | None
) -> None:
    enough = "rows for every split (10 do)" if group is None else f"{group!r} for every split"
    for name, rows in zip(SPLITS, sizes.sum(axis=1).tolist(), strict=True):
        if rows == 0:
            raise DataError(
                f"{source.files[0]} must have enough {enough}, got {sizes.sum()} rows and none "
                f"for {name}"
            )
    classes = np.flatnonzero(sizes.sum(axis=0))
    if len(classes) == 1:
        lost = f", {bad.count} being left out: {bad.first[0]}" if bad.count else ""
        raise DataError(
            f"label {source.label} must be 0 in some rows and 1 in others, got {classes[0]} in "
            f"all {sizes.sum()} rows{lost}; {OTHER_LABELS}"
        )
