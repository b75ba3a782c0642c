"""Reads the tables of a bundle that this package exported, field by field and set by set."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from multiembed.base.errors import DataError, InputError
from multiembed.base.json_files import read_json_file
from multiembed.config import ModelConfig
from multiembed.diagnosis.readers.cardinalities import rows_by_field
from multiembed.diagnosis.readers.own_runs import own_blocks, own_checkpoint
from multiembed.diagnosis.readers.table import Checkpoint, Skipped
from multiembed.diagnosis.readers.tensor_files import open_tensors
from multiembed.models.click_model import common_row

_TABLE = "embedding.weight"
_IN_PIECES = "a field of numbers, whose rows ONNX keeps in pieces; format torch keeps them whole"


def read_bundle(folder: Path) -> Checkpoint | None:
    """Return the tables of a bundle; `None` if a directory holds none, or one with packed tables.

    Raises:
        DataError: If its files are broken.
    """
    try:
        manifest = read_json_file(folder / "manifest.json")
        config = ModelConfig.model_validate(manifest["trained"]["model"])
        fields = manifest["fields"]
        sizes = {field["name"]: _rows(folder, field) for field in fields if not _is_history(field)}
        file = folder / Path(manifest["model"]).name
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return None
    tensors = open_tensors(file).tensors
    name = next((name for name in tensors if name.endswith(_TABLE)), None)
    of_tables = [field for field in fields if not _is_history(field)]
    kinds = [(field.get("number") or {}).get("embedding") for field in of_tables]
    tables = {n: size for (n, size), kind in zip(sizes.items(), kinds, strict=True) if not kind}
    if name is None or tensors[name].shape[0] != sum(tables.values()):
        return None
    dim, sets = config.shape()
    row = common_row(config.built(), len(fields))
    if tensors[name].shape[1] != sets * row.width(dim):
        raise DataError(f"{file}: tables must have {sets * row.width(dim)} columns")
    prefix = name.removesuffix(_TABLE)
    own = {n.removeprefix(prefix): tensor for n, tensor in tensors.items() if n.startswith(prefix)}
    histories = len(fields) - len(sizes)
    if manifest.get("format") == "torch":
        blocks = own_blocks(own, sizes, kinds)
        return own_checkpoint(own, blocks, row, dim=dim, sets=sets, histories=histories)
    own = {_TABLE: tensors[name]}  # ONNX may keep a product's other factor, turned
    blocks = rows_by_field(tensors[name], tables)
    found = own_checkpoint(own, blocks, row, dim=dim, sets=sets, histories=histories)
    lost = [Skipped(n, (), _IN_PIECES) for n in sizes if n not in tables]
    return replace(found, skipped=(*found.skipped, *lost))


def _is_history(field: Mapping[str, Any]) -> bool:
    """Say whether a field shares another one's table."""
    return bool(field.get("history"))


def _rows(folder: Path, field: Mapping[str, Any]) -> int:
    """Return how many ids a field has: the highest of its intervals, or those of its vocabulary."""
    if field["vocabulary"] is not None:
        return pq.read_metadata((folder / field["vocabulary"]).absolute()).num_rows + 1
    return max(*field["ids"], field["missing"]) + 1
