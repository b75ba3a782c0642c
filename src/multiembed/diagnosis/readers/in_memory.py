"""What is in memory, as a checkpoint: a module, its weights, a table, or tables by name."""

from collections.abc import Mapping
from dataclasses import astuple, replace
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.asked import Asked, choose
from multiembed.diagnosis.readers.layouts import recognise
from multiembed.diagnosis.readers.nested import contents_of, of_array, of_tensor
from multiembed.diagnosis.readers.own_runs import of_model
from multiembed.diagnosis.readers.quantised import dequantised
from multiembed.diagnosis.readers.roles import told_by_modules
from multiembed.diagnosis.readers.table import Checkpoint, Contents, Skipped, StoredTensor, Table
from multiembed.diagnosis.readers.vector_columns import contents_of_frame
from multiembed.models.click_model import ClickModel

_WEIGHTS = (".weight", ".bias")


def from_memory(source: object, asked: Asked) -> Checkpoint:
    """Take tables from a module, a state dict, a training checkpoint, a table, or tables by name.

    Every matrix of a mapping of tables is one, whatever its name; a state dict and a module also
    hold other weights, which are told from tables as those of a file are.

    Args:
        source: A torch module, an array, tensor, list of lists or frame (pandas, polars, Arrow), or
            a mapping: of them, a state dict, or what a training script would save.
        asked: What a user says of it.

    Raises:
        DataError: If it holds no table of real numbers.
    """
    if isinstance(source, ClickModel):
        return choose(of_model(source), asked)
    if isinstance(source, list | tuple) and source and all(map(_is_whole_table, source)):
        source = {str(number): table for number, table in enumerate(source)}
    if isinstance(source, nn.Module):
        source = {"": source}
    if not isinstance(source, Mapping):
        return _of_tables({"table": source}, asked)
    modules = {str(name): part for name, part in source.items() if isinstance(part, nn.Module)}
    if modules and len(modules) == len(source):
        return recognise(_of_modules(modules), asked)
    if not source:
        raise DataError("tables must name at least one table, got none")
    if _is_checkpoint(source):
        return recognise(contents_of(source, "the mapping"), asked)
    return _of_tables(source, asked)


def _is_whole_table(given: Any) -> bool:  # noqa: ANN401
    """Whether an element of a list is a table, and not a row."""
    return isinstance(given, nn.Module) or len(getattr(given, "shape", ())) == 2


def _is_checkpoint(source: Mapping[Any, Any]) -> bool:
    """Whether a mapping is a state dict, or what holds one beside other things, and no tables."""
    nested = any(isinstance(value, Mapping) for value in source.values())
    named = any(str(name).endswith(_WEIGHTS) for name in source)
    return nested or named or hasattr(source, "_metadata")


def _of_modules(modules: Mapping[str, nn.Module]) -> Contents:
    """Name the weights of live modules; what their parts are says what the weights are for."""
    tensors: dict[str, object] = {}
    owners: dict[str, str] = {}
    for start, module in modules.items():
        parts = dict(module.named_modules())
        # By state dict, where tables that are spread over processes say so.
        for name, value in module.state_dict(keep_vars=True).items():
            full = f"{start}.{name}" if start else name
            part = parts.get(name.rpartition(".")[0])
            tensors[full] = value
            owners[full] = "Embedding" if _is_embedding(part) else type(part).__name__
    if not tensors:
        raise DataError("a module must have parameters or buffers, got none")
    contents = contents_of(tensors, "the module")
    tables, reasons = told_by_modules(owners)
    held = contents.tensors
    wide = frozenset(n for n in tables if n in held and held[n].shape[1:] != (1,))
    return replace(contents, tables=wide, reasons=reasons)


def _is_embedding(module: nn.Module | None) -> bool:
    """Whether a module looks rows up by ids: torch's own, and others that have the same sizes."""
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return True
    weight = getattr(module, "weight", None)
    sizes = (getattr(module, "num_embeddings", None), getattr(module, "embedding_dim", None))
    return isinstance(weight, Tensor) and tuple(weight.shape) == sizes


def _of_tables(source: Mapping[Any, Any], asked: Asked) -> Checkpoint:
    found: dict[str, StoredTensor] = {}
    for name, given in source.items():
        found |= _tables(str(name), given)
    if (
        all(len(t.shape) == 1 for t in found.values())
        and len({t.shape for t in found.values()}) == 1
    ):
        rows = torch.stack([tensor.whole() for tensor in found.values()])
        found = {"vectors": StoredTensor.of(rows)} if len(rows) > 1 else found
    contents = dequantised(Contents(tensors=found))
    skipped, tensors = [], dict(contents.tensors)
    for name, tensor in contents.tensors.items():
        reason = contents.reasons.get(name)
        if reason or len(tensor.shape) != 2 or 0 in tensor.shape:
            del tensors[name]
            what = "empty" if 0 in tensor.shape else "not a matrix"
            skipped.append(Skipped(name, tensor.shape, reason or what))
    if not tensors:
        name, shape, _ = astuple(skipped[0])
        raise DataError(f"table '{name}' must have rows and columns, got shape {shape}")
    if asked.cardinalities is not None:
        sure = Contents(tensors=tensors, tables=frozenset(tensors), skipped=tuple(skipped))
        return recognise(sure, asked)
    tables = tuple(Table(name, (tensor,)) for name, tensor in tensors.items())
    return choose(Checkpoint(layout="tables", tables=tables, skipped=tuple(skipped)), asked)


def _tables(name: str, given: Any) -> dict[str, StoredTensor]:  # noqa: ANN401
    """Return the tables of one value: an array, a tensor, lists, or a frame."""
    frame = _as_frame(given)
    if frame is not None:
        tensors = contents_of_frame(frame, name).tensors
        return {n if n == name else f"{name}.{n}": tensor for n, tensor in tensors.items()}
    if isinstance(given, Tensor):
        dense = given.to_dense() if given.layout != torch.strided else given
        stored = of_tensor(dense.cpu(), overlapping=True)
    elif hasattr(given, "toarray"):  # SciPy's sparse matrices
        stored = of_array(given.toarray())
    else:
        array = _as_array(name, given)
        stored = of_array(array) if array.ndim else f"{type(given).__name__}, which is no array"
    if isinstance(stored, str):
        raise DataError(f"table '{name}' must hold real numbers, got {stored}")
    return {name: stored}


def _as_frame(given: Any) -> pl.DataFrame | None:  # noqa: ANN401
    """Return a frame of pandas, polars or Arrow as one of polars; `None` if it is none."""
    if isinstance(given, pl.DataFrame):
        return given
    if isinstance(given, pl.LazyFrame):
        return given.collect()
    if type(given).__module__.startswith("pandas") and hasattr(given, "columns"):
        return pl.from_pandas(given.reset_index(drop=True).rename(columns=str))
    if type(given).__module__.startswith("pyarrow") and hasattr(given, "column_names"):
        found = pl.from_arrow(given)
        return found if isinstance(found, pl.DataFrame) else None
    return None


def _as_array(name: str, given: Any) -> np.ndarray:  # noqa: ANN401
    if isinstance(given, np.ma.MaskedArray):
        given = np.ma.filled(given.astype(np.float64), np.nan)
    try:
        array = np.asarray(given)
        if array.dtype == object and array.ndim == 1 and len(array):  # of rows
            array = np.stack([np.asarray(row) for row in array])
        return array.astype(np.float64) if array.dtype == object and array.ndim == 2 else array
    except (ValueError, TypeError) as error:  # rows of several lengths, or no numbers
        what = "rows of one length, all of them numbers"
        raise DataError(f"table '{name}' must have {what}, got {type(given).__name__}") from error
