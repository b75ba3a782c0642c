"""Checkpoints of the paper's public code, read into our model.

The reference code (thuml/Multi-Embedding) writes every architecture twice, for one set and for
several; here both are one model, so a checkpoint is a matter of names. One table holds them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from multiembed.base.errors import ConfigError
from multiembed.models.click_model import ClickModel
from multiembed.models.naming import named_architecture

Array = Shaped[np.ndarray, "..."] | Shaped[Tensor, "..."]

_SET = r"(?P<set>\d+)"
_LAYER = r"(?P<layer>\d+)"
_LEAF = r"(?P<leaf>weight|bias|running_mean|running_var)"
# A hidden layer takes four places: linear, batch norm, ReLU, dropout.
_MLP = rf"\.mlp\.{_LAYER}\.{_LEAF}"
_TABLE = {rf"embedding(s\.{_SET}(\.0)?)?\.embedding\.weight": "blocks"}
_PROJECTION = "interaction.projection.{part}.{leaf}"
_STREAM = "interaction.streams.{stream}.{depth}.{part}.{leaf}"
_TRUNKS = ("head", "head.deep")

# What a name stands for: columns of the table (`blocks`, `first_order`), the layers that follow
# the mean (a head's name; with one set the first of them is our projection), or a parameter.
_RULES: dict[str, dict[str, str]] = {
    "dnn": _TABLE | {rf"embeddings\.{_SET}\.2{_MLP}": _PROJECTION, rf"mlp{_MLP}": "head"},
    "ipnn": _TABLE | {rf"pns\.{_SET}\.1{_MLP}": _PROJECTION, rf"mlp{_MLP}": "head"},
    "nfwfm": _TABLE
    | {
        rf"fm\.0\.weight|fwfms\.{_SET}\.0\.weight": "interaction.pair_weight",
        rf"(fm|fwfms\.{_SET})\.1\.{_LEAF}": "interaction.norm.{leaf}",
        rf"fwfms\.{_SET}\.3{_MLP}": _PROJECTION,
        rf"mlp{_MLP}": "head",
    },
    "xdeepfm": _TABLE
    | {
        rf"cin(s\.{_SET})?\.conv_layers\.{_LAYER}\.{_LEAF}": "interaction.cin.{layer}.{leaf}",
        rf"cin_post\.{_LEAF}": "head.explicit.{leaf}",
        rf"mlps\.{_SET}{_MLP}": _PROJECTION,
        rf"mlp(_post)?{_MLP}": "head.deep",
    },
    "dcnv2": _TABLE
    | {
        rf"cn(s\.{_SET})?(\.0)?\.W\.{_LAYER}": "interaction.cross.{layer}.weight",
        rf"cn(s\.{_SET})?(\.0)?\.b\.{_LAYER}": "interaction.cross.{layer}.bias",
        rf"cn(s\.{_SET})?\.N\.{_LAYER}": "interaction.cross.{layer}.block_weight",
        rf"(cn|(cns|projs)\.{_SET})(\.1)?{_MLP}": _PROJECTION,
        rf"mlp{_MLP}": "head",
        rf"linear\.{_LEAF}": "head.logit.{leaf}",
    },
    "finalmlp": _TABLE
    | {
        rf"inter(s\.{_SET})?\.mlps\.(?P<stream>[01])\.1{_MLP}": _STREAM,
        rf"fusion\.w_x\.{_LEAF}": "head.first.{leaf}",
        rf"fusion\.w_y\.{_LEAF}": "head.second.{leaf}",
        r"fusion\.w_xy": "head.bilinear",
    },
    "ffm": {
        rf"ffm\.embeddings\.{_LAYER}\.weight": "blocks",
        r"linear\.fc\.weight": "first_order",
        r"linear\.bias": "head.bias",
    },
}


@dataclass(frozen=True)
class ArrayPlace:
    """Where a reference array lies in our model: a part of one of its tensors."""

    parameter: str
    index: tuple[int | slice, ...]

    def part(self, tensors: Mapping[str, Shaped[Tensor, "..."]]) -> Shaped[Tensor, "..."]:
        """Return that part of tensors named as in our model, such as parameters or gradients."""
        return tensors[self.parameter][self.index]


def from_reference(
    name: str, arrays: Mapping[str, Array], cardinalities: Sequence[int], *, dropout: float = 0.0
) -> ClickModel:
    """Build the model that a checkpoint of the paper's public code holds, with equal outputs.

    Example:
        >>> import numpy as np
        >>> import torch
        >>> import multiembed as me
        >>> arrays = {
        ...     "embedding.embedding.weight": np.ones((7, 2), np.float32),  # 4 + 3 ids
        ...     "mlp.mlp.0.weight": np.ones((5, 4), np.float32),
        ...     "mlp.mlp.0.bias": np.zeros(5, np.float32),
        ...     "mlp.mlp.4.weight": np.ones((1, 5), np.float32),
        ...     "mlp.mlp.4.bias": np.zeros(1, np.float32),
        ... }
        >>> model = me.from_reference("dnn", arrays, [4, 3])
        >>> model(torch.tensor([[3, 2]])).item()
        20.0

    Args:
        name: Architecture, or a name that begins with it (`dcnv2`, `dcnv2_me`, …); dim, sets,
            layers and variants are read off the arrays.
        arrays: Parameters and buffers under the reference's names.
        cardinalities: Number of ids of every field (fields); the rows of its table follow one
            another in this order.
        dropout: Share of hidden units to drop when it is trained on; a checkpoint does
            not say.

    Raises:
        ConfigError: If the name is unknown, or an array is missing, unknown or of a shape that
            does not fit.
    """
    return reference_layout(name, arrays, cardinalities, dropout=dropout)[0]


def reference_layout(
    name: str, arrays: Mapping[str, Array], cardinalities: Sequence[int], *, dropout: float = 0.0
) -> tuple[ClickModel, dict[str, ArrayPlace]]:
    """Do as `from_reference`, and say where every array went."""
    architecture = name.split("_")[0]
    if architecture not in _RULES:
        raise ConfigError(f"name must begin with one of {', '.join(_RULES)}, got '{name}'")
    tensors = {
        key: value if isinstance(value, Tensor) else torch.tensor(value)
        for key, value in arrays.items()
        if not key.endswith("num_batches_tracked")
    }
    checkpoint = _Checkpoint(architecture, tensors, fields=len(cardinalities))
    model = checkpoint.build(cardinalities, dropout)
    state = model.state_dict()
    places = {key: checkpoint.place(key, model) for key in tensors}
    _check(architecture, tensors, places, state)
    with torch.no_grad():
        for key, place in places.items():
            part = place.part(state)
            part.copy_(tensors[key].reshape(part.shape))
    model.load_state_dict(state)  # batch norms hear that their statistics are of rows
    return model, places


@dataclass(frozen=True)
class _Entry:
    """What one name says."""

    target: str
    set: int = 0
    layer: int = 0
    leaf: str = ""
    stream: int = 0

    @property
    def part(self) -> str:
        return ("linear", "norm", "relu", "dropout")[self.layer % 4]


class _Checkpoint:
    """Arrays of one architecture, their names understood."""

    def __init__(self, architecture: str, tensors: dict[str, Tensor], *, fields: int) -> None:
        self.architecture = architecture
        self.tensors = tensors
        self.fields = fields
        self.entries = {key: _read_name(architecture, key) for key in tensors}
        tables = [key for key, entry in self.entries.items() if entry.target == "blocks"]
        if not tables:
            raise ConfigError(f"{architecture} arrays must hold an embedding table, got none")
        self.tables = tables
        self.sets = 1 + max(self.entries[key].set for key in tables)
        self.one_set_code = not any(entry.target == _PROJECTION for entry in self.entries.values())
        self.hidden = self._hidden()

    def _of(self, target: str) -> dict[str, _Entry]:
        return {key: entry for key, entry in self.entries.items() if entry.target == target}

    def _position(self, entry: _Entry) -> int:
        """Count hidden layers from the embeddings on."""
        follows = entry.target in _TRUNKS and not self.one_set_code
        return entry.layer // 4 + int(follows)

    def _hidden(self) -> tuple[int, ...]:
        layers = {
            self._position(entry): len(self.tensors[key])
            for key, entry in self.entries.items()
            if entry.target in (*_TRUNKS, _PROJECTION, _STREAM)
            and entry.part == "linear"
            and entry.leaf == "weight"
        }
        sizes = [layers[at] for at in sorted(layers)]
        ends_in_logit = any(entry.target in _TRUNKS for entry in self.entries.values())
        if ends_in_logit and not self._of("head.logit.{leaf}"):
            sizes = sizes[:-1]
        return tuple(sizes)

    def _options(self, dropout: float) -> dict[str, object]:
        if self.architecture == "ffm":
            return {}
        norms = any(entry.part == "norm" for entry in self.entries.values())
        options: dict[str, object] = {
            "dropout": dropout,
            "batch_norm": norms,
            "hidden": self.hidden,
        }
        if self.architecture == "ipnn":
            pairs = self.fields * (self.fields - 1) // 2
            options["include_embeddings"] = self._projection_inputs() > pairs
        if self.architecture == "xdeepfm":
            found = self._of("interaction.cin.{layer}.{leaf}").items()
            sizes = {e.layer: len(self.tensors[key]) for key, e in found if e.leaf == "bias"}
            options["cin"] = tuple(sizes[layer] for layer in sorted(sizes))
        if self.architecture == "dcnv2":
            options["cross_layers"] = len(
                {entry.layer for entry in self._of("interaction.cross.{layer}.weight").values()}
            )
            options["block_weights"] = bool(self._of("interaction.cross.{layer}.block_weight"))
        return options

    def _projection_inputs(self) -> int:
        for key, entry in self.entries.items():
            first = entry.target in (*_TRUNKS, _PROJECTION) and self._position(entry) == 0
            if first and self.tensors[key].ndim == 2:
                return self.tensors[key].shape[1]
        return 0

    def build(self, cardinalities: Sequence[int], dropout: float) -> ClickModel:
        """Return the model of these shapes, its parameters still its own."""
        table = self.tensors[self.tables[0]]
        if table.ndim != 2 or len(table) != sum(cardinalities):
            raise ConfigError(
                f"{self.tables[0]} must have one row for each of the {sum(cardinalities)} ids, "
                f"got shape {tuple(table.shape)}"
            )
        per_set = [e.set for e in self.entries.values() if e.target.startswith("interaction")]
        return ClickModel(
            named_architecture(self.architecture, self._options(dropout)),
            cardinalities,
            dim=table.shape[1],
            sets=self.sets,
            shared_interaction=self.sets > 1 and max(per_set, default=0) == 0,
        )

    def place(self, key: str, model: ClickModel) -> ArrayPlace:
        """Say where the array called `key` lies in `model`."""
        entry = self.entries[key]
        table = model.embedding
        if entry.target in ("blocks", "first_order"):
            block = table.row.blocks if entry.target == "first_order" else entry.layer
            start = entry.set * table.width + block * table.dim
            columns = 1 if entry.target == "first_order" else table.dim
            return ArrayPlace("embedding.weight", (slice(None), slice(start, start + columns)))
        parameter = self._parameter(entry)
        if parameter.startswith("interaction"):
            return ArrayPlace(f"groups.0.{parameter}", (entry.set,))
        return ArrayPlace(parameter, ())

    def _parameter(self, entry: _Entry) -> str:
        target, at = entry.target, self._position(entry)
        if target in _TRUNKS:
            after = f"{target}.hidden.{at - 1}.{{part}}.{{leaf}}"
            last = f"{target}.logit.{{leaf}}"
            target = _PROJECTION if at == 0 else last if at == len(self.hidden) else after
        return target.format(
            layer=entry.layer, depth=at, part=entry.part, leaf=entry.leaf, stream=entry.stream
        )


def _read_name(architecture: str, key: str) -> _Entry:
    for pattern, target in _RULES[architecture].items():
        found = re.fullmatch(pattern, key)
        if found:
            words = {word: text for word, text in found.groupdict().items() if text is not None}
            return _Entry(
                target,
                set=int(words.get("set", 0)),
                layer=int(words.get("layer", 0)),
                leaf=words.get("leaf", ""),
                stream=int(words.get("stream", 0)),
            )
    raise ConfigError(f"{architecture} arrays must have the reference's names, got '{key}'")


def _check(
    architecture: str,
    tensors: Mapping[str, Tensor],
    places: Mapping[str, ArrayPlace],
    state: Mapping[str, Tensor],
) -> None:
    """Refuse arrays that do not fit, and a model that they do not fill."""
    filled = {name: torch.zeros(tensor.shape, dtype=torch.bool) for name, tensor in state.items()}
    for key, place in places.items():
        if place.parameter not in state or not _holds(state[place.parameter], place.index):
            raise ConfigError(f"{architecture} arrays must belong to one model, '{key}' does not")
        have = tuple(place.part(state).shape)
        if _without_ones(have) != _without_ones(tensors[key].shape):
            raise ConfigError(f"{key} must have shape {have}, got {tuple(tensors[key].shape)}")
        place.part(filled)[...] = True
    for name, mask in filled.items():
        if not mask.all():
            raise ConfigError(f"{architecture} arrays must fill '{name}' of the model, got too few")


def _holds(tensor: Tensor, index: tuple[int | slice, ...]) -> bool:
    return not index or not isinstance(index[0], int) or index[0] < len(tensor)


def _without_ones(shape: Sequence[int]) -> list[int]:
    return [size for size in shape if size != 1]
