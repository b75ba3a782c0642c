"""Which tensors of a checkpoint, and which of their rows, are the table of which field."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.table import Checkpoint, Skipped, StoredTensor, Table, Tensors

Cardinalities = Mapping[str, int] | Sequence[int]


class Layout(NamedTuple):
    """How a library names the tensors that are embedding tables."""

    pattern: str
    """A regular expression of the whole name after any prefix; its group `field`, if the tensor is
    one field's, is the field's name."""
    kind: Literal["one per field", "all fields in one", "one per pair"] = "one per field"
    """What one tensor holds: the table of a field; the rows of every field, for one embedding set;
    or, for the rows of every field, what they show one field j (FFM: tensors are in j's order)."""


LAYOUTS: dict[str, Layout] = {
    "RecBole": Layout(r"token_embedding_table\.embedding\.weight", "all fields in one"),
    "pytorch-fm": Layout(r"embedding\.embedding\.weight", "all fields in one"),
    "the paper's code, several sets": Layout(
        r"embeddings\.\d+\.(?:0\.)?embedding\.weight", "all fields in one"
    ),
    "FFM": Layout(r"embeddings\.\d+\.weight", "one per pair"),
    "FuxiCTR": Layout(r"embedding_layer\.embedding_layers\.(?P<field>[^.]+)\.weight"),
    "DeepCTR-Torch": Layout(r"embedding_dict\.(?P<field>.+)\.weight"),
    "torch-rechub": Layout(r"embed_dict\.(?P<field>.+)\.weight"),
    "DLRM": Layout(r"emb_l\.(?P<field>\d+)\.weight"),
    "TorchRec": Layout(r"embedding_bags\.(?P<field>.+)\.weight"),
    "RecBole sequences": Layout(r"(?P<field>token_seq_embedding_table\.\d+)\.weight"),
    "Hugging Face": Layout(
        r"(?P<field>shared|wte|word_embeddings|embed_tokens|tok_embeddings)\.weight"
    ),
}
"""Layouts by name: the first that is met in a checkpoint is taken for its own."""

_CROSS_LAYER = re.compile(
    r"(?:^|\.)(?:cn|cns|cross|crossnet|cross_net|cross_layer_w|cross_layers)(?:\.|$)"
)
_LIKE_A_TABLE = re.compile(r"emb|lookup|table|vocab", re.IGNORECASE)


def recognise(
    tensors: Tensors, *, cardinalities: Cardinalities | None = None, ordered: bool = True
) -> Checkpoint:
    """Tell tables from other tensors; every tensor ends as a table, a cross layer or skipped.

    Args:
        tensors: Everything the checkpoint holds, by name.
        cardinalities: Field sizes, where one table holds the rows of every field.
        ordered: Whether tensors come in the model's order; without it the blocks of a cross
            layer cannot be told apart, unless fields are numbered.

    Raises:
        DataError: If nothing looks like a table, or one table holds every field and
            `cardinalities` do not say where each ends.
    """
    wide = {
        name: tensor
        for name, tensor in tensors.items()
        if tensor.dtype.is_floating_point and len(tensor.shape) == 2 and tensor.shape[1] > 1
    }
    layout, tables, used = _find_tables(wide, tensors, cardinalities)
    if not tables:
        raise DataError(
            f"a checkpoint must hold embedding tables, got {len(tensors)} tensors of which none "
            "looks like one"
        )
    numbered = all(table.name.isdigit() for table in tables)
    cross_layers, crossing = _cross_layers(tensors, tables) if ordered or numbered else ([], set())
    skipped = [
        Skipped(name, tensor.shape, _why_not(name, tensor, tensors, layout))
        for name, tensor in tensors.items()
        if name not in used | crossing
    ]
    return Checkpoint(
        layout=layout,
        tables=tuple(tables),
        skipped=tuple(skipped),
        cross_layers=tuple(cross_layers),
        field_aware=layout in LAYOUTS and LAYOUTS[layout].kind == "one per pair",
    )


def stack_sets(parts: list[StoredTensor]) -> StoredTensor:
    """Put the projections of all sets behind one (sets, out, in) tensor, still unread."""
    return StoredTensor(
        (len(parts), *parts[0].shape),
        parts[0].dtype,
        lambda start, stop: torch.stack([part.whole() for part in parts[start:stop]]),
    )


def _find_tables(
    wide: Tensors, tensors: Tensors, cardinalities: Cardinalities | None
) -> tuple[str, list[Table], set[str]]:
    for layout, (pattern, kind) in LAYOUTS.items():
        found = _matches(wide, pattern)
        if len(found) <= (kind == "one per pair"):  # a pair takes two
            continue
        if kind == "one per field":
            names = _field_names(found)
            return layout, [Table(names[n], (wide[n],)) for n in found], {*found}
        fields = _split_fields(layout, [wide[name] for name in found], cardinalities)
        if kind == "one per pair":
            return layout, field_aware(fields), {*found}
        return layout, [Table(n, tuple(p), sets=len(p)) for n, p in fields.items()], {*found}
    likely = [name for name, tensor in wide.items() if _objection(name, tensor, tensors) is None]
    return "unknown", [Table(n, (wide[n],)) for n in likely], {*likely}


def _matches(tensors: Tensors, pattern: str) -> dict[str, re.Match[str]]:
    compiled = re.compile(rf"(?:^|.*\.){pattern}$")
    matches = ((name, compiled.match(name)) for name in tensors)
    return {name: match for name, match in matches if match}


def _field_names(found: Mapping[str, re.Match[str]]) -> dict[str, str]:
    """Name fields as the library does; by the whole tensor name where two would be the same."""
    short = {name: match["field"] for name, match in found.items()}
    repeated = {field for field, times in Counter(short.values()).items() if times > 1}
    return {name: name if field in repeated else field for name, field in short.items()}


def _split_fields(
    layout: str, whole: list[StoredTensor], cardinalities: Cardinalities | None
) -> dict[str, list[StoredTensor]]:
    rows = whole[0].shape[0]
    if cardinalities is None:
        raise DataError(
            f"one table of {rows} rows holds every field ({layout} layout): cardinalities must "
            "say where each field ends, got none; give --cardinalities 7,5,11 or a file of them"
        )
    pieces = [rows_by_field(tensor, cardinalities) for tensor in whole]
    return {name: [piece[name] for piece in pieces] for name in pieces[0]}


def field_aware(fields: Mapping[str, list[StoredTensor]]) -> list[Table]:
    """Leave out what a field would show itself: no model reads it, so nothing trained it."""
    tables = []
    for i, (name, parts) in enumerate(fields.items()):
        others = tuple(part for j, part in enumerate(parts) if j % len(fields) != i)
        tables.append(Table(name, others, sets=len(others)))
    return tables


def _cross_layers(tensors: Tensors, tables: Sequence[Table]) -> tuple[list[StoredTensor], set[str]]:
    """Return every cross layer's (sets, side, side) projections, and the tensors they are in."""
    side = sum(table.dim for table in tables)
    crossing = {
        name: tensor
        for name, tensor in tensors.items()
        if tensor.shape[-2:] == (side, side) and _CROSS_LAYER.search(name)
    }
    if len({table.dim for table in tables}) > 1:
        return [], set()
    stacked = [name for name, tensor in crossing.items() if len(tensor.shape) == 3]
    if stacked:  # DeepCTR-Torch keeps all layers in one tensor
        name, kernels = stacked[0], crossing[stacked[0]]
        return [kernels.block(k, k + 1) for k in range(kernels.shape[0])], {name}
    layers: dict[int, list[str]] = {}
    for name in crossing:
        numbers = [int(part) for part in name.split(".") if part.isdigit()] or [0]
        layers.setdefault(numbers[-1], []).append(name)
    sizes = {len(names) for names in layers.values()}
    if not sizes <= {1} and sizes != {tables[0].sets}:
        return [], set()
    return [stack_sets([crossing[n] for n in names]) for names in layers.values()], {*crossing}


def _objection(name: str, tensor: StoredTensor, tensors: Tensors) -> str | None:
    """Say why a matrix of an unknown model is no embedding table; None if it may be one."""
    if name.endswith("weight") and name.removesuffix("weight") + "bias" in tensors:
        return "a linear layer: it has a bias"
    rows, columns = tensor.shape
    if name.endswith("weight") and rows <= columns and not _LIKE_A_TABLE.search(name):
        return "not named like a table, and no taller than wide"
    return None


def _why_not(name: str, tensor: StoredTensor, tensors: Tensors, layout: str) -> str:
    if not tensor.dtype.is_floating_point:
        return "not floating point"
    if len(tensor.shape) != 2:
        return "not a matrix"
    if tensor.shape[1] == 1:
        return "one column: a linear term"
    return _objection(name, tensor, tensors) or f"not named like a table of {layout}"


def in_order(tensors: Tensors, feature_map: Path) -> Tensors:
    """Put the tables of a FuxiCTR model in the order its feature map gives, which models follow.

    Raises:
        DataError: If the map is none, or of another model.
    """
    try:
        listed = json.loads(feature_map.read_text())["features"]
        features = {name: spec for entry in listed for name, spec in entry.items()}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise DataError(f"{feature_map}: must list features by name") from error
    order = {name: place for place, name in enumerate(features)}

    def place(name: str) -> int:
        return order.get(name.removesuffix(".weight").rpartition(".")[2], len(order))

    ordered = dict(sorted(tensors.items(), key=lambda item: place(item[0])))
    for name, tensor in ordered.items():
        field = name.removesuffix(".weight").rpartition(".")[2]
        expected = features.get(field, {}).get("vocab_size")
        if "embedding_layers" in name and expected not in (None, tensor.shape[0]):
            raise DataError(
                f"{feature_map}: size of '{field}' must be its table's {tensor.shape[0]} rows, "
                f"got {expected}"
            )
    return ordered


def parse_cardinalities(text: str) -> dict[str, int]:
    """Return field sizes by name from `7,5,11`, or from a file that holds them.

    The file is JSON (a list, a mapping of names to sizes, or an encoded dataset's
    `schema.json`) or has one size per line, after the field's name if it has one.

    Raises:
        DataError: If a size is no positive whole number.
    """
    path = Path(text)
    if all(part.strip().isdigit() for part in text.split(",")):
        return _named(text.split(","), text)
    if not path.is_file():
        raise DataError(f"cardinalities must be numbers or a file of them, got '{text}'")
    content = path.read_text()
    if path.suffix == ".json":
        return _from_json(content, text)
    lines = [line.replace(",", " ").split() for line in content.splitlines() if line.strip()]
    if all(len(line) == 2 for line in lines):
        return _checked({name: size for name, size in lines}, text)
    return _named([size for line in lines for size in line], text)


def rows_by_field(
    tensor: StoredTensor, cardinalities: Mapping[str, int] | Sequence[int]
) -> dict[str, StoredTensor]:
    """Cut one concatenated table into one block of rows per field, in order."""
    if not isinstance(cardinalities, Mapping):
        cardinalities = _named(cardinalities, "cardinalities")
    total = sum(cardinalities.values())
    if total != tensor.shape[0]:
        raise DataError(
            f"cardinalities must add up to the table's {tensor.shape[0]} rows, got {total}"
        )
    edges = pairwise(accumulate(cardinalities.values(), initial=0))
    return {
        name: tensor.block(start, stop)
        for name, (start, stop) in zip(cardinalities, edges, strict=True)
    }


def _from_json(content: str, source: str) -> dict[str, int]:
    try:
        loaded = json.loads(content)
        if isinstance(loaded, dict) and isinstance(loaded.get("fields"), list):
            loaded = {field["name"]: field["cardinality"] for field in loaded["fields"]}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{source} must hold field sizes as JSON, got {error}") from error
    if isinstance(loaded, dict):
        return _checked(loaded, source)
    if isinstance(loaded, list):
        return _named(loaded, source)
    raise DataError(f"{source} must hold a list or a mapping of sizes, got {loaded!r}")


def _named(sizes: Sequence[object], source: str) -> dict[str, int]:
    return _checked({str(number): size for number, size in enumerate(sizes)}, source)


def _checked(sizes: Mapping[str, object], source: str) -> dict[str, int]:
    checked = {}
    for name, size in sizes.items():
        text = str(size).strip()
        if not text.isdigit() or int(text) < 1:
            raise DataError(f"{source}: size of field '{name}' must be at least 1, got {size!r}")
        checked[name] = int(text)
    if not checked:
        raise DataError(f"{source} must name at least one field size, got none")
    return checked
