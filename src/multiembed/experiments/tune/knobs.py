"""What tuning varies, one entry a setting, and the configuration that values of them make."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch

from multiembed.base.errors import ConfigError
from multiembed.base.validation import known_name
from multiembed.config import RunConfig, parse_config
from multiembed.data.store.schema import FieldSizes, Schema
from multiembed.experiments.tune.tune_options import TuneOptions
from multiembed.models.interactions.architectures import ARCHITECTURES
from multiembed.models.naming import named_mix
from multiembed.runs.building import build_model
from multiembed.runs.given_config import configured, merged
from multiembed.runs.recipe import RECIPES, recipe_table

SettingValue = str | float | int | None
_ARCHITECTURE = "model.architecture"
_OPTIONS = "model.options."
_PAPER_DIM = 10
"""What `model.dim` is chosen for; others are in proportion to their architecture's base."""


@runtime_checkable
class Chooser(Protocol):
    """What chooses values: a trial of Optuna's."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:  # noqa: ANN401
        """Choose one of several."""
        ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Choose a number."""
        ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Choose a whole number."""
        ...


@dataclass(frozen=True, kw_only=True)
class Knob:
    """A setting that is varied: among choices, or from `low` to `high`, both included."""

    key: str
    """As `--set` has it."""
    choices: tuple[SettingValue, ...] = ()
    """Widths of several layers are text: `400,400`."""
    low: float | int = 0.0
    """A whole number where only such are meant."""
    high: float | int = 0.0
    log: bool = False
    """Whether factors count rather than differences."""
    otherwise: str | None = None
    """The setting that holds where this one is not given."""

    def chosen_by(self, chooser: Chooser) -> SettingValue:
        """Return the value that a trial takes."""
        if self.choices:
            return chooser.suggest_categorical(self.key, self.choices)
        if isinstance(self.low, int):
            return chooser.suggest_int(self.key, self.low, int(self.high), log=self.log)
        return chooser.suggest_float(self.key, self.low, self.high, log=self.log)

    def around(self, value: SettingValue) -> "Knob":
        """Return the same knob with a value within its reach, where it can be."""
        if self.choices:
            known = value is None or value in self.choices
            return self if known else replace(self, choices=(*self.choices, value))
        if not isinstance(value, int | float) or (self.log and value <= 0):
            return self
        return replace(self, low=min(self.low, value), high=max(self.high, value))

    def nearest(self, value: SettingValue) -> SettingValue:
        """Return a value as this knob can have it."""
        if self.choices:
            return value if value in self.choices else self.choices[0]
        if not isinstance(value, int | float):
            return self.low
        inside = min(max(value, self.low), self.high)
        return round(inside) if isinstance(self.low, int) else float(inside)


KNOBS = (
    Knob(key=_ARCHITECTURE, choices=tuple(ARCHITECTURES)),
    Knob(key="model.dim", low=4, high=64, log=True),
    Knob(key="model.sets", low=1, high=8, log=True),
    Knob(
        key=f"{_OPTIONS}hidden",
        choices=("64", "64,64", "128,64", "200,200", "400,400", "400,400,400", "800,400"),
    ),
    Knob(key=f"{_OPTIONS}dropout", low=0.0, high=0.6),
    Knob(key=f"{_OPTIONS}cross_layers", low=1, high=5),
    Knob(key="model.numeric.embedding", choices=("buckets", "linear", "plr", "soft")),
    Knob(key="training.learning_rate", low=1e-4, high=1e-2, log=True),
    Knob(key="training.learning_rate_decay", choices=(None, 0.5, 0.1)),
    Knob(key="training.table_optimizer", choices=("deferred_adam", "lazy_adam", "rowwise_adagrad")),
    Knob(
        key="training.embedding_weight_decay",
        low=1e-7,
        high=1e-1,
        log=True,
        otherwise="training.weight_decay",
    ),
    Knob(key="training.weight_decay", low=1e-8, high=1e-3, log=True),
)
"""What is varied. Options of architectures are, where the architecture of the trial has them."""

SAME_AS = {"model.dim": ("model.size", "model.scaling"), "model.sets": ("model.size",)}
"""Settings that say the same as another."""


@dataclass(frozen=True)
class Space:
    """All configurations that a tuning may try."""

    base: RunConfig
    """What the first trial is."""
    knobs: tuple[Knob, ...]

    def first(self) -> dict[str, SettingValue]:
        """Return the values of the knobs in `base`, or the nearest that they can have."""
        written = self.base.resolved().model_dump(mode="json")
        known = {knob.key: knob for knob in self.active(self.base.model.architecture)}
        return {key: knob.nearest(self._written(knob, written)) for key, knob in known.items()}

    def around_base(self) -> "Space":
        """Return the same space with the base inside it, where knobs can reach."""
        written = self.base.resolved().model_dump(mode="json")
        here = self.active(self.base.model.architecture)
        knobs = (k.around(self._written(k, written)) if k in here else k for k in self.knobs)
        return Space(self.base, tuple(knobs))

    def active(self, architecture: str) -> list[Knob]:
        """Return the knobs that there are for an architecture."""
        has = _options(architecture)
        return [
            knob
            for knob in self.knobs
            if not knob.key.startswith(_OPTIONS) or knob.key.removeprefix(_OPTIONS) in has
        ]

    def chosen_by(self, chooser: Chooser) -> RunConfig:
        """Return the configuration that a trial takes."""
        architecture, values = self.base.model.architecture, {}
        for knob in self.knobs:
            if knob in self.active(architecture):
                values[knob.key] = knob.chosen_by(chooser)
            architecture = values.get(_ARCHITECTURE, architecture)
        return self.base if values == self.first() else self.config(values)

    def config(self, values: Mapping[str, SettingValue]) -> RunConfig:
        """Return the base with these values in their places."""
        table = self.base.model_dump(mode="json", exclude_unset=True)
        architecture = str(values.get(_ARCHITECTURE, self.base.model.architecture))
        has = {*_options(architecture), architecture}
        model = table.setdefault("model", {})
        own = {name: of for name, of in model.get("options", {}).items() if name in has}
        model["options"] = own if _ARCHITECTURE in values else model.get("options", {})
        for key, value in values.items():
            if key == "model.dim":
                value = max(1, round(int(value or 0) * _scale(architecture)))
            table = merged(table, _nested(key, _from_text(key, value)))
        return parse_config(table, source="tune")

    def shown(self, config: RunConfig) -> dict[str, SettingValue]:
        """Return the settings of a configuration that knobs are about, as tables show them."""
        written = config.resolved().model_dump(mode="json")
        knobs = self.active(config.model.architecture)
        return {knob.key: _written(knob, written) for knob in knobs}

    def _written(self, knob: Knob, written: Mapping[str, Any]) -> SettingValue:
        value = _written(knob, written)
        if knob.key == "model.dim":
            return round(int(value or 0) / _scale(self.base.model.architecture))
        return value


def space_of(options: TuneOptions, schema: Schema) -> Space:
    """Return what a tuning may try on rows of this schema.

    Raises:
        ConfigError: If a setting, a key or an architecture is unknown, contradicts another or the
            rows, or nothing is left to vary.
    """
    base, keys = _base(options, schema), [knob.key for knob in KNOBS]
    fixed = _fixed(options, base, schema)
    for key in options.only:
        known_name(key, keys, subject="only")
        if key in fixed:
            raise ConfigError(f"only must name what is left open, got {key}, which is settled")
    if options.architectures and _ARCHITECTURE in fixed:
        raise ConfigError("architectures must stand without one that is settled, got both")
    names = (base.model.architecture,)
    if _ARCHITECTURE not in fixed:
        names = _architectures(options, base, schema)
        if base.model.architecture not in names:
            base = Space(base, ()).config({_ARCHITECTURE: names[0]})
    asked = {*options.only, *([_ARCHITECTURE] if options.architectures else [])}
    fixed |= {_ARCHITECTURE} if len(names) == 1 else set()
    fixed |= set(keys) - asked if options.only else set()
    knobs = [knob for knob in KNOBS if knob.key not in fixed]
    space = Space(base, tuple(replace(k, choices=names) if k is KNOBS[0] else k for k in knobs))
    if not space.active(base.model.architecture):
        raise ConfigError("tune must have something to vary, got settings that say everything")
    return space.around_base()


def _fixed(options: TuneOptions, base: RunConfig, schema: Schema) -> set[str]:
    """Return the keys that settings, or the rows, say already."""
    fixed = {text.partition("=")[0].strip() for text in options.settings}
    fixed |= {key for key, same in SAME_AS.items() if fixed & set(same) or base.model.size}
    if not any(schema.kept_numbers):
        fixed.add("model.numeric.embedding")
    if sum(sets for _, sets in named_mix(base.model.architecture)) > 1:
        fixed |= {"model.sets", _ARCHITECTURE}
    return fixed


def costs_of(config: RunConfig, sizes: FieldSizes) -> tuple[int, int]:
    """Return the parameters of a model and its operations per row, without memory for them."""
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        budget = build_model(config.resolved(), *sizes).summary()
    return budget.parameters.total, budget.flops.total


def _base(options: TuneOptions, schema: Schema) -> RunConfig:
    for key, word in (("training.best_by", "--by"), ("dataset", "DATASET")):
        if any(text.partition("=")[0].strip() == key for text in options.settings):
            raise ConfigError(f"--set {key} must be left out, got one: {word} says it")
    table = merged(
        recipe_table(options.recipe or RECIPES[0], schema), {"training": {"seed": options.seed}}
    )
    flags: dict[str | tuple[str, ...], object] = {"training.best_by": options.by}
    base = configured(None, options.settings, flags, base=table)
    kinds = set(base.model.numeric_kinds(schema.kept_numbers)) - {None}
    if len(kinds) == 1:  # what the dataset says, said aloud
        flags = {"model.numeric.embedding": kinds.pop()}
        base = configured(None, (), flags, base=base.model_dump(exclude_unset=True))
    return base


def _architectures(
    options: TuneOptions, base: RunConfig, schema: Schema
) -> tuple[SettingValue, ...]:
    """Return the architectures that go with what all trials have in common."""
    found = []
    for name in dict.fromkeys(options.architectures or ARCHITECTURES):
        ARCHITECTURES.known(name)
        try:
            costs_of(Space(base, ()).config({_ARCHITECTURE: name}), schema.sizes)
            found.append(name)
        except ConfigError:
            if options.architectures:
                raise
    if not found:
        costs_of(base, schema.sizes)  # says what is wrong
    return tuple(found)


def _options(architecture: str) -> set[str]:
    return {name for of, _ in named_mix(architecture) for name in type(of).model_fields}


def _scale(architecture: str) -> float:
    """Return what an architecture's base size is, beside that of most."""
    return min(type(of).base_dim for of, _ in named_mix(architecture)) / _PAPER_DIM


def _written(knob: Knob, config: Mapping[str, Any]) -> SettingValue:
    value = _at(config, knob.key)
    if value is None and knob.otherwise:
        value = _at(config, knob.otherwise)
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else value


def _at(table: Mapping[str, Any], key: str) -> Any:  # noqa: ANN401
    for part in key.split("."):
        table = (table or {}).get(part)  # pyright: ignore
    return table


def _from_text(key: str, value: SettingValue) -> object:
    """Return widths as numbers; other values are what they are."""
    widths = key == f"{_OPTIONS}hidden" and isinstance(value, str)
    return [int(width) for width in str(value).split(",") if width] if widths else value


def _nested(key: str, value: object) -> dict[str, Any]:
    first, _, rest = key.partition(".")
    return {first: _nested(rest, value) if rest else value}
