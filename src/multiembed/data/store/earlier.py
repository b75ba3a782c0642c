"""What later rows are to be encoded like: the schema and the vocabularies of a dataset or a run."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Int64

from multiembed.base.errors import DataError
from multiembed.base.files import folder_identity
from multiembed.data.store.schema import Schema
from multiembed.data.store.vocabularies import digest, read_vocabulary, values_digest


class Earlier(NamedTuple):
    """A dataset, or what a run keeps of one; once read, it may go."""

    path: Path
    schema: Schema
    vocabularies: dict[str, pl.DataFrame]
    values: str
    """The fingerprint of its values."""

    def known_ids(self, field: str, later: pl.DataFrame) -> Int64[np.ndarray, " ids"]:
        """Return for every id of a later vocabulary the same one, or -1 where its value is new."""
        before = self.vocabularies[field]
        shared = min(before.height, later.height)
        same = before["value"].head(shared).eq_missing(later["value"].head(shared)).to_numpy()
        ids = np.arange(later.height + 1)
        ids[shared + 1 :] = -1
        ids[1 : shared + 1][~same] = -1
        return ids

    @property
    def key(self) -> str:
        """A text that is another one as soon as anything of it is."""
        return digest(self.schema.model_dump_json() + self.values)


def read_earlier(path: Path | str) -> Earlier:
    """Read what a dataset or a run says about values and ids.

    Raises:
        DataError: If it is neither, or another one takes its place meanwhile.
    """
    folder = Path(path)
    seen = folder_identity(folder)
    if not (folder / "schema.json").is_file():
        raise DataError(f"like must be an encoded dataset or a run, got {path}")
    schema = Schema.load(folder / "schema.json")
    vocabularies = {field.name: read_vocabulary(folder, field.name) for field in schema.tables}
    for field in schema.tables:
        if vocabularies[field.name].height != field.cardinality - 1:
            raise DataError(
                f"{folder}: vocabulary of {field.name!r} must hold {field.cardinality - 1} "
                f"values, got {vocabularies[field.name].height}"
            )
    values = values_digest(folder, schema.fields)
    if seen != folder_identity(folder):
        raise DataError(f"{folder} must stay while it is read, got another in its place")
    return Earlier(folder, schema, vocabularies, values)
