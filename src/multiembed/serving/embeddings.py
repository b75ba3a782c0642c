"""Embedding tables with the values behind their rows, as Parquet."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from multiembed.data.vocabulary import read_vocabulary
from multiembed.errors import DataError
from multiembed.serving.folders import new_folder
from multiembed.training.run import Run


def write_embeddings(run: Run, out: Path | str) -> list[str]:
    """Write one Parquet file per field into a new directory; return their names.

    A row is one id: `id`, `value` (null: missing, or *other* where the id is 0), `count` (rows
    that the vocabulary was counted on), `training_count` (rows of the training split) and one
    list of numbers per embedding set, `set_0`, `set_1`, ….

    Raises:
        DataError: If `out` is there already, or the run is not whole.
    """
    embedding = run.model.embedding
    training_counts = np.split(_row_counts(run), np.cumsum(embedding.cardinalities)[:-1])
    names = []
    with new_folder(Path(out)) as folder:
        for number, field in enumerate(run.schema.fields):
            vocabulary = read_vocabulary(run.path, field.name)
            if vocabulary.height != field.cardinality - 1:
                raise DataError(
                    f"vocabulary of {field.name} must hold {field.cardinality - 1} values, got "
                    f"{vocabulary.height}"
                )
            other = pl.DataFrame({"id": [0]}, schema={"id": pl.Int32})
            rows = pl.concat([other, vocabulary], how="diagonal").with_columns(
                pl.Series("training_count", training_counts[number])
            )
            table = rows.select("id", "value", "count", "training_count").to_arrow(
                compat_level=pl.CompatLevel.oldest()
            )
            block = embedding.by_field()[number].cpu().numpy()
            for m, of_set in enumerate(np.split(block, embedding.sets, axis=1)):
                table = table.append_column(f"set_{m}", _lists(of_set))
            names.append(f"{number:03}_{re.sub(r'[^0-9A-Za-z.-]', '_', field.name)[:80]}.parquet")
            pq.write_table(table, folder / names[-1])
    return names


def _row_counts(run: Run) -> Int[np.ndarray, " rows"]:
    file = run.directory.row_counts
    try:
        with file.open("rb") as content:
            counts = np.lib.format.read_array(content, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{file} must hold the counts of rows, got: {error}") from None
    rows = sum(run.schema.cardinalities)
    if counts.shape != (rows,) or not np.issubdtype(counts.dtype, np.integer):
        raise DataError(f"{file} must hold {rows} whole numbers, got {counts.dtype} {counts.shape}")
    return counts


def _lists(rows: Float[np.ndarray, "rows dim"]) -> pa.FixedSizeListArray:
    flat = pa.array(np.ascontiguousarray(rows).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])
