"""Raw rows in, the same rows with a probability out, streamed."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import polars as pl

from multiembed.base.errors import ConfigError, DataError
from multiembed.base.files import place_beside
from multiembed.data.sources.fetching import UNLIMITED, DownloadLimits
from multiembed.data.sources.formats import open_to_score
from multiembed.data.sources.source import RowReader, whole_batches
from multiembed.runs.run import Run, load_run
from multiembed.runs.scoring import EVALUATION_BATCH
from multiembed.runs.unseen import FieldShares, UnseenTally, remarks_of
from multiembed.serving.output_formats import check_out
from multiembed.serving.rows_out import RowWriter, writing


class ScoredRows(int):
    """How many rows were scored, and how their values are beside those of training."""

    fields: tuple[FieldShares, ...] = ()
    """Of every field."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """One line for every field that is far beyond training."""
        return remarks_of(self.fields)

    def to_json(self) -> str:
        """Return the number of rows, and every field's shares, as JSON."""
        fields = {field.name: asdict(field) for field in self.fields}
        for shares in fields.values():
            del shares["name"]
        return json.dumps({"rows": int(self), "fields": fields, "remarks": self.remarks}, indent=1)


PredictProgress = Callable[[int, int], None]
"""Called with the bytes read so far, and all bytes."""


def predict(
    run: Run | Path | str,
    raw: Path | str,
    out: Path | str,
    *,
    column: str = "probability",
    strict: bool = False,
    limits: DownloadLimits = UNLIMITED,
    progress: PredictProgress | None = None,
) -> ScoredRows:
    """Write the rows of `raw`, in their order, with a column of probabilities; return how many.

    Rows are scored in the batches of an evaluation, so that the rows of a split get the very
    probabilities that its evaluation measured. Memory does not grow with their number. The number
    returned also knows how many values training never saw, and remarks where these are far more.

        >>> import multiembed as me
        >>> import polars as pl
        >>> pl.DataFrame({"click": [0, 1] * 20, "site": list("aabbc") * 8}).write_csv("raw.csv")
        >>> _ = me.prepare("raw.csv", "encoded", me.PrepareOptions(label="click"))
        >>> config = me.RunConfig(
        ...     model=me.ModelConfig(architecture="dnn", dim=2, options={"hidden": [4]}),
        ...     training=me.TrainingConfig(max_epochs=1),
        ... )
        >>> run = me.train(config, dataset=me.open_dataset("encoded"), run="trained")
        >>> scored = me.predict(run, "raw.csv", "scored.csv")
        >>> scored, scored.fields[0].unseen, scored.remarks
        (40, 0.0, ())
        >>> pl.read_csv("scored.csv").columns
        ['click', 'site', 'probability']

    Args:
        run: A trained run, or its directory.
        raw: A file, directory, pattern or URL of the format that the run's dataset was prepared
            from, or the word `flights`; the label may be absent.
        out: File to write; its name ends in .csv, .tsv, .jsonl, .parquet or .arrow.
        column: Name of the new column.
        strict: Whether a remark on a field is an error; then nothing is written.
        limits: How many bytes a download may have, and how many seconds it may take.
        progress: Called after every block.

    Raises:
        ConfigError: If `out` cannot be written as asked, or has a column of that name already.
        DataError: If `raw` cannot be read, or is remarked on and `strict`; nothing is written then.
    """
    run = load_run(run)
    check_out(target := Path(out))
    with place_beside(target) as folder:
        rows = open_to_score(raw, run.schema, folder, limits)
        if column in rows.names:
            raise ConfigError(f"column must be a new name, got {column!r}, which {raw} has")
        if target.exists() and any(target.samefile(file) for file in rows.files):
            raise ConfigError(
                f"{out} must be another file than the rows that are read, got the same"
            )
        with writing(target) as writer:
            scored = _write(run, rows, writer, column=column, progress=progress)
            if strict and scored.remarks:
                raise DataError(f"{raw} must be like training, got {'; '.join(scored.remarks)}")
            return scored


def _write(
    run: Run, rows: RowReader, writer: RowWriter, *, column: str, progress: PredictProgress | None
) -> ScoredRows:
    tally = UnseenTally(run.schema, run.vocabularies)
    for block, position in whole_batches(rows, EVALUATION_BATCH):
        writer.write(block.with_columns(pl.Series(column, run.score_rows(block, tally))))
        if progress is not None:
            progress(position, rows.size)
    if tally.rows == 0:
        columns = dict.fromkeys(rows.names, pl.String) | {column: pl.Float32}
        writer.write(pl.DataFrame(schema=columns))
    scored = ScoredRows(tally.rows)
    scored.fields = tally.fields
    return scored
