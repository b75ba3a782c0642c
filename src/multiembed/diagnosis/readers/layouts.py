"""Which tensors of a checkpoint are embedding tables, by the names that libraries give them."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import torch

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.cardinalities import split_rows
from multiembed.diagnosis.readers.table import Checkpoint, Skipped, StoredTensor, Table

Cardinalities = Mapping[str, int] | Sequence[int]
Tensors = Mapping[str, StoredTensor]

_ONE_TABLE_PER_FIELD = {
    "FuxiCTR": r"embedding_layer\.embedding_layers\.(?P<field>[^.]+)\.weight",
    "DeepCTR-Torch": r"embedding_dict\.(?P<field>.+)\.weight",
    "torch-rechub": r"embed_dict\.(?P<field>.+)\.weight",
    "DLRM": r"emb_l\.(?P<field>\d+)\.weight",
    "TorchRec": r"embedding_bags\.(?P<field>.+)\.weight",
    "RecBole sequences": r"(?P<field>token_seq_embedding_table\.\d+)\.weight",
    "Hugging Face": r"(?P<field>shared|wte|word_embeddings|embed_tokens|tok_embeddings)\.weight",
}
"""How libraries name the table of one field, after any prefix."""

_ALL_FIELDS_IN_ONE_TABLE = {
    "RecBole": r"token_embedding_table\.embedding\.weight",
    "pytorch-fm": r"embedding\.embedding\.weight",
    "the paper's code, several sets": r"embeddings\.(?P<set>\d+)\.(?:0\.)?embedding\.weight",
}
"""How libraries name a table that holds the rows of every field, one set each."""

_ONE_TABLE_PER_PAIR = r"embeddings\.(?P<set>\d+)\.weight"
"""Field-aware models: table j holds, for the rows of every field, what they show field j."""

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
        field_aware=layout == "FFM",
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
    for layout, pattern in _ALL_FIELDS_IN_ONE_TABLE.items():
        whole = _matches(wide, pattern)
        if whole:
            fields = _split_fields(layout, [wide[name] for name in whole], cardinalities)
            return layout, [Table(n, tuple(p), sets=len(p)) for n, p in fields.items()], {*whole}
    aware = _matches(wide, _ONE_TABLE_PER_PAIR)
    if len(aware) > 1:
        fields = _split_fields("FFM", [wide[name] for name in aware], cardinalities)
        return "FFM", field_aware(fields), {*aware}
    for layout, pattern in _ONE_TABLE_PER_FIELD.items():
        found = _matches(wide, pattern)
        if found:
            names = _field_names(found)
            return layout, [Table(names[n], (wide[n],)) for n in found], {*found}
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
    pieces = [split_rows(tensor, cardinalities) for tensor in whole]
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
