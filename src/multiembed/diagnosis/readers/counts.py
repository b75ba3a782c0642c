"""How often training met every row, as a person gives it: in memory, or in a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Num

from multiembed.base.errors import DataError
from multiembed.data.store.shards import read_frame
from multiembed.diagnosis.readers.array_files import map_array, read_archive
from multiembed.diagnosis.readers.cardinalities import is_file
from multiembed.diagnosis.readers.table import RowCounts, Table

GivenCounts = str | Path | Num[np.ndarray, " rows"] | Mapping[str, Num[np.ndarray, " rows"]]
"""A file; whole numbers by field; or one array, for one field or for all of them in order."""

_FIELD = ("field", "feature", "table", "name", "column")
_ID = ("id", "row", "index", "ids")
_COUNT = ("count", "counts", "training_count", "n", "frequency", "freq", "len", "rows")


def fit_counts(counts: GivenCounts, tables: Sequence[Table]) -> tuple[dict[str, RowCounts], str]:
    """Return the counts by field, and where they come from in words.

    Raises:
        DataError: If they are no whole numbers from 0, or do not fit the tables.
    """
    sizes = {table.name: table.rows for table in tables}
    if isinstance(counts, str | Path):
        found, source = _of_file(Path(counts), sizes), Path(counts).name
    elif isinstance(counts, Mapping):
        found, source = {name: np.asarray(of) for name, of in counts.items()}, "the caller"
    else:
        found, source = _in_order(np.asarray(counts), sizes, "counts"), "the caller"
    unknown = sorted(found.keys() - sizes.keys())
    if unknown:
        raise DataError(f"counts must be of fields of the model, got '{unknown[0]}'")
    return found, source


def _of_file(path: Path, sizes: Mapping[str, int]) -> dict[str, RowCounts]:
    if not is_file(path):
        raise DataError(f"counts must be a file, got nothing at {path}")
    with path.open("rb") as file:
        head = file.read(6)
    try:
        if head == b"\x93NUMPY":
            return _in_order(_plain(map_array(path), str(path)), sizes, str(path))
        if head[:4] == b"PK\x03\x04":
            given = {n: of.whole().numpy() for n, of in read_archive(path).tensors.items()}
            if len(given) == 1 and not given.keys() & sizes.keys():
                return _in_order(next(iter(given.values())), sizes, str(path))
            return {name: _whole(of, f"{path}: {name}") for name, of in given.items()}
        frame = read_frame(path) if head[:4] == b"PAR1" else _text(path)
    except DataError:
        raise
    except Exception as error:  # NumPy and polars fail in many ways on broken files
        said = (str(error).splitlines() or [""])[0]
        raise DataError(f"{path}: must hold counts (Parquet, CSV, NumPy), got {said}") from error
    return _of_frame(frame, sizes, str(path))


def _text(path: Path) -> pl.DataFrame:
    with path.open(encoding="utf-8") as file:
        first = file.readline()
    separator = next((mark for mark in "\t;," if mark in first), ",")
    headed = not all(part.strip().isdigit() for part in first.split(separator))
    with path.open("rb") as file:
        return pl.read_csv(file, separator=separator, has_header=headed, infer_schema_length=None)


def _of_frame(frame: pl.DataFrame, sizes: Mapping[str, int], source: str) -> dict[str, RowCounts]:
    """Take columns for field, id and count by their names, or by their kinds and order."""
    if frame.width == 1:
        return _in_order(frame.to_series().to_numpy(), sizes, source)
    by_name = {name.strip().lower(): name for name in frame.columns}
    texts = [name for name in frame.columns if frame.schema[name] == pl.String]
    field = next((by_name[n] for n in _FIELD if n in by_name), texts[0] if texts else None)
    rest = [name for name in frame.columns if name != field]
    count = next((by_name[n] for n in _COUNT if n in by_name and by_name[n] in rest), rest[-1])
    row = next((by_name[n] for n in _ID if n in by_name and by_name[n] in rest), None)
    if row is None and len(rest) > 1:
        row = next(name for name in rest if name != count)
    if field is None and len(sizes) > 1:
        raise DataError(f"{source} must name the field of every count, got no column 'field'")
    [only] = [*sizes][:1]
    groups = (
        {only: frame}
        if field is None
        else {str(key[0]): part for key, part in frame.group_by(field, maintain_order=True)}
    )
    return {
        name: _by_id(part, row, count, sizes.get(name), f"{source}: field '{name}'")
        for name, part in groups.items()
    }


def _by_id(
    frame: pl.DataFrame, row: str | None, count: str, rows: int | None, source: str
) -> RowCounts:
    counts = _whole(frame[count].to_numpy(), source)
    if row is None or rows is None:
        return counts
    ids = _whole(frame[row].to_numpy(), f"{source}, ids")
    if len(ids) and ids.max() >= rows:
        raise DataError(f"{source}: ids must be below its {rows} rows, got {ids.max()}")
    if len(np.unique(ids)) < len(ids):
        raise DataError(f"{source} must have one count per id, got one id twice")
    found = np.zeros(rows, dtype=np.int64)
    found[ids] = counts
    return found


def _in_order(counts: np.ndarray, sizes: Mapping[str, int], source: str) -> dict[str, RowCounts]:
    """Deal one count per row out to the fields, in their order."""
    whole = _whole(counts.reshape(-1), source)
    if len(whole) != sum(sizes.values()):
        raise DataError(
            f"{source} must hold one count per row, {sum(sizes.values())}, got {len(whole)}"
        )
    edges = np.cumsum([0, *sizes.values()])
    return {name: whole[edges[at] : edges[at + 1]] for at, name in enumerate(sizes)}


def _whole(counts: np.ndarray, source: str) -> RowCounts:
    if counts.dtype == bool:
        return counts
    if counts.dtype.kind not in "iuf":
        raise DataError(f"{source} must hold whole numbers, got {counts.dtype}")
    bad = ~(np.isfinite(counts) & (counts >= 0) & (counts == np.floor(counts)))
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(f"{source} must hold whole numbers from 0, got {counts[row]} in row {row}")
    return counts.astype(np.int64)


def _plain(counts: np.ndarray | None, source: str) -> np.ndarray:
    if counts is None:
        raise DataError(f"{source} must hold whole numbers, got Python objects")
    return counts
