"""Raw rows to an encoded dataset, in three stages that can be interrupted.

Rows are read once and kept as parts: codes and distinct values (`reading`). Vocabularies are
counted on the distinct values (`counting`). Ids are looked up for the distinct values and written
shard by shard (`encoding`). A journal says what is finished.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from multiembed.base.errors import DataError
from multiembed.data.encoding.counting import count_rows
from multiembed.data.encoding.journal import Journal, journal_key
from multiembed.data.encoding.reading import Progress, Report, read_rows
from multiembed.data.encoding.sharding import encode_rows
from multiembed.data.encoding.staging import check_target, downloading, staged
from multiembed.data.encoding.vocabulary import Encoder, read_vocabulary
from multiembed.data.options import PrepareOptions
from multiembed.data.sources.file_series import RawSource
from multiembed.data.sources.formats import open_source
from multiembed.data.sources.source import Source
from multiembed.data.store.schema import Schema

__all__ = ["PrepareOptions", "Progress", "prepare"]


def prepare(
    source: RawSource,
    dataset: Path | str,
    options: PrepareOptions,
    *,
    progress: Progress | None = None,
) -> Schema:
    """Encode the rows of `source` into a new directory `dataset`.

    `source` is a file, a directory, a pattern or a URL, or several of them; a mapping from
    `train`, `valid` and `test` to these keeps a split that is there already; the word `flights`
    stands for the records of that format. Equal input and options give equal bytes, whatever
    the number of threads. A call that was killed or ran out of disk is taken up where it stopped
    by an equal call.

    Raises:
        DataError: If `source` cannot be read as asked, or `dataset` is there already.
    """
    target = Path(dataset)
    check_target(target, overwrite=options.overwrite)
    with downloading(target) as downloads:
        raw = open_source(source, options, downloads)
        key = journal_key(raw, options)
        with staged(target, key, overwrite=options.overwrite) as (folder, journal):
            schema = _prepare(raw, options, journal, folder=folder, progress=progress or _silent)
            if journal_key(raw, options) != key:
                raise DataError(
                    f"{raw.files[0]} must not change while it is read, got another size or time"
                )
            schema.save(folder)
    return schema


def _prepare(
    source: Source, options: PrepareOptions, journal: Journal, *, folder: Path, progress: Progress
) -> Schema:
    read_rows(source, options, journal, folder=folder, progress=progress)
    with ThreadPoolExecutor(1) as pool:
        described = pool.submit(source.described)
        count_rows(source, options, journal, folder=folder)
        names = [field.name for field in journal.fields]
        vocabularies = {name: read_vocabulary(folder, name) for name in names}
        report = Report("encode", source.size, progress)
        totals = encode_rows(
            Encoder(journal.fields, vocabularies),
            options.shard_rows,
            journal,
            folder=folder,
            report=lambda rows, share: report.add(rows, round(source.size * share)),
        )
    return Schema(
        label=source.label,
        fields=totals.described(journal.fields),
        splits=totals.summaries(),
        bad_rows=journal.bad_rows,
        sources=described.result(),
        options=options.model_dump(mode="json"),
    )


def _silent(stage: str, done: int, total: int, speed: str) -> None:
    """Report nothing."""
