"""Raw rows to an encoded dataset: read once to count values, once more to encode them."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int64

from multiembed.data.formats import open_source, plain_fields
from multiembed.data.options import PrepareOptions
from multiembed.data.rejects import Rejects
from multiembed.data.schema import SPLITS, Field, Schema, SplitName, SplitSummary
from multiembed.data.shards import Shard, SplitWriter
from multiembed.data.sources import Source, ahead
from multiembed.data.split import split_codes
from multiembed.data.staging import check_target, staged
from multiembed.data.values import cut_quantiles, read_labels, read_values
from multiembed.data.vocabulary import Counter, Encoder, number_values, write_vocabulary
from multiembed.errors import DataError

__all__ = ["PrepareOptions", "Progress", "prepare"]

Progress = Callable[[str, int, int], None]
"""Called with the stage (`count` or `encode`), the bytes read so far, and all bytes."""


def prepare(
    source: Path | str,
    dataset: Path | str,
    options: PrepareOptions,
    *,
    progress: Progress | None = None,
) -> Schema:
    """Encode the rows of `source` into a new directory `dataset`.

    `source` is a file, or the word `flights` for the records of that format. Equal input
    and options give equal bytes, whatever the number of threads.

    Raises:
        DataError: If `source` cannot be read as asked, or `dataset` is there already.
    """
    report = progress or _silent
    target = Path(dataset)
    check_target(target, overwrite=options.overwrite)
    raw = open_source(source, options)
    before = raw.fingerprint()
    with staged(target, overwrite=options.overwrite) as folder:
        rejects = Rejects(options.max_bad_rows)
        counter = _count(raw, options, rejects, report)
        encoder = _make_encoder(raw, options, counter, folder)
        with ThreadPoolExecutor(1) as pool:
            described = pool.submit(raw.described)
            totals = _encode(
                raw, options, encoder, rejected=rejects.numbers, folder=folder, report=report
            )
        _check_splits(source, totals.summaries())
        if raw.fingerprint() != before:
            raise DataError(f"{source} must not change while it is read, got another size or time")
        schema = Schema(
            label=raw.label,
            fields=totals.described(encoder.fields),
            splits=totals.summaries(),
            bad_rows=rejects.record,
            sources=described.result(),
            options=options.model_dump(mode="json"),
        )
        schema.save(folder)
    return schema


def _count(source: Source, options: PrepareOptions, rejects: Rejects, report: Progress) -> Counter:
    """Read all rows once: count the values of those that count, reject the unreadable."""
    fields = plain_fields(source, options)
    counter = Counter([field.name for field in fields])
    for block in ahead(source.blocks()):
        values, unreadable = read_values(block.rows, fields)
        chosen = ~rejects.add(block, source.label, unreadable)
        if options.vocabulary == "train":
            chosen &= split_codes(block.numbers, options.seed) == 0
        counter.add(values if chosen.all() else values.filter(pl.Series(chosen)))
        report("count", block.position, source.size)
    if rejects.readable == 0:
        raise DataError(f"{source.files[0]} must hold rows, got none that can be read")
    return counter


def _make_encoder(
    source: Source, options: PrepareOptions, counter: Counter, folder: Path
) -> Encoder:
    """Number the frequent values of every field and write the vocabularies."""
    fields, vocabularies = [], {}
    for field in plain_fields(source, options):
        counts, rule = counter.counts(field.name), field.numeric
        if rule is not None and rule.rule == "quantiles":
            rule, counts = cut_quantiles(counts)
        vocabulary = number_values(counts, field.min_count)
        write_vocabulary(folder, field.name, vocabulary)
        vocabularies[field.name] = vocabulary
        change = {"numeric": rule, "cardinality": vocabulary.height + 1}
        fields.append(field.model_copy(update=change))
    return Encoder(fields, vocabularies)


class _Totals:
    """Sizes of the splits, and how often every field is *other* in each."""

    def __init__(self, fields: int) -> None:
        self._rows = np.zeros(len(SPLITS), np.int64)
        self._positives = np.zeros(len(SPLITS), np.int64)
        self._other = np.zeros((len(SPLITS), fields), np.int64)

    def add(self, code: int, rows: Shard) -> None:
        """Count some rows of one split."""
        self._rows[code] += len(rows.labels)
        self._positives[code] += np.count_nonzero(rows.labels)
        self._other[code] += np.count_nonzero(rows.ids == 0, axis=0)

    def summaries(self) -> dict[SplitName, SplitSummary]:
        """Return the size of every split."""
        sizes = zip(SPLITS, self._rows.tolist(), self._positives.tolist(), strict=True)
        return {name: SplitSummary(rows=rows, positives=ones) for name, rows, ones in sizes}

    def described(self, fields: Sequence[Field]) -> tuple[Field, ...]:
        """Return the fields with their counts of *other*."""
        counts = self._other.T.tolist()
        return tuple(
            field.model_copy(update={"other": dict(zip(SPLITS, count, strict=True))})
            for field, count in zip(fields, counts, strict=True)
        )


def _encode(
    source: Source,
    options: PrepareOptions,
    encoder: Encoder,
    *,
    rejected: Int64[np.ndarray, " rejected"],
    folder: Path,
    report: Progress,
) -> _Totals:
    """Read all rows again and write their ids."""
    writers = [SplitWriter(folder / name, options.shard_rows) for name in SPLITS]
    totals = _Totals(len(encoder.fields))
    for block in ahead(source.blocks()):
        kept = ~np.isin(block.numbers, rejected)
        rows = block.rows if kept.all() else block.rows.filter(pl.Series(kept))
        numbers = block.numbers[kept]
        codes = split_codes(numbers, options.seed)
        encoded = Shard(encoder.encode(rows), read_labels(rows, source.label).to_numpy())
        for code, writer in enumerate(writers):
            chosen = np.flatnonzero(codes == code)
            part = encoded.take(chosen)
            totals.add(code, part)
            writer.add(numbers[chosen], part)
        report("encode", block.position, source.size)
    for writer in writers:
        writer.flush()
    return totals


def _check_splits(source: Path | str, splits: dict[SplitName, SplitSummary]) -> None:
    rows = sum(split.rows for split in splits.values())
    for name, split in splits.items():
        if split.rows == 0:
            raise DataError(
                f"{source} must have enough rows for every split (10 do), got {rows} and none "
                f"for {name}"
            )


def _silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""
