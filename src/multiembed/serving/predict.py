"""Raw rows in, the same rows with a probability out, streamed."""

from collections.abc import Callable
from pathlib import Path

import polars as pl

from multiembed.errors import ConfigError
from multiembed.serving.raw import open_rows, whole_batches
from multiembed.serving.rows_out import check_out, writing
from multiembed.training.run import EVALUATION_BATCH, Run

Progress = Callable[[int, int], None]
"""Called with the bytes read so far, and all bytes."""


def predict(
    run: Run,
    raw: Path | str,
    out: Path | str,
    *,
    column: str = "probability",
    progress: Progress | None = None,
) -> int:
    """Write the rows of `raw`, in their order, with a column of probabilities; return how many.

    Rows are scored in the batches of an evaluation, so that the rows of a split get the very
    probabilities that its evaluation measured. Memory does not grow with their number.

    Args:
        run: A trained run.
        raw: A file of the format that the run's dataset was prepared from, or the word `flights`;
            the label may be absent.
        out: File to write; its name ends in .csv, .tsv, .jsonl, .parquet or .arrow.
        column: Name of the new column.
        progress: Called after every block.

    Raises:
        ConfigError: If `out` cannot be written as asked, or has a column of that name already.
        DataError: If `raw` cannot be read; then nothing is written.
    """
    target = Path(out)
    check_out(target)
    source, names = open_rows(raw, run.schema)
    if column in names:
        raise ConfigError(f"column must be a new name, got {column!r}, which {raw} has")
    if target.exists() and any(target.samefile(file) for file in source.files):
        raise ConfigError(f"{out} must be another file than the rows that are read, got the same")
    rows = 0
    with writing(target) as writer:
        for block, position in whole_batches(source, EVALUATION_BATCH):
            probabilities = pl.Series(column, run.predict_proba(block))
            writer.write(block.with_columns(probabilities))
            rows += block.height
            if progress is not None:
                progress(position, source.size)
        if rows == 0:
            columns = dict.fromkeys(names, pl.String) | {column: pl.Float32}
            writer.write(pl.DataFrame(schema=columns))
    return rows
