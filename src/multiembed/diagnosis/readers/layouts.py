"""Which tensors of a checkpoint, and which of their rows, are the table of which field."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import torch

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.asked import Asked, choose
from multiembed.diagnosis.readers.cardinalities import (
    Cardinalities,
    rows_by_field,
    sizes_by_name,
)
from multiembed.diagnosis.readers.quantised import dequantised
from multiembed.diagnosis.readers.roles import Role, bare, beside, is_moment, objection, role_of
from multiembed.diagnosis.readers.second_moments import MOMENTS_TELL, trained_rows
from multiembed.diagnosis.readers.table import (
    Checkpoint,
    Contents,
    RowCounts,
    Skipped,
    StoredTensor,
    Table,
    Tensors,
)

Holds = Literal["one per field", "all fields in one", "one per pair"]


class Layout(NamedTuple):
    """How a library names the tensors that are embedding tables."""

    pattern: str
    """A regular expression of the whole name after any prefix; its group `field`, if the tensor is
    one field's, is the field's name."""
    kind: Holds = "one per field"
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
    "a list of tables": Layout(r"[^.]*(?:emb|table|lookup)[^.]*\.(?P<field>\d+)\.weight"),
    "Keras": Layout(r"(?:model_weights/)?(?P<field>[^/.]+)/(?:.+/)?embeddings(?::0)?"),
    # TorchRec's EmbeddingCollection, and whoever keeps modules in a dictionary of this name
    "tables by name": Layout(
        r"embeddings\.(?P<field>(?!\w*(?:proj|linear|dense|mapping))[^.]+)\.weight"
    ),
}
"""Layouts by name: a tensor is the first's whose pattern its name fits."""

_CROSS_LAYER = re.compile(
    r"(?:^|\.)(?:cn|cns|cross|crossnet|cross_net|cross_layer_w|cross_layers)(?:\.|$)"
)
_WRAPPERS = frozenset(("module", "_orig_mod", "_forward_module", "model", "state_dict", "net"))
"""Where wrappers of a model put its weights: such names say nothing about a field."""


class _Group(NamedTuple):
    """Tensors that one layout names, or that are told one by one."""

    layout: str
    kind: Holds
    fields: Mapping[str, str]
    """By tensor, what its field is called where it is one field's."""

    def tables(self, tensors: Tensors, cardinalities: Cardinalities | None) -> list[Table]:
        """Cut the tensors into tables."""
        parts = {name: tensors[name] for name in self.fields}
        if self.kind == "one per field":
            return [Table(self.fields[n], (part,), origin=(n,)) for n, part in parts.items()]
        fields = _split_fields(self.layout, [*parts.values()], cardinalities)
        origin = tuple(self.fields)
        if self.kind == "one per pair":
            return [replace(table, origin=origin) for table in field_aware(fields)]
        return [Table(n, tuple(p), sets=len(p), origin=origin) for n, p in fields.items()]


def recognise(contents: Contents, asked: Asked) -> Checkpoint:
    """Tell tables from other tensors.

    Every tensor ends as a table, a matrix of unknown role, a cross layer, or left out for a reason.
    A layout adds the tables that it names, and never hides what else looks like one.

    Args:
        contents: Everything the checkpoint holds, by name.
        asked: Field sizes, where one table holds the rows of every field, and which names a user
            wants measured or left out.

    Raises:
        DataError: If nothing looks like a table, one table holds every field and no sizes say where
            each ends, or a pattern fits no name.
    """
    contents = dequantised(contents)
    tensors = contents.tensors
    short = _short_names(tensors)
    reasons = _reasons(contents, asked, short)
    groups, unknown = _groups(contents, asked, reasons, short)
    if not groups:
        tall = [n for n in unknown if tensors[n].shape[0] > tensors[n].shape[1]] or unknown
        groups = [_Group(_BY_SHAPE, "one per field", {name: short[name] for name in tall})]
        unknown = [name for name in unknown if name not in tall]
    if not groups[0].fields:
        left = (Skipped(name, tensors[name].shape, why) for name, why in reasons.items())
        found = sorted((*contents.skipped, *left), key=lambda of: len(of.shape) != 2)
        raise DataError(
            f"a checkpoint must hold embedding tables, got {len(found)} tensors of which none "
            f"looks like one{''.join(f' ({of.name}: {of.reason})' for of in found[:1])}"
        )
    if asked.cardinalities is not None:
        groups = _cut_by(groups, tensors, sizes_by_name(asked.cardinalities))
    cut = [(group, group.tables(tensors, asked.cardinalities)) for group in groups]
    tables = [table for _, tables in cut for table in tables]
    ordered = contents.ordered or all(table.name.isdigit() for table in tables)
    cross_layers, crossing = _cross_layers(tensors, tables) if ordered else ([], set())
    counts = _met(cut, trained_rows(contents), asked.cardinalities)
    return choose(
        Checkpoint(
            layout=", ".join(dict.fromkeys(g.layout for g in groups if g.layout)) or "unknown",
            tables=tuple(tables),
            unknown_role=tuple(Table(short[name], (tensors[name],)) for name in unknown),
            skipped=(
                *(Skipped(n, tensors[n].shape, r) for n, r in reasons.items() if n not in crossing),
                *(Skipped(n, t.shape, beside(n)) for n, t in contents.beside.items()),
                *contents.skipped,
            ),
            counts=counts,
            counts_from=MOMENTS_TELL if counts else None,
            cross_layers=tuple(cross_layers),
            field_aware=groups[0].kind == "one per pair",
        ),
        asked,
    )


_BY_SHAPE = "unknown, tables told by their shape"


def _cut_by(groups: list[_Group], tensors: Tensors, sizes: Mapping[str, int]) -> list[_Group]:
    """Have sizes cut the one table that they add up to; they may also be those of the tables."""
    rows = {name: tensors[name].shape[0] for group in groups for name in group.fields}
    if any(g.kind != "one per field" for g in groups) or [*rows.values()] == [*sizes.values()]:
        return groups
    fitting = [name for name in rows if len(rows) == 1 or rows[name] == sum(sizes.values())]
    if len(fitting) != 1:
        some = ", ".join(f"{name} {count:,}" for name, count in [*rows.items()][:3])
        raise DataError(
            f"cardinalities must be the rows of the tables ({some}), or add up to those of one of "
            f"them, got {', '.join(map(str, sizes.values()))}"
        )
    left = [
        g._replace(fields={n: f for n, f in g.fields.items() if n not in fitting}) for g in groups
    ]
    whole = _Group("one table of all fields", "all fields in one", {fitting[0]: ""})
    return [whole, *(group for group in left if group.fields)]


def _reasons(contents: Contents, asked: Asked, short: Mapping[str, str]) -> dict[str, str]:
    """Say of every tensor that can be no table why."""
    tensors, found = contents.tensors, {}
    for name, tensor in tensors.items():
        names = (name, short[name])
        if asked.refuses(*names):
            found[name] = "left out by --not"
        elif 0 in tensor.shape or len(tensor.shape) != 2:
            found[name] = "empty" if 0 in tensor.shape else "not a matrix"
        elif name in contents.same:
            found[name] = f"the same tensor as {contents.same[name]}"
        elif name in contents.tables or asked.chooses(*names):
            continue
        elif (reason := contents.reasons.get(name) or objection(name, tensor, tensors)) is not None:
            found[name] = reason
    return found


def _groups(
    contents: Contents, asked: Asked, reasons: dict[str, str], short: Mapping[str, str]
) -> tuple[list[_Group], list[str]]:
    """Return groups of tables, and the matrices of unknown role; add reasons for the others."""
    left = {name: t for name, t in contents.tensors.items() if name not in reasons}
    groups, unknown, told = [], [], {}
    for layout, (pattern, kind) in LAYOUTS.items():
        found = _matches(left, pattern)
        if found and _is_so(kind, [left[name] for name in found], asked):
            names = _field_names(found) if kind == "one per field" else dict.fromkeys(found, "")
            groups.append(_Group(layout, kind, names))
            left = {name: tensor for name, tensor in left.items() if name not in found}
    several = any(g.kind != "one per field" and len(g.fields) > 1 for g in groups)
    for name, tensor in left.items():
        sure = name in contents.tables or asked.chooses(name, short[name])
        role = Role("table") if sure else role_of(name, tensor)
        if role.kind == "other":
            reasons[name] = role.reason
        elif role.kind == "unknown" or several:
            unknown.append(name)
        else:
            told[name] = short[name]
    if told:
        groups.append(_Group("", "one per field", told))
    return groups, unknown


def _is_so(kind: Holds, tensors: Sequence[StoredTensor], asked: Asked) -> bool:
    """Say whether tensors that are named as a layout names them are what it says they are.

    A list of tables, one per field, is named as the tables of an FFM are, each of which holds the
    rows of every field.
    """
    alike = len({tensor.shape for tensor in tensors}) == 1
    if kind == "one per pair":
        sizes = sizes_by_name(asked.cardinalities or ())
        rows = sum(sizes.values())
        return alike and 1 < len(tensors) == len(sizes) and tensors[0].shape[0] == rows
    return kind == "one per field" or alike


def _short_names(tensors: Tensors) -> dict[str, str]:
    """Leave out of names what all weights share of a wrapper, and that they are weights."""
    weights = [name for name in tensors if not is_moment(name)]
    shared = ""
    while True:
        heads = {name.removeprefix(shared).partition(".")[0] for name in weights}
        if len(heads) != 1 or not heads <= _WRAPPERS:
            break
        shared += f"{heads.pop()}."
    short = {name: bare(name.removeprefix(shared)) for name in tensors}
    times = Counter(short.values())
    return {name: of if of and times[of] == 1 else name for name, of in short.items()}


def _met(
    cut: Sequence[tuple[_Group, list[Table]]], met: Tensors, cardinalities: Cardinalities | None
) -> dict[str, RowCounts]:
    """Cut what is known of the tensors' rows as the tensors themselves are cut."""
    found = {}
    for group, _ in cut:
        known = {name: field for name, field in group.fields.items() if name in met}
        if group.kind == "one per field":
            group = group._replace(fields=known)
        for table in group.tables(met, cardinalities) if len(known) == len(group.fields) else ():
            rows = np.concatenate([chunk for _, chunk in table.chunks()])
            found[table.name] = rows.any(axis=1)
    return found


def stack_sets(parts: list[StoredTensor]) -> StoredTensor:
    """Put the projections of all sets behind one (sets, out, in) tensor, still unread."""
    return StoredTensor(
        (len(parts), *parts[0].shape),
        parts[0].dtype,
        lambda start, stop: torch.stack([part.whole() for part in parts[start:stop]]),
    )


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
