"""Raw rows in, the same rows with a probability out, streamed."""

from collections.abc import Callable
from pathlib import Path

import polars as pl

from multiembed.base.errors import ConfigError
from multiembed.data.sources.file_series import downloading
from multiembed.data.sources.formats import open_to_score
from multiembed.data.sources.source import RowReader, whole_batches
from multiembed.runs.run import Run
from multiembed.runs.scoring import EVALUATION_BATCH
from multiembed.serving.rows_out import RowWriter, check_out, writing

PredictProgress = Callable[[int, int], None]
"""Called with the bytes read so far, and all bytes."""


def predict(
    run: Run,
    raw: Path | str,
    out: Path | str,
    *,
    column: str = "probability",
    progress: PredictProgress | None = None,
) -> int:
    """Write the rows of `raw`, in their order, with a column of probabilities; return how many.

    Rows are scored in the batches of an evaluation, so that the rows of a split get the very
    probabilities that its evaluation measured. Memory does not grow with their number.

        >>> import multiembed as me
        >>> import polars as pl
        >>> pl.DataFrame({"click": [0, 1] * 20, "site": list("aabbc") * 8}).write_csv("raw.csv")
        >>> options = me.PrepareOptions(format="table", label="click")
        >>> _ = me.prepare("raw.csv", "encoded", options)
        >>> config = me.RunConfig(
        ...     model=me.ModelConfig(architecture="dnn", dim=2, options={"hidden": [4]}),
        ...     training=me.TrainingConfig(max_epochs=1),
        ... )
        >>> run = me.train(config, dataset=me.open_dataset("encoded"), run="trained")
        >>> me.predict(run, "raw.csv", "scored.csv")
        40
        >>> pl.read_csv("scored.csv").columns
        ['click', 'site', 'probability']

    Args:
        run: A trained run.
        raw: A file, directory, pattern or URL of the format that the run's dataset was prepared
            from, or the word `flights`; the label may be absent.
        out: File to write; its name ends in .csv, .tsv, .jsonl, .parquet or .arrow.
        column: Name of the new column.
        progress: Called after every block.

    Raises:
        ConfigError: If `out` cannot be written as asked, or has a column of that name already.
        DataError: If `raw` cannot be read; then nothing is written.
    """
    target = Path(out)
    check_out(target)
    with downloading(target) as folder:
        rows = open_to_score(raw, run.schema, folder)
        if column in rows.names:
            raise ConfigError(f"column must be a new name, got {column!r}, which {raw} has")
        if target.exists() and any(target.samefile(file) for file in rows.files):
            raise ConfigError(
                f"{out} must be another file than the rows that are read, got the same"
            )
        with writing(target) as writer:
            return _write(run, rows, writer, column=column, progress=progress)


def _write(
    run: Run, rows: RowReader, writer: RowWriter, *, column: str, progress: PredictProgress | None
) -> int:
    count = 0
    for block, position in whole_batches(rows, EVALUATION_BATCH):
        writer.write(block.with_columns(pl.Series(column, run.predict_proba(block))))
        count += block.height
        if progress is not None:
            progress(position, rows.size)
    if count == 0:
        columns = dict.fromkeys(rows.names, pl.String) | {column: pl.Float32}
        writer.write(pl.DataFrame(schema=columns))
    return count
