"""A trained run with narrower tables: every field keeps the directions that carry it."""

import itertools
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from multiembed.base.errors import ConfigError, DataError
from multiembed.base.files import new_folder
from multiembed.models.embedding import EmbeddingSets
from multiembed.runs.calibrate import calibrate
from multiembed.runs.directory import RunDirectory, save_tensors
from multiembed.runs.run import Run, load_run
from multiembed.spectra.spectrum import principal_directions

COPIED = ("metrics.jsonl", "collapse.jsonl")
"""What a compressed run takes over of the training, where it is there."""


@dataclass(frozen=True, kw_only=True)
class CompressedField:
    """What became of one field's table."""

    name: str
    rows: int
    columns: int
    """All sets together."""
    needed: int
    """Dims that carry the share asked for: how wide this field's embedding need be."""
    stored: int
    """Columns stored for every row; `columns` for a table left as it was."""
    bytes_before: int
    bytes_after: int
    """Of the stored columns, and of what turns them back into all."""


@dataclass(frozen=True, kw_only=True)
class Compression:
    """What a compression saves and costs."""

    keep: float
    fields: list[CompressedField]
    before: dict[str, float | None]
    """Quality on the test split."""
    after: dict[str, float | None]

    @property
    def bytes_before(self) -> int:
        """Of all tables."""
        return sum(field.bytes_before for field in self.fields)

    @property
    def bytes_after(self) -> int:
        """Of all tables."""
        return sum(field.bytes_after for field in self.fields)


def compress_run(path: Path | str, out: Path | str, *, keep: float = 0.99) -> Compression:
    """Write a run whose tables keep the share `keep` of their energy, and measure what it costs.

    Every field is rotated into its principal directions, all sets side by side, and keeps the
    fewest that carry `keep`; the way back is a small matrix per field, see `FactoredEmbeddings`.
    A table that this would not make smaller stays as it is, as do fields that are embedded as
    numbers. The mean row of a table, and the first-order weights that some architectures have, are
    kept whole.

    Args:
        path: A trained run.
        out: Directory to write; a run like any other, except that it cannot be trained on.
        keep: Above 0, at most 1.

    Raises:
        ConfigError: If `keep` is no share or `out` is there.
        DataError: If `path` is no trained run or is compressed already, its dataset is gone, or
            `out` cannot be written.
    """
    if not 0 < keep <= 1:
        raise ConfigError(f"keep must be above 0 and at most 1, got {keep}")
    if os.path.lexists(out):
        raise ConfigError(f"{out} must not exist yet, got a file or directory of that name")
    run = load_run(path)
    if run.config.model.table_dims is not None:
        raise DataError(f"{path} must be a run as trained, got a compressed one")
    several = [field.name for field in run.schema.fields if field.slots > 1 or field.shares]
    if several:
        raise DataError(
            f"{path} must have fields of one value per row to be compressed, got {several[0]!r}"
        )
    kinds = run.config.model.numeric_kinds(run.schema.kept_numbers)
    known = itertools.zip_longest(run.schema.field_names, kinds)
    names = [name for name, kind in known if kind is None]
    if not names:
        raise DataError(f"{path} must have tables to be compressed, got numbers alone")
    before = run.evaluate("test")
    counts = np.concatenate(run.directory.read_row_counts(run.schema.cardinalities))
    fields, tables = factor(run.model.embedding, names, keep=keep)
    with new_folder(Path(out)) as folder:
        _write(run, tables, counts, folder)
        compressed = load_run(folder)
        if run.calibration is not None:
            calibrate(compressed, run.calibration.method)
        after = compressed.evaluate("test")
        compression = Compression(keep=keep, fields=fields, before=before, after=after)
        RunDirectory(folder).write_summary({"compressed_from": str(path), **asdict(compression)})
    return compression


def factor(
    embedding: EmbeddingSets, names: Sequence[str], *, keep: float
) -> tuple[list[CompressedField], list[dict[str, Tensor]]]:
    """Narrow all tables where that makes them smaller.

    Args:
        embedding: Of a model.
        names: Of its fields that have tables.
        keep: As for `compress_run`.

    Returns:
        What becomes of every table, and its tensors in the names of a `FactoredTable`.
    """
    first_order = embedding.row.is_first_order(embedding.dim, embedding.sets).numpy()
    fields, tables = [], []
    for name, block in zip(names, embedding.tables(), strict=True):
        needed, tensors = _narrow(name, block, first_order, keep=keep)
        rows, columns = block.shape
        fields.append(
            CompressedField(
                name=name,
                rows=rows,
                columns=columns,
                needed=needed,
                stored=tensors["codes"].shape[1],
                bytes_before=block.nbytes,
                bytes_after=sum(tensor.nbytes for tensor in tensors.values()),
            )
        )
        tables.append(tensors)
    return fields, tables


def _narrow(
    name: str,
    block: Float[Tensor, "rows columns"],
    first_order: Bool[np.ndarray, " columns"],
    *,
    keep: float,
) -> tuple[int, dict[str, Tensor]]:
    """Return how many dims one field needs, and its table in so many where that is smaller."""
    embeddings = block[:, torch.from_numpy(~first_order)]
    found = principal_directions(embeddings, keep=keep, name=f"table '{name}'")
    needed = len(found.basis)
    # First-order weights are directions of their own, which the mean leaves alone.
    own = int(first_order.sum())
    basis, mean = np.zeros((needed + own, len(first_order))), np.zeros(len(first_order))
    basis[:needed, ~first_order], mean[~first_order] = found.basis, found.mean
    basis[needed:, first_order] = np.eye(own)
    factors = {"basis": torch.from_numpy(basis), "mean": torch.from_numpy(mean)}
    codes = (block.double() - factors["mean"]) @ factors["basis"].T
    tensors = {key: value.to(block.dtype) for key, value in ({"codes": codes} | factors).items()}
    # The basis of a table of few rows can be more than its narrower codes save.
    smaller = sum(tensor.numel() for tensor in tensors.values()) < block.numel()
    return needed, tensors if smaller else {"codes": block}


def _write(
    run: Run, tables: list[dict[str, Tensor]], counts: Int[np.ndarray, " rows"], folder: Path
) -> None:
    directory = RunDirectory(folder)
    dims = tuple(table["codes"].shape[1] for table in tables)
    model = run.config.model.model_copy(update={"table_dims": dims, "pretrained": None})
    config = run.config.model_copy(update={"model": model})
    state = run.model.state_dict()
    narrowed = "embedding.weight", "embedding.pretrained."
    others = {name: tensor for name, tensor in state.items() if not name.startswith(narrowed)}
    factored = {
        f"embedding.tables.{at}.{name}": tensor
        for at, table in enumerate(tables)
        for name, tensor in table.items()
    }
    save_tensors(directory.best, others | factored, run.best_state)
    for name in COPIED:
        if (run.path / name).exists():
            shutil.copyfile(run.path / name, folder / name)
    directory.write_inputs(config.to_toml(), run.path, counts)
