"""Architectures and regularizers by name, sizes by the paper's words; torch is not loaded."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from multiembed.base.bounds import SETS_LIMIT
from multiembed.base.errors import ConfigError
from multiembed.base.number_kinds import NumericKind
from multiembed.base.registry import Registry
from multiembed.base.validation import checked, known_name
from multiembed.models.interactions.architectures import ARCHITECTURES

if TYPE_CHECKING:
    from multiembed.models.interactions.base import Architecture
else:
    Architecture = Any  # torch loads where an architecture is first built

Scaling = Literal["single", "multi"]
"""Which way a size is reached: `dim` grows, or `sets` do."""
Gate = Literal["mean", "learned"]
"""How the representations of sets are joined."""
Pooling = Literal["mean", "sum"]
"""How the values of a multi-valued field become one embedding."""
SequencePooling = Literal["mean", "attention", "softmax"]
"""How the values of a history become one embedding; the last two weigh them, see `Histories`."""
EmbeddingInit = Literal["table", "field"] | float
"""How tables begin, see `EmbeddingSets`."""


class NumericOptions(BaseModel):
    """How the fields that a dataset keeps as numbers are embedded.

    Every setting is given by its name; what it means and may be stands under it.

        >>> import multiembed as me
        >>> model = me.ModelConfig(numeric={"embedding": "plr", "frequency_scale": 0.5})
        >>> model.numeric.frequencies
        16

    Raises:
        ValidationError: Of pydantic, if a setting is unknown or out of range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    embedding: Literal["buckets", "linear", "plr", "soft"] | None = None
    """Of all these fields, in place of the one that the dataset names for each; `buckets` reads
    them by the ids of their buckets, as if they were no numbers."""
    frequencies: Annotated[int, Field(ge=1, le=4096)] = 16
    """Of `plr`: how many each field learns."""
    frequency_scale: Annotated[float, Field(gt=0)] = 1.0
    """Of `plr`: their standard deviation when training begins."""
    buckets: Annotated[int, Field(ge=1, le=4096)] = 16
    """Of `soft`: meta-embeddings of each field."""
    temperature: Annotated[float, Field(gt=0)] = 0.1
    """Of `soft`: below 1 the weights are nearer to those of one bucket alone."""
    keep_prob: Annotated[float, Field(ge=0)] = 0.8
    """Of `soft`: what its hidden layer is weighed with where it skips the mixing."""

    def kinds(self, kept: Sequence[NumericKind | None]) -> tuple[NumericKind | None, ...]:
        """Return for every field how a model embeds its numbers; nothing if it embeds none.

        Args:
            kept: For every field what its dataset says; None where it keeps no numbers.

        Raises:
            ConfigError: If numbers are to be embedded and the dataset keeps none.
        """
        chosen = self.embedding
        if chosen == "buckets" or (chosen is None and not any(kept)):
            return ()
        if not any(kept):
            raise ConfigError(
                "model.numeric.embedding must stand with a dataset that keeps numbers, got "
                f"{chosen}; prepare it with --numeric-embedding"
            )
        return tuple(kind and (chosen or kind) for kind in kept)


class Numeric(NamedTuple):
    """Which fields of a model are embedded as numbers, and how."""

    kinds: Sequence[NumericKind | None] = ()
    """Of every field; None for fields of ids, as all are if there are none."""
    options: NumericOptions = NumericOptions()


REGULARIZERS = Registry(
    "regularizer",
    {
        name: f"multiembed.models.regularizers:{name}"
        for name in ("aligned_norms", "unitary", "set_similarity", "singular_spread")
    },
)
"""Penalties that training may add to the loss, by name."""
_ON_CROSS_LAYERS = ("aligned_norms", "unitary")

Mix = Sequence[tuple[Architecture, int]]
"""Architectures of one model, each with its number of embedding sets."""
MOST_PARSED = 1000
_PARSED: dict[tuple[object, ...], Mix] = {}


def named_architecture(name: str, options: Mapping[str, object] | None = None) -> Architecture:
    """Return the architecture called `name` with `options` in place of the paper's values.

    Raises:
        ConfigError: If the name, an option or a value is unknown; a near word is suggested.
    """
    return checked(ARCHITECTURES[name], options or {}, at=f"{name} option ")


def named_mix(text: str, options: Mapping[str, object] | None = None) -> Mix:
    """Return what `dcnv2` or `dcnv2:2,dnn:1` names: architectures, each with a number of sets.

    An option goes to every architecture that has it; a table of options under an architecture's
    name goes to that one alone.

    Raises:
        ConfigError: If a name, an option or a value is unknown, or a name comes twice.
    """
    counts = _counts(text)
    # A run asks for the same few dozens of times. Equal plain values are written alike.
    key = (text, *(ARCHITECTURES[name] for name in counts), repr(options or {}))
    if key not in _PARSED:
        if len(_PARSED) == MOST_PARSED:
            _PARSED.clear()
        _PARSED[key] = _parse(text, counts, options or {})
    return _PARSED[key]


def _parse(text: str, counts: Mapping[str, int], options: Mapping[str, object]) -> Mix:
    shared = {key: value for key, value in options.items() if key not in counts}
    if len(counts) > 1:
        known = {option for name in counts for option in ARCHITECTURES[name].model_fields}
        for key in shared:
            known_name(key, sorted(known) + list(counts), subject=f"option of {text}")
    mix = []
    for name, count in counts.items():
        has = ARCHITECTURES[name].model_fields
        taken = {key: shared[key] for key in shared if key in has or len(counts) == 1}
        own = options.get(name, {})
        if not isinstance(own, Mapping):
            raise ConfigError(f"options of {name} must be a table, got {own!r}")
        mix.append((named_architecture(name, {**taken, **own}), count))
    return tuple(mix)


def counted_mix(mix: Mix, sets: int | None) -> Mix:
    """Return `mix` with `sets` sets in all, in its proportions; as it is if None.

    Raises:
        ConfigError: If a number of sets is below 1, or does not divide into the proportions.
    """
    for _, count in mix:
        if count < 1:
            raise ConfigError(f"sets of an architecture must be at least 1, got {count}")
    total = sum(count for _, count in mix)
    wanted = total if sets is None else sets
    if not 1 <= wanted <= SETS_LIMIT:
        raise ConfigError(f"sets must be from 1 to {SETS_LIMIT}, got {wanted}")
    if wanted % total:
        raise ConfigError(
            f"sets must be a multiple of {total}, the sum over architectures, got {wanted}"
        )
    return [(architecture, count * wanted // total) for architecture, count in mix]


def mix_name(text: str, mix: Mix) -> str:
    """Return the text that names `mix`, whose architectures `text` names."""
    names = list(_counts(text))
    if len(names) == 1:
        return names[0]
    counts = (count for _, count in mix)
    return ",".join(f"{name}:{count}" for name, count in zip(names, counts, strict=True))


def mix_options(text: str, mix: Mix) -> dict[str, object]:
    """Return every option of `mix` as `named_mix` reads them; `text` names its architectures."""
    written = [architecture.model_dump(mode="json") for architecture, _ in mix]
    names = list(_counts(text))
    return written[0] if len(names) == 1 else dict(zip(names, written, strict=True))


def check_regularizers(weights: Mapping[str, float], mix: Mix) -> None:
    """Refuse penalties that are unknown, or have nothing to act on in a model of `mix`.

    Raises:
        ConfigError: Naming the penalty.
    """
    for name in weights:
        REGULARIZERS.known(name)
        if name in _ON_CROSS_LAYERS and not any(
            isinstance(architecture, ARCHITECTURES["dcnv2"]) for architecture, _ in mix
        ):
            raise ConfigError(
                f"regularizer {name} must have a model with cross layers, dcnv2, got none"
            )


def base_dim(mix: Mix) -> int:
    """Return the paper's embedding size at 1x for the architectures of a model.

    Raises:
        ConfigError: If they have different ones.
    """
    bases = {type(architecture).base_dim for architecture, _ in mix}
    if len(bases) > 1:
        sizes = " and ".join(str(base) for base in sorted(bases))
        raise ConfigError(
            f"dim must be given for architectures of different base sizes, {sizes}, got none"
        )
    return bases.pop()


def shape_of_size(architecture: str, size: int, scaling: Scaling) -> tuple[int, int]:
    """Return (dim, sets) of a model `size` times the base: wider, or more sets of base width.

    The base is the paper's: 10, and 50 for NFwFM (section 5.2).

    Raises:
        ConfigError: If several architectures are to be reached by one set, or `size` sets do not
            divide into their proportions.
    """
    if not 1 <= size <= SETS_LIMIT:
        raise ConfigError(f"size must be from 1 to {SETS_LIMIT}, got {size}")
    mix = named_mix(architecture)
    width = base_dim(mix)
    if scaling == "multi":
        counted_mix(mix, size)
        return width, size
    if sum(count for _, count in mix) > 1:
        raise ConfigError(f"scaling must be multi for several sets, got single for {architecture}")
    return width * size, 1


def _counts(text: str) -> dict[str, int]:
    """Read `dcnv2:2,dnn` as `{"dcnv2": 2, "dnn": 1}`."""
    counts: dict[str, int] = {}
    for part in text.split(","):
        name, colon, number = (piece.strip() for piece in part.partition(":"))
        ARCHITECTURES.known(name)
        if colon and not (number.isdecimal() and len(number) < 10 and int(number) > 0):
            raise ConfigError(
                f"sets of {name} must be a whole number from 1 to {SETS_LIMIT}, got '{number}'"
            )
        if name in counts:
            raise ConfigError(f"architecture must name {name} once, got '{text}'")
        counts[name] = int(number) if colon else 1
    return counts
