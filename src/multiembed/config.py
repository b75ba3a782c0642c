"""A run's configuration: TOML <-> frozen, validated objects. The defaults are the paper's.

Reading and checking one loads neither torch nor Numba, which take seconds.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from multiembed.base.bounds import MOST_LAYERS, OptionalWidth, Seed, Sets, Threads, Whole, Width
from multiembed.base.errors import ConfigError
from multiembed.base.number_kinds import NumericKind
from multiembed.base.registry import Registry
from multiembed.base.validation import checked, read_toml
from multiembed.kernels.setting import Kernels
from multiembed.models.naming import (
    Gate,
    Mix,
    NumericOptions,
    Pooling,
    Scaling,
    SequencePooling,
    base_dim,
    check_regularizers,
    counted_mix,
    mix_name,
    mix_options,
    named_mix,
    shape_of_size,
)
from multiembed.models.vector_settings import Pretrained
from multiembed.tables.table_optimizers import TABLE_OPTIMIZERS

Precision = Literal["float32", "bfloat16", "auto"]
BestBy = Literal["auc", "log_loss"]
RecipeName = Literal["robust", "paper"]
SelfCalibration = Literal["none", "auto", "platt", "isotonic"]

_TRACKERS = "multiembed.training.trackers"
TRACKERS: Registry[Any] = Registry(
    "tracker",
    {
        "tensorboard": f"{_TRACKERS}:TensorBoard",
        "mlflow": f"{_TRACKERS}:MLflow",
        "wandb": f"{_TRACKERS}:WandB",
    },
)
"""Experiment trackers by name: a `Tracker` each, made of the run directory's path."""


def _one_of(known: Registry[Any]) -> Callable[[str], str]:
    """Return a check that a name is in a registry, which loads nothing of it."""

    def check(name: str) -> str:
        if name not in known:
            raise ValueError(f"one of {', '.join(known)}")
        return name

    return check


class ModelConfig(BaseModel):
    """Which model: an architecture or several, their size, their options.

    Every setting is given by its name; what it means and may be stands under it.

    Raises:
        ValidationError: Of pydantic, if a setting is unknown or out of range. What contradicts
            another setting is a `ConfigError` of `resolved`, and so of `train`.

    Example:
        >>> import multiembed as me
        >>> model = me.ModelConfig(architecture="dcnv2", size=4, scaling="multi")
        >>> model.shape()  # dim of one set, and sets
        (10, 4)
        >>> model.resolved().options["cross_layers"]  # the paper's, written out
        4
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    architecture: str = "dcnv2"
    """Family: dnn, dcnv2, …; `dcnv2:2,dnn:1` gives two sets to one and a third to another."""
    dim: Width | None = None
    """Size of one set's embedding; the architecture's base size if not given."""
    sets: Sets | None = None
    """Number of embedding sets; if not given, one or what `architecture` says."""
    size: Sets | None = None
    """Multiple of the paper's base size, in place of `dim` and `sets`."""
    scaling: Scaling = "single"
    """Which way `size` is reached: one wider set, or more sets of base width."""
    shared_interaction: bool = False
    """One interaction for all sets of an architecture (section 5.3, variant a)."""
    gate: Gate = "mean"
    """How sets are joined: by their mean, or weighted by a learnt gate."""
    embedding_init: Literal["table", "field"] | Annotated[float, Field(gt=0)] = "table"
    """Xavier over the concatenated table (the paper's code), per field, or a normal deviation."""
    pooling: Pooling | None = None
    """How the values of a multi-valued field become one embedding: their mean if not given."""
    sequence_pooling: SequencePooling | None = None
    """How the values of a history become one embedding: their mean if not given; attention, a sum
    weighted by how each goes with the value at hand (DIN); softmax, with weights that add up to
    1."""
    sequence_units: Annotated[tuple[Width, ...], Field(max_length=MOST_LAYERS)] | None = None
    """Hidden units of that attention's layers, 32 if not given; every set has its own."""
    sequence_positions: bool | None = None
    """Whether that attention learns what the place in the history weighs."""
    numeric: NumericOptions | None = None
    """How fields are embedded whose numbers the dataset keeps; as it says if not given."""
    table_dims: tuple[OptionalWidth, ...] | None = None
    """Of a compressed run: for every table, the columns that it is stored with."""
    pretrained: dict[str, Pretrained] | None = None
    """Vectors of a field's values that were learnt elsewhere, by the field's name."""
    options: dict[str, object] = Field(default_factory=dict)
    """Options of the architecture: hidden, dropout, batch_norm, cross_layers, … Of several, each
    takes those it has; a table under an architecture's name is for that one alone."""

    def built(self) -> Mix:
        """Return the architectures with their options, and how many sets each has."""
        sets = self.size if self.size is not None and self.scaling == "multi" else self.sets
        return counted_mix(named_mix(self.architecture, self.options), sets)

    def shape(self) -> tuple[int, int]:
        """Return (dim, sets), whichever way they were given.

        Raises:
            ConfigError: If they are given both ways, or cannot be reached.
        """
        if self.size is None and self.scaling == "multi":
            raise ConfigError("model.scaling must stand with model.size, got multi without")
        if self.size is not None:
            if self.dim is not None or self.sets is not None:
                raise ConfigError(
                    "model.size must stand without model.dim and model.sets, got both"
                )
            return shape_of_size(self.architecture, self.size, self.scaling)
        mix = self.built()
        dim = base_dim(mix) if self.dim is None else self.dim
        return dim, sum(count for _, count in mix)

    def numeric_kinds(self, kept: Sequence[NumericKind | None]) -> tuple[NumericKind | None, ...]:
        """Return for every field how the model embeds its numbers, see `NumericOptions.kinds`."""
        return (self.numeric or NumericOptions()).kinds(kept)

    def resolved(self) -> "ModelConfig":
        """Return the same model with `dim`, `sets` and all options written out.

        Raises:
            ConfigError: If the size cannot be reached, or an option is unknown.
        """
        dim, sets = self.shape()
        mix = self.built()
        vectors = {name: of.resolved(name, sets) for name, of in (self.pretrained or {}).items()}
        update = {
            "pretrained": vectors or None,
            "architecture": mix_name(self.architecture, mix),
            "dim": dim,
            "sets": sets,
            "size": None,
            "scaling": "single",
            "options": mix_options(self.architecture, mix),
        }
        return self.model_copy(update=update)


class TrainingConfig(BaseModel):
    """How to train it: the paper's protocol unless told otherwise.

    Every setting is given by its name; what it means and may be stands under it.

    Raises:
        ValidationError: Of pydantic, if a setting is unknown or out of range.

    Example:
        >>> import multiembed as me
        >>> brief = me.TrainingConfig(max_epochs=1, learning_rate=0.01)
        >>> brief.max_epochs, brief.batch_size, brief.table_optimizer
        (1, 2048, 'deferred_adam')
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    learning_rate: float = Field(default=1e-3, gt=0)
    """Of Adam."""
    weight_decay: float = Field(default=1e-6, ge=0)
    """Coupled L2, inside the gradient, on every parameter."""
    embedding_weight_decay: float | None = Field(default=None, ge=0)
    """Coupled L2 on the embedding tables; `weight_decay` if not given."""
    table_optimizer: Annotated[str, AfterValidator(_one_of(TABLE_OPTIMIZERS))] = "deferred_adam"
    """Of the embedding tables; the first two are the same by meaning, at different cost."""
    batch_size: Annotated[Whole, Field(ge=2)] = 2048
    """Rows per step."""
    max_epochs: Whole = 100
    """Most passes over the training split."""
    patience: Whole = 3
    """Evaluations in a row without a better one before training stops."""
    best_by: BestBy = "auc"
    """What makes an evaluation on the validation split better, and its model the one to keep. The
    paper's is AUC; a model with the best AUC can have a poor log loss."""
    shuffle: bool = True
    """A new order every epoch. DIFFERS: the reference code keeps the file's order; we shuffle, as
    is usual; false gives the reference's way."""
    seed: Seed = 0
    """Of initialisation, order, dropout and down-sampling."""
    evaluate_every: Whole | None = None
    """Steps between evaluations; an epoch if not given."""
    time_limit: float | None = Field(default=None, gt=0)
    """Seconds after which training evaluates and stops."""
    learning_rate_decay: float | None = Field(default=None, gt=0, lt=1)
    """Factor on the learning rate after every evaluation that was not better."""
    gradient_clip: float | None = Field(default=None, gt=0)
    """Largest norm of all gradients together."""
    regularizers: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """Weights of penalties added to the loss: aligned_norms, unitary, set_similarity,
    singular_spread (the paper's runs: aligned_norms 1, unitary 1e-5)."""
    from_base_rate: bool = False
    """Whether training begins with predictions at the share of positives, not at a half."""
    negative_rate: float = Field(default=1.0, gt=0, le=1)
    """Share of negatives trained on; predicted probabilities are corrected for it."""
    calibration: SelfCalibration = "none"
    """Fitted to the validation split when training ends; auto: where what is predicted there is
    less than 0.97 or more than 1.03 times what is observed, by the method that the positives
    suffice for."""
    precision: Precision = "float32"
    """Of matrix products in training, where the hardware has them; parameters, tables and all
    evaluation are float32. auto is bfloat16 where the device has such products: what it changes is
    less than what seeds change (results/precision_*.md)."""
    kernels: Kernels = "auto"
    """What computes: the fastest forms that serve, or plain torch alone, to rule a form out or to
    reach a device or precision that has none. Numbers agree to rounding; which units a dropout
    takes does not."""
    threads: Threads | None = None
    """CPU threads; torch's choice if not given."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; a GPU where there is one."""
    monitor_every: Whole | None = None
    """Steps between measurements of the tables, beside those of every evaluation."""
    trackers: tuple[Annotated[str, AfterValidator(_one_of(TRACKERS))], ...] = ()
    """Experiment trackers that hear of every measurement."""


class StartConfig(BaseModel):
    """Where a training begins: at an earlier run of the same model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    """Its directory. Values that are new since then begin as the row of *other*."""
    moments: bool = False
    """Whether optimizers and random numbers go on where that training stopped, too. Otherwise its
    best model is where this one begins."""


class RunConfig(BaseModel):
    """Everything that decides a run, written resolved into its directory.

    Raises:
        ValidationError: Of pydantic, if a setting is unknown or out of range.

    Example:
        >>> import multiembed as me
        >>> model = me.ModelConfig(architecture="dnn", dim=2, options={"hidden": [4]})
        >>> config = me.RunConfig(model=model, training=me.TrainingConfig(seed=1))
        >>> print(config.to_toml().partition("[model.options]")[0])
        [model]
        architecture = "dnn"
        dim = 2
        ...
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str | None = None
    """Path of the encoded dataset, filled in when training starts."""
    recipe: RecipeName | None = None
    """The recipe that it was made from; what it says stands below, with what was changed."""
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    start: StartConfig | None = None
    """The run whose tables and weights training begins with; by default they are drawn."""

    def resolved(self) -> "RunConfig":
        """Return the same run with everything about its model, and its precision, written out.

        Raises:
            ConfigError: If the model contradicts itself, an option is unknown, a regulariser has
                nothing to act on, or the device is not there.
        """
        check_regularizers(self.training.regularizers, self.model.built())
        training = self.training
        if training.precision == "auto":
            # Only here torch must be loaded: a configuration is read without it.
            from multiembed.base.devices import chosen_device, has_bfloat16_products

            there = has_bfloat16_products(chosen_device(training.device))
            precision = "bfloat16" if there else "float32"
            training = training.model_copy(update={"precision": precision})
        return self.model_copy(update={"model": self.model.resolved(), "training": training})

    def to_toml(self) -> str:
        """Return the TOML text that `parse_config` reads back; unset keys are left out."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


def parse_config(table: Mapping[str, object], *, source: str = "configuration") -> RunConfig:
    """Build a configuration from parsed TOML.

    Args:
        table: What the file holds: tables `model` and `training`, of which all may be left out.
        source: What messages call it: the file's path.

    Raises:
        ConfigError: If a key is unknown (the nearest known one is suggested) or a value is out of
            range.
    """
    return checked(RunConfig, table, at=f"{source}: ")


def read_config(path: Path) -> RunConfig:
    """Read a TOML configuration.

    Raises:
        ConfigError: If the file is missing, is no TOML, or `parse_config` refuses it.
    """
    return parse_config(read_toml(path), source=str(path))
