"""From a configuration to an untrained model, where memory and the disk can hold it."""

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from multiembed.base.errors import ConfigError, WriteError
from multiembed.base.number_kinds import NumericKind
from multiembed.config import ModelConfig, RunConfig
from multiembed.data.store.schema import FieldSizes
from multiembed.models.budget import check_memory
from multiembed.models.click_model import ClickModel
from multiembed.models.embedding import EmbeddingSets
from multiembed.models.factored import FactoredEmbeddings
from multiembed.models.histories import Histories
from multiembed.models.naming import Numeric, NumericOptions
from multiembed.models.signals import Signals
from multiembed.models.value_vectors import checked_places

INPUTS = 1 << 17
"""Bytes of a run's small files, about: its inputs, measurements and card."""


def build_model(
    config: RunConfig,
    cardinalities: tuple[int, ...],
    slots: tuple[int, ...] | None = None,
    shares: tuple[int, ...] = (),
    kept_numbers: Sequence[NumericKind | None] = (),
) -> ClickModel:
    """Build the untrained model of a resolved configuration.

    Args:
        config: Resolved; one with `model.table_dims` gives factored tables.
        cardinalities: Number of ids of every field with a table, *other* included.
        slots: Columns of ids that every field has, one each if not given.
        shares: For every history, behind these fields, the place of the one whose table it shares.
        kept_numbers: For every field how its numbers are embedded, where the dataset keeps some.

    Raises:
        ConfigError: If the configuration speaks of histories or of numbers and there are none.
    """
    return _builder(config, cardinalities, slots, shares, kept_numbers)()


def check_trainable(
    config: RunConfig,
    sizes: FieldSizes,
    run: Path,
) -> None:
    """Refuse a training whose parameters, and what optimizers keep of each, have no room.

    Raises:
        ConfigError: If memory cannot hold them, or the model is about histories or numbers that
            the dataset has not.
        WriteError: If the disk cannot hold the best model and the last checkpoint, nor the next
            ones beside them.
    """
    copies = 3 if config.training.table_optimizer.endswith("adam") else 1
    here = copies if config.training.device != "cuda" else 1
    parameters = check_memory(_builder(config, *sizes), copies=here)
    files = 1 if (run / "last.safetensors").exists() else 2
    frozen = sum(
        (of.found or 0) * (of.width or 0)
        for of in (config.model.pretrained or {}).values()
        if not of.trained
    )
    need = 4 * (parameters * (copies + 1) + 2 * frozen) * files + INPUTS
    place = next(place for place in (run, *run.absolute().parents) if place.exists())
    free = shutil.disk_usage(place).free
    if need > free:
        room = f"{free / 1e6:,.1f} MB of free disk, where checkpoints take {need / 1e6:,.1f} MB"
        raise WriteError(run, room)


def _builder(
    config: RunConfig,
    cardinalities: tuple[int, ...],
    slots: tuple[int, ...] | None,
    shares: tuple[int, ...],
    kept_numbers: Sequence[NumericKind | None],
) -> Callable[[], ClickModel]:
    dim, sets = config.model.shape()
    kept = config.model.table_dims
    options = config.model.numeric or NumericOptions()
    numeric = Numeric(config.model.numeric_kinds(kept_numbers), options)
    if kept is None:
        pooling, init = config.model.pooling or "mean", config.model.embedding_init
        signals = Signals(
            histories=_histories(config.model, shares),
            numeric=numeric,
            pretrained=checked_places(config.model.pretrained or {}, len(cardinalities)),
        )
        tables = partial(EmbeddingSets, slots=slots, pooling=pooling, init=init, signals=signals)
    else:
        tables = partial(FactoredEmbeddings, kept=kept, numeric=numeric)
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


def _histories(model: ModelConfig, shares: tuple[int, ...]) -> Histories:
    """Return how histories are read, which must be there if the configuration speaks of them."""
    named = ("pooling", "units", "positions")
    values = {name: getattr(model, f"sequence_{name}") for name in named}
    said = {name: value for name, value in values.items() if value is not None}
    pooling = said.get("pooling", "mean")
    for name in said:
        if not shares:
            raise ConfigError(
                f"model.sequence_{name} must stand with a dataset that has a history, got one "
                "without; prepare --sequence makes one"
            )
        if name != "pooling" and pooling == "mean":
            raise ConfigError(
                f"model.sequence_{name} must stand with model.sequence_pooling attention or "
                "softmax, got mean, which weighs all values alike"
            )
    return Histories(shares, **said)
