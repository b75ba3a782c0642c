"""Pretrained vectors before training: read, matched with a field's values, brought to one scale."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float32, Int32

from multiembed.base.errors import ConfigError, DataError
from multiembed.base.validation import known_name
from multiembed.config import RunConfig
from multiembed.data.encoding.vocabulary import Encoder
from multiembed.data.sources.source import reading
from multiembed.data.sources.vector_files import vector_blocks
from multiembed.data.store.dataset import Dataset
from multiembed.data.store.schema import Field
from multiembed.models.vector_settings import Pretrained

BOUND = 1e15
"""Of a number in a vector: the square of its float32 is one, too."""


class FieldVectors(NamedTuple):
    """What the values of one field have."""

    places: Int32[np.ndarray, " rows"]
    """For every id the row of its vector; 0 where it has none."""
    vectors: Float32[np.ndarray, "vectors width"]
    """The first is 0; the others have mean 0 and a mean squared length of 1."""
    remark: str
    """How many values have one, where some have none."""


def with_record_of(run: RunConfig, asked: RunConfig) -> RunConfig:
    """Return a configuration with what a run's training filled in, where it asks for the same."""
    known, wanted = run.model.pretrained or {}, asked.model.pretrained or {}
    vectors = {
        name: known[name] if name in known and of.asks_as(known[name]) else of
        for name, of in wanted.items()
    }
    model = asked.model.model_copy(update={"pretrained": vectors or None})
    return asked.model_copy(update={"model": model})


def read_pretrained(
    config: RunConfig, dataset: Dataset
) -> tuple[RunConfig, dict[int, FieldVectors]]:
    """Read all vectors that a configuration names.

    Args:
        config: Resolved.
        dataset: Encoded; its vocabularies say what values the fields have.

    Returns:
        The configuration with a record of what was read, and the vectors by their field's number.

    Raises:
        ConfigError: If there is no such field, or one without values of its own.
        DataError: If a file cannot be read, or its vectors are of no use.
    """
    record, found = {}, {}
    for name, asked in (config.model.pretrained or {}).items():
        known_name(name, dataset.field_names, subject="field of pretrained vectors")
        place = dataset.field_names.index(name)
        if place in dataset.shares:
            raise ConfigError(f"a field of pretrained vectors must have no history, got {name!r}")
        vectors = _of_field(asked, dataset.schema.fields[place], dataset.vocabulary(name))
        digest = _sha256(Path(asked.file))
        if asked.sha256 not in (None, digest):
            raise DataError(f"{asked.file} must have SHA-256 {asked.sha256}, got {digest}")
        count, width = vectors.vectors.shape
        update = {"place": place, "width": width, "found": count - 1, "sha256": digest}
        record[name], found[place] = asked.model_copy(update=update), vectors
    if not record:
        return config, found
    model = config.model.model_copy(update={"pretrained": record})
    return config.model_copy(update={"model": model}), found


def _of_field(asked: Pretrained, field: Field, vocabulary: pl.DataFrame) -> FieldVectors:
    file = Path(asked.file)
    if field.hash_size is not None or field.bucketed:
        got = "hashed ones" if field.hash_size is not None else "buckets or parts of moments"
        raise ConfigError(f"field {field.name!r} must hold values to have vectors, got {got}")
    # A vector belongs to one value, also of a field whose cells hold several.
    one = {"kind": "categorical", "delimiter": None, "slots": 1}
    field = field.model_copy(update=one if field.multivalued else {})
    encoder = Encoder([field], {field.name: vocabulary})
    known = np.concatenate([[False], vocabulary["value"].is_not_null().to_numpy()])
    index, kept, total = np.zeros(len(known), np.int32), [np.zeros((1, 0), np.float32)], 0
    some, values = [], None if asked.values is None else Path(asked.values)
    for block in vector_blocks(file, field.name, values):
        ids = encoder.encode(pl.DataFrame({field.column: block.values}))[:, 0]
        some = some or block.values.head(2).to_list()
        rows = np.flatnonzero(known[ids])
        if not len(rows):
            continue
        _check_once(ids[rows], index, block.values.gather(rows), file)
        vectors = block.take(rows)
        _check_finite(vectors, block.values.gather(rows), file)
        index[ids[rows]] = np.arange(total + 1, total + 1 + len(rows))
        kept.append(vectors)
        total += len(rows)
    if not total:
        own = vocabulary["value"].drop_nulls().head(2).to_list()
        raise DataError(
            f"{file} must hold vectors of values of field {field.name!r}, such as {_few(own)}, "
            f"got none, but {_few(some)}"
        )
    kept[0] = np.zeros((1, kept[1].shape[1]), np.float32)
    matrix = np.concatenate(kept)
    _to_scale(matrix[1:], file)
    return FieldVectors(index, matrix, _remark(field.name, index, vocabulary))


def _few(values: list[object]) -> str:
    return " and ".join(map(repr, values)) or "nothing"


def _check_once(
    ids: Int32[np.ndarray, " found"],
    index: Int32[np.ndarray, " rows"],
    values: pl.Series,
    file: Path,
) -> None:
    _, first = np.unique(ids, return_index=True)
    again = index[ids] != 0
    again[np.setdiff1d(np.arange(len(ids)), first)] = True
    if again.any():
        value = values[int(np.flatnonzero(again)[0])]
        raise DataError(f"{file} must hold one vector of a value, got another of {value!r}")


def _check_finite(
    vectors: Float32[np.ndarray, "found width"], values: pl.Series, file: Path
) -> None:
    wrong = np.flatnonzero(~(np.abs(vectors) < BOUND).all(axis=1))
    if len(wrong):
        row = int(wrong[0])
        number = next(x for x in vectors[row].tolist() if not abs(x) < BOUND)
        raise DataError(
            f"{file}: the vector of {values[row]!r} must be of finite numbers, got {number}"
        )


def _to_scale(vectors: Float32[np.ndarray, "found width"], file: Path) -> None:
    """Bring vectors to mean 0 and a mean squared length of 1, in place.

    The mean is thus what values without a vector have, and one learning rate suits all files.
    """
    vectors -= vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    length = np.sqrt(np.einsum("ij,ij->i", vectors, vectors).mean(dtype=np.float64))
    if not length > 0:
        raise DataError(f"{file} must tell values apart, got one vector for all it has")
    vectors /= np.float32(length)


def _remark(name: str, index: Int32[np.ndarray, " rows"], vocabulary: pl.DataFrame) -> str:
    is_value = vocabulary["value"].is_not_null().to_numpy()
    found, counts = index[1:] > 0, vocabulary["count"].to_numpy()
    if found.sum() == is_value.sum():
        return ""
    return (
        f"{found.sum():,} of {is_value.sum():,} values of {name!r} have a vector, "
        f"{counts[found].sum() / max(1, counts.sum()):.1%} of rows; the others have rows alone"
    )


def _sha256(file: Path) -> str:
    with reading([file]), file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
