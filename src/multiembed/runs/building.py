"""From a configuration to an untrained model, where memory and the disk can hold it."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from multiembed.base.errors import WriteError
from multiembed.config import RunConfig
from multiembed.models.budget import check_memory
from multiembed.models.click_model import ClickModel
from multiembed.models.embedding import EmbeddingSets, FactoredEmbeddings

INPUTS = 1 << 17
"""Bytes of a run's small files, about: its inputs, measurements and card."""


def build_model(
    config: RunConfig, cardinalities: tuple[int, ...], slots: tuple[int, ...] | None = None
) -> ClickModel:
    """Build the untrained model of a resolved configuration.

    Args:
        config: Resolved; one with `model.table_dims` gives factored tables.
        cardinalities: Number of ids of every field, *other* included.
        slots: Columns of ids that every field has, one each if not given.
    """
    return _builder(config, cardinalities, slots)()


def check_trainable(config: RunConfig, cardinalities: tuple[int, ...], run: Path) -> None:
    """Refuse a training whose parameters, and what optimizers keep of each, have no room.

    Raises:
        ConfigError: If memory cannot hold them.
        WriteError: If the disk cannot hold the best model and the last checkpoint, nor the next
            ones beside them.
    """
    copies = 3 if config.training.table_optimizer.endswith("adam") else 1
    here = copies if config.training.device != "cuda" else 1
    parameters = check_memory(_builder(config, cardinalities, None), copies=here)
    files = 1 if (run / "last.safetensors").exists() else 2
    need = 4 * parameters * (copies + 1) * files + INPUTS
    place = next(place for place in (run, *run.absolute().parents) if place.exists())
    free = shutil.disk_usage(place).free
    if need > free:
        room = f"{free / 1e6:,.1f} MB of free disk, where checkpoints take {need / 1e6:,.1f} MB"
        raise WriteError(run, room)


def _builder(
    config: RunConfig, cardinalities: tuple[int, ...], slots: tuple[int, ...] | None
) -> Callable[[], ClickModel]:
    dim, sets = config.model.shape()
    kept = config.model.table_dims
    if kept is None:
        pooling, init = config.model.pooling or "mean", config.model.embedding_init
        tables = partial(EmbeddingSets, slots=slots, pooling=pooling, init=init)
    else:
        tables = partial(FactoredEmbeddings, kept=kept)
    return partial(
        ClickModel,
        config.model.built(),
        cardinalities,
        dim=dim,
        sets=sets,
        shared_interaction=config.model.shared_interaction,
        gate=config.model.gate,
        tables=tables,
    )
