"""Field sizes: as a person gives them, and one concatenated table cut by them."""

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path

from multiembed.base.errors import DataError
from multiembed.base.files import read_small
from multiembed.base.json_files import read_json_file
from multiembed.diagnosis.readers.table import StoredTensor

LARGEST_SIZE = 10**15
"""Of a table: more than any memory or disk holds."""
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
    if all(_is_number(part) for part in text.split(",")):
        return _named(text.split(","), text)
    if not is_file(path):
        raise DataError(f"cardinalities must be numbers or a file of them, got '{text[:200]}'")
    if path.suffix == ".json":
        return _from_json(path)
    try:
        content = read_small(path).decode()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} must be a file of field sizes, got {error}") from None
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


def is_file(path: Path) -> bool:
    """Say whether there is a file of that name, which need not be one that can be."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _from_json(path: Path) -> dict[str, int]:
    loaded = read_json_file(path)
    try:
        if isinstance(loaded, dict) and isinstance(loaded.get("fields"), list):
            loaded = {field["name"]: field["cardinality"] for field in loaded["fields"]}
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} must hold field sizes as JSON, got {error}") from error
    if isinstance(loaded, dict):
        return _checked(loaded, str(path))
    if isinstance(loaded, list):
        return _named(loaded, str(path))
    raise DataError(f"{path} must hold a list or a mapping of sizes, got {shown_short(loaded)}")


def _named(sizes: Sequence[object], source: str) -> dict[str, int]:
    return _checked({str(number): size for number, size in enumerate(sizes)}, source)


def _checked(sizes: Mapping[str, object], source: str) -> dict[str, int]:
    checked = {}
    for name, size in sizes.items():
        if not isinstance(size, int | str) or not _is_number(str(size)) or not int(size):
            raise DataError(
                f"{source}: size of field '{name[:200]}' must be at least 1, got "
                f"{shown_short(size)}"
            )
        checked[name] = int(size)
    if not checked:
        raise DataError(f"{source} must name at least one field size, got none")
    return checked


def _is_number(text: str) -> bool:
    text = text.strip()
    return text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= LARGEST_SIZE


def shown_short(value: object) -> str:
    """Return a value as an error shows it: its beginning."""
    try:
        said = repr(value)
    except (ValueError, RecursionError):  # more digits or brackets than Python writes
        return "one that is too long to show"
    return said if len(said) <= 80 else said[:80] + "…"
