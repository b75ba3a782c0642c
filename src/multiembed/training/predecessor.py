"""What a training takes over from an earlier run: weights, rows by value, and perhaps moments."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from multiembed.base.errors import ConfigError, DataError
from multiembed.config import RunConfig, read_config
from multiembed.data.store.dataset import Dataset
from multiembed.data.store.earlier import Earlier, read_earlier
from multiembed.models.click_model import ClickModel
from multiembed.runs.directory import RunDirectory, load_tensors, under
from multiembed.training.settling import row_of_other
from multiembed.training.step import TrainingStep

_TABLE = "embedding.weight"
_VECTORS = "embedding.pretrained.{}.index"
_OF_THE_ROWS = {
    *("other", "cut", "empty", "min_count", "max_values", "remark", "cardinality", "slots")
}
"""What of a field may differ between days."""


@dataclass(frozen=True)
class Predecessor:
    """An earlier run as a new training needs it; once read, the run may go."""

    model: dict[str, Tensor]
    """Parameters and buffers, the table with the rows of the new one."""
    rows: Int[Tensor, " rows"]
    """For every row of the new table the one that it was, or -1 where its value is new."""
    counts: Int[np.ndarray, " ids"]
    """How often training had every id so far; fields of numbers have ids, and no rows."""
    state: dict[str, Tensor] | None
    """All of the last checkpoint, where moments are carried."""

    def hand_over(self, model: ClickModel, step: TrainingStep, device: torch.device) -> None:
        """Give a new training what this one had."""
        for name, tensor in model.state_dict().items():
            if name not in self.model or self.model[name].shape != tensor.shape:
                raise DataError(f"{name} must be as in the run to start from, got another shape")
        model.load_state_dict(self.model)
        if self.state is None:
            return
        step.tables.carry(under(self.state, "tables"), self.rows)
        step.adam.load_state(under(self.state, "adam"))
        torch.set_rng_state(self.state["random.cpu"])
        if device.type == "cuda" and "random.cuda" in self.state:
            torch.cuda.set_rng_state(self.state["random.cuda"], device)


def read_predecessor(config: RunConfig, dataset: Dataset) -> Predecessor:
    """Read the run that a resolved configuration starts from.

    Raises:
        ConfigError: If its model, or the optimizer whose moments are carried, is another one.
        DataError: If it holds no finished run, or the dataset's vocabulary does not grow out of
            its.
    """
    assert config.start is not None
    run, moments = RunDirectory(config.start.run), config.start.moments
    for file in (run.config, run.best, run.summary, *([run.last] if moments else [])):
        if not file.is_file():
            raise DataError(f"{run.path} must be a finished run to start from, got no {file.name}")
    _check_model(config, read_config(run.config), run)
    before, now = read_earlier(run.path), read_earlier(dataset.path)
    _check_fields(before, now)
    tensors, _ = load_tensors(run.last if moments else run.best)
    model = under(tensors, "model") if moments else tensors
    sizes, names = before.schema.cardinalities, before.schema.field_names
    ids = [before.known_ids(name, now.vocabularies[name]) for name in names]
    counts = run.read_row_counts(sizes)
    # Fields of numbers have no rows in the table.
    kinds = config.model.numeric_kinds(before.schema.kept_numbers) or (None,) * len(sizes)
    tabled = [at for at, kind in enumerate(kinds) if kind is None]
    blocks = model[_TABLE].split([sizes[at] for at in tabled])
    starts = accumulate((len(block) for block in blocks), initial=0)
    rows, tables = [], []
    for at, block, start in zip(tabled, blocks, starts, strict=False):
        known = ids[at]
        rows.append(np.where(known >= 0, known + start, -1))
        tables.append(block[known.clip(0)])
        tables[-1][known < 0] = row_of_other(block, torch.from_numpy(counts[at].copy()))
    of_each = zip(ids, counts, strict=True)
    indices = {_VECTORS.format(at): known for at, known in enumerate(ids)}
    vectors = {n: _of_rows(model[n], known) for n, known in indices.items() if n in model}
    return Predecessor(
        model={**model, **vectors, _TABLE: torch.cat(tables)},
        rows=torch.from_numpy(np.concatenate(rows)),
        counts=np.concatenate([np.where(of >= 0, count[of], 0) for of, count in of_each]),
        state=tensors if moments else None,
    )


def _of_rows(
    vectors: Int[Tensor, " before"], known: Int[np.ndarray, " rows"]
) -> Int[Tensor, " rows"]:
    """Return which pretrained vector every row has; new ones have none."""
    return torch.where(torch.from_numpy(known >= 0), vectors[known.clip(0)], 0)


def _check_model(config: RunConfig, earlier: RunConfig, run: RunDirectory) -> None:
    assert config.start is not None
    names = [name for name in type(config.model).model_fields if name != "embedding_init"]
    pairs = [(f"model.{n}", getattr(config.model, n), getattr(earlier.model, n)) for n in names]
    if config.start.moments:
        kinds = config.training.table_optimizer, earlier.training.table_optimizer
        pairs.append(("training.table_optimizer", *kinds))
    for name, here, there in pairs:
        if here != there:
            raise ConfigError(
                f"{name} must be that of {run.path} to start from it, {there!r}, got {here!r}"
            )


def _check_fields(before: Earlier, now: Earlier) -> None:
    for there, here in _alike(before, now):
        if there != here:
            raise DataError(
                f"{now.path} must have the fields of {before.path}: {there}, got {here}"
            )
    if before.values not in (now.values, *now.schema.grown_from):
        raise DataError(
            f"{now.path} must have the vocabulary of {before.path}, or one that grew out of it "
            "(prepare --like), got another"
        )


def _alike(before: Earlier, now: Earlier) -> Iterator[tuple[object, object]]:
    """Pair what must be the same: names first, then each field's rules."""
    yield before.schema.field_names, now.schema.field_names
    for there, here in zip(before.schema.fields, now.schema.fields, strict=True):
        yield there.model_dump(exclude=_OF_THE_ROWS), here.model_dump(exclude=_OF_THE_ROWS)
