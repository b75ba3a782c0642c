"""Raw values kept beside the ids, so that rows of one value can be told from others exactly.

Of columns that users ask for every value is kept; of categories those alone of test rows whose id
is *other*, since any other id is its value. One Parquet file per shard.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int32, Int64

from multiembed.base.errors import DataError
from multiembed.base.files import write_whole
from multiembed.data.store.dataset import Dataset
from multiembed.data.store.schema import Schema, SplitName
from multiembed.data.store.shards import read_frame, shard_name

FOLDER = "kept"
OTHERS = "others"
_ROWS_AT_ONCE = 1 << 16
NO_GROUP = -1
"""Stands for rows without a value, and where it is not known which."""


def write_kept(folder: Path, split: SplitName, parts: Sequence[pl.DataFrame], number: int) -> None:
    """Write the kept values of a shard: a column of text each, null where there is none."""
    _write(folder / FOLDER / split / shard_name(number), parts)


def others_of(field: int, rows: Int64[np.ndarray, " others"], values: pl.Series) -> pl.DataFrame:
    """Return the values of a field that are *other*, as hashes: two are told apart, not read.

    Args:
        field: Its place.
        rows: Places in the split.
        values: Text.
    """
    places = pl.Series(rows, dtype=pl.UInt32)
    return pl.DataFrame({"row": places, "value": values.hash(0)}).with_columns(
        pl.lit(field, pl.UInt16).alias("field")
    )


def write_others(folder: Path, parts: Sequence[pl.DataFrame], number: int) -> None:
    """Write the values of a shard that are *other*, as `others_of` gives them, row after row."""
    # Parts end where reading did, which must not show.
    present = [part for part in parts if part.height]
    _write(folder / OTHERS / shard_name(number), sorted(present, key=lambda part: part["field"][0]))


def groups_of(dataset: Dataset, split: str, column: str) -> Int64[np.ndarray, " rows"]:
    """Number the values of a column, row by row; -1 where there is none or it is not known.

    Args:
        dataset: Prepared so that the column is a field, or kept.
        split: `train`, `valid` or `test`.
        column: Its name.

    Raises:
        DataError: If the dataset cannot tell its values apart.
    """
    if column in asked_for(dataset.schema):
        return _numbered(_kept(dataset, split, column))
    ids = _ids(dataset, split, column).astype(np.int64)
    groups = np.where(ids > 0, ids, NO_GROUP)
    vocabulary = dataset.vocabulary(column)
    groups[np.isin(ids, vocabulary.filter(pl.col("value").is_null())["id"])] = NO_GROUP
    files = sorted((dataset.path / OTHERS).glob("*.parquet")) if split == "test" else []
    if files:
        others = pl.concat(map(read_frame, files))
        others = others.filter(pl.col("field") == dataset.field_names.index(column))
        groups[others["row"].to_numpy()] = vocabulary.height + _numbered(others["value"])
    return groups


def values_of(dataset: Dataset, split: str, column: str) -> pl.Series:
    """Return the values of a column as text, row by row; null where there is none or it is *other*.

    Args:
        dataset: Prepared so that the column is a field, or kept.
        split: `train`, `valid` or `test`.
        column: Its name.

    Raises:
        DataError: If the dataset cannot tell its values apart.
    """
    if column in asked_for(dataset.schema):
        return _kept(dataset, split, column)
    ids = _ids(dataset, split, column)
    return pl.concat([pl.Series([None], dtype=pl.String), dataset.vocabulary(column)["value"]])[ids]


def asked_for(schema: Schema) -> tuple[str, ...]:
    """Return the columns whose every value is kept."""
    names = schema.options.get("keep", [])
    return tuple(str(name) for name in names) if isinstance(names, list) else ()


def _ids(dataset: Dataset, split: str, column: str) -> Int32[np.ndarray, " rows"]:
    place = _place(dataset.schema, column)
    batches = dataset.split(split).batches(_ROWS_AT_ONCE)
    return np.concatenate([batch.ids[:, place] for batch in batches])


def _kept(dataset: Dataset, split: str, column: str) -> pl.Series:
    for file in (files := sorted((dataset.path / FOLDER / split).glob("*.parquet"))):
        with file.open("rb") as first:
            if column not in pl.read_parquet_schema(first):
                files = []
    if not files:
        raise DataError(f"{dataset.path} must hold the kept values of {column!r}, got none")
    return pl.concat(read_frame(file, [column]) for file in files)[column]


def _numbered(values: pl.Series) -> Int64[np.ndarray, " rows"]:
    return values.rank("dense").cast(pl.Int64).fill_null(NO_GROUP).to_numpy()


def _place(schema: Schema, column: str) -> int:
    """Return the column of ids whose equality is that of a field's values, or say why none is."""
    place = 0
    for field in schema.fields:
        if field.name == column:
            if field.slots > 1 or field.shares is not None:
                raise DataError(f"group must be a field of one value per row, got {column!r}")
            if field.hash_size or (field.bucketed and field.numeric):
                how = "hashed" if field.hash_size else "numbers in buckets"
                raise DataError(
                    f"group must be a field whose values have ids of their own, got {column!r}, "
                    f"which is {how}: prepare with its values kept (--keep {column})"
                )
            return place
        place += field.slots
    known = ", ".join([*schema.field_names, *asked_for(schema)])
    raise DataError(
        f"group must be one of the fields and kept columns {known}, got {column!r} "
        f"(prepare --keep {column} keeps a column)"
    )


def _write(path: Path, parts: Sequence[pl.DataFrame]) -> None:
    frame = pl.concat(parts) if parts else pl.DataFrame()
    if frame.height:
        path.parent.mkdir(parents=True, exist_ok=True)

        def write(to: Path) -> None:
            with to.open("wb") as out:
                frame.write_parquet(out, compression="lz4", statistics=False)

        write_whole(path.with_suffix(".parquet"), write)
