"""Field sizes: as a person gives them, and one concatenated table cut by them."""

import json
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.table import StoredTensor

Cardinalities = Mapping[str, int] | Sequence[int]
"""Rows of every field, by name or in order."""


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


def sizes_by_name(cardinalities: Cardinalities) -> dict[str, int]:
    """Return field sizes by name; fields that have none are numbered."""
    if isinstance(cardinalities, Mapping):
        return dict(cardinalities)
    return {str(number): size for number, size in enumerate(cardinalities)}


def rows_by_field(tensor: StoredTensor, cardinalities: Cardinalities) -> dict[str, StoredTensor]:
    """Cut one concatenated table into one block of rows per field, in order."""
    cardinalities = sizes_by_name(cardinalities)
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
    except (ValueError, KeyError, TypeError, RecursionError) as error:
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
