"""Embedding tables with the values behind their rows, as Parquet."""

import io
import re
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from multiembed.base.errors import DataError
from multiembed.runs.run import Run
from multiembed.serving.folders import new_folder


def write_embeddings(run: Run, out: Path | str) -> list[str]:
    """Write one Parquet file per field into a new directory; return their names.

    A row is one id: `id`, `value` (null: missing, or *other* where the id is 0), `count` (rows
    that the vocabulary was counted on), `training_count` (rows of the training split) and one
    list of numbers per embedding set, `set_0`, `set_1`, …. The file's metadata name the `field`.

    Raises:
        DataError: If `out` is there already, or the run is not whole.
    """
    embedding = run.model.embedding
    training_counts = np.split(_row_counts(run), np.cumsum(embedding.cardinalities)[:-1])
    blocks = embedding.by_field()
    names = []
    with new_folder(Path(out)) as folder:
        for number, field in enumerate(run.schema.fields):
            other = pl.DataFrame({"id": [0]}, schema={"id": pl.Int32})
            rows = pl.concat([other, run.vocabularies[field.name]], how="diagonal").with_columns(
                pl.Series("training_count", training_counts[number])
            )
            table = rows.select("id", "value", "count", "training_count").to_arrow(
                compat_level=pl.CompatLevel.oldest()
            )
            table = table.replace_schema_metadata({"field": field.name})
            block = blocks[number].detach().cpu().numpy()
            for m, of_set in enumerate(np.split(block, embedding.sets, axis=1)):
                table = table.append_column(f"set_{m}", _lists(of_set))
            names.append(f"{number:03}_{re.sub(r'[^0-9A-Za-z.-]', '_', field.name)[:80]}.parquet")
            pq.write_table(table, folder / names[-1])
    return names


def _row_counts(run: Run) -> Int[np.ndarray, " rows"]:
    """Read the counts; their header is compared with what it must be, never interpreted."""
    file, rows = run.directory.row_counts, sum(run.schema.cardinalities)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<i8", "fortran_order": False, "shape": (rows,)}
    )
    expected = header.getvalue()
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} must be readable, got: {error.strerror}") from None
    if not content.startswith(expected) or len(content) != len(expected) + 8 * rows:
        raise DataError(f"{file} must hold {rows} whole numbers as NumPy saves them, got others")
    return np.frombuffer(content, "<i8", offset=len(expected))


def _lists(rows: Float[np.ndarray, "rows dim"]) -> pa.FixedSizeListArray:
    flat = pa.array(np.ascontiguousarray(rows).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])
