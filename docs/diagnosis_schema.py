"""The JSON Schemas of `multiembed diagnose --json`, made from the records that are written.

    python docs/diagnosis_schema.py --write

writes `docs/diagnosis.schema.json` (of one model) and `docs/over_time.schema.json` (of several
checkpoints); without `--write`, they are printed.
"""

import ast
import dataclasses
import inspect
import json
import sys
import textwrap
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import jaxtyping
from pydantic import BaseModel

from multiembed.diagnosis.diagnose import FORMAT, Diagnosis, ModelSummary
from multiembed.diagnosis.drift import DRIFT_FORMAT, DriftDiagnosis
from multiembed.diagnosis.field import FieldDiagnosis
from multiembed.diagnosis.verdict import VERDICTS, Verdict
from multiembed.spectra.catalogue import MEASURES, View, measures_at

RECORDS = {
    "diagnosis": (Diagnosis, FORMAT, "What `multiembed diagnose MODEL --json` writes."),
    "over_time": (DriftDiagnosis, DRIFT_FORMAT, "What `multiembed diagnose A B … --json` writes."),
}
"""By the schema's file: the record, the version of its format, and where it comes from."""
NUMBER = {"type": ["number", "null"]}
"""Infinities and what is undefined are null: JSON has no word for them."""
PLACES = {FieldDiagnosis: "field", ModelSummary: "model", View: "view"}
"""Records whose measures stand among their own keys, by the place that measures know them by."""
SIMPLE = {str: "string", int: "integer", bool: "boolean"}


def schema(name: str) -> dict[str, Any]:
    """Return the schema of what `to_dict` of a record returns."""
    kind, version, said = RECORDS[name]
    records: dict[str, Any] = {}
    whole = _record(kind, records)
    whole["properties"] = {"format": {"const": version}, **whole["properties"]}
    whole["required"].insert(0, "format")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"multiembed {name.replace('_', ' ')}",
        "description": f"{said} `format` goes up when a key goes or changes its meaning; a version "
        "of multiembed may add keys, and has the schema of its own.",
        **{key: value for key, value in whole.items() if key != "description"},
        "$defs": dict(sorted(records.items())),
    }


def _record(kind: type, records: dict[str, Any]) -> dict[str, Any]:
    """Describe a dataclass or a model of pydantic, key by key."""
    said = _said_below(kind)
    properties: dict[str, Any] = {}
    for name, hint in _keys(kind).items():
        if name == "measures" and kind in PLACES:
            properties |= {of: _measure(of) for of in measures_at(PLACES[kind])}
            continue
        properties[name] = _described(_type(hint, records), said.get(name))
    if kind is Verdict:
        properties["label"]["enum"] = list(VERDICTS)
    summary = (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("\n", " ")
    return {
        "description": summary,
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _keys(kind: type) -> dict[str, Any]:
    if issubclass(kind, BaseModel):
        computed = kind.model_computed_fields.items()
        return {
            **{name: of.annotation for name, of in kind.model_fields.items()},
            **{name: of.return_type for name, of in computed},
        }
    hints = get_type_hints(kind)
    return {of.name: hints[of.name] for of in dataclasses.fields(kind)}


def _measure(name: str) -> dict[str, Any]:
    of = MEASURES[name]
    kind = {"type": ["integer", "null"]} if of.written == "count" else dict(NUMBER)
    return _described(kind, of.words or None)


def _type(hint: Any, records: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    origin, inside = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _either([_type(one, records) for one in inside])
    if origin is Literal:
        return {"enum": list(inside)}
    if origin in (list, tuple, Sequence):
        return {"type": "array", "items": _type(inside[0], records)}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": _type(inside[1], records)}
    if origin is not None:  # Annotated and the like
        return _type(inside[0], records)
    return _plain_type(hint, records)


def _plain_type(hint: Any, records: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    if hint is type(None):
        return {"type": "null"}
    if hint is float:
        return dict(NUMBER)
    if hint in SIMPLE:
        return {"type": SIMPLE[hint]}
    if inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray):
        found = dict(NUMBER)
        for _ in hint.dims:
            found = {"type": "array", "items": found}
        return found
    if not dataclasses.is_dataclass(hint) and not issubclass(hint, BaseModel):
        raise TypeError(f"a record must hold what JSON can hold, got {hint}")
    if hint.__name__ not in records:
        records[hint.__name__] = {}  # so that a record may hold itself
        records[hint.__name__] = _record(hint, records)
    return {"$ref": f"#/$defs/{hint.__name__}"}


def _either(kinds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Join alternatives; plain types need no `anyOf`."""
    if any(set(kind) != {"type"} for kind in kinds):
        return {"anyOf": list(kinds)}
    names = [
        name
        for kind in kinds
        for name in ([kind["type"]] if isinstance(kind["type"], str) else kind["type"])
    ]
    return {"type": list(dict.fromkeys(names))}


def _described(kind: dict[str, Any], text: str | None) -> dict[str, Any]:
    return kind if text is None else {"description": text, **kind}


def _said_below(kind: type) -> dict[str, str]:
    """Return what stands below the fields of a class in its source."""
    [tree] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    return {
        field.target.id: " ".join(text.value.value.split()).replace("`None`", "null")
        for field, text in zip(tree.body, tree.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def text(name: str) -> str:
    """Return a schema as it is written to its file."""
    return json.dumps(schema(name), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name in RECORDS:
        if "--write" in sys.argv:
            Path(__file__).with_name(f"{name}.schema.json").write_text(text(name), encoding="utf-8")
        else:
            sys.stdout.write(text(name))
