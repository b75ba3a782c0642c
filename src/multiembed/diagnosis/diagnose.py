"""From a checkpoint to a diagnosis: fields, interaction, sets, and a verdict in words."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from pydantic import BaseModel
from torch import Tensor

from multiembed.base.errors import DataError
from multiembed.diagnosis.field import FieldDiagnosis, diagnose_field
from multiembed.diagnosis.interaction import InteractionDiagnosis, diagnose_interaction
from multiembed.diagnosis.page import page
from multiembed.diagnosis.readers.checkpoint import from_mapping, read_checkpoint
from multiembed.diagnosis.readers.layouts import Cardinalities
from multiembed.diagnosis.readers.table import Checkpoint, Skipped
from multiembed.diagnosis.sets import SetsDiagnosis, diagnose_sets
from multiembed.diagnosis.verdict import ModelVerdict, judge_model
from multiembed.runs.metrics import Reliability
from multiembed.spectra.catalogue import Measured, mean_measures

Source = str | Path | Mapping[str, np.ndarray | Tensor]
"""A run directory, somebody's checkpoint, or tables by field name."""
Progress = Callable[[int, int], None]
"""Called with the number of fields done and of all fields."""

FORMAT = 1
"""Version of the JSON that `Diagnosis.to_json` writes."""


@dataclass(frozen=True, kw_only=True)
class ModelSummary(Measured):
    """The model in one line; averages are over fields, unweighted, as in the paper."""

    fields: int
    rows: int
    parameters: int
    """Numbers in all tables."""
    sets: int
    dim: int | None
    """Columns of one set; `None` where fields differ."""
    measures: Mapping[str, Any]
    """Means over fields, by the names in `MEASURES`."""
    verdict: ModelVerdict


@dataclass(frozen=True, kw_only=True, eq=False)
class Diagnosis:
    """What `diagnose` found; `to_json` and `to_html` write it down.

    >>> import numpy as np
    >>> import multiembed as me
    >>> found = me.diagnose({"site": np.eye(40, 6), "hour": np.outer(np.arange(1, 25), np.ones(6))})
    >>> found.summary.verdict.counts
    {'low rank': 1, 'healthy': 1}
    >>> found.to_dict()["fields"][1]["information_abundance"]
    1.0
    """

    source: str
    """What was read."""
    layout: str
    """Whose way of naming tensors it follows."""
    summary: ModelSummary
    fields: list[FieldDiagnosis]
    subembeddings: InteractionDiagnosis | None
    """What cross layers make of the tables; `None` for models without."""
    diversity: SetsDiagnosis | None
    """How different the embedding sets are; `None` for models with one."""
    reliability: Reliability | None
    """How well its probabilities are calibrated; `None` where only tables are known."""
    skipped: tuple[Skipped, ...]
    """Every tensor that was not measured, and why."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain lists, dictionaries and numbers; infinities become None."""
        return {"format": FORMAT, **_plain(self)}

    def to_json(self) -> str:
        """Return everything as JSON."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"

    def to_html(self) -> str:
        """Return one self-contained page that works offline."""
        return page(self.to_dict())


def diagnose(
    source: Source,
    *,
    counts: Mapping[str, Int[np.ndarray, " rows"]] | None = None,
    cardinalities: Cardinalities | None = None,
    split_sets: int | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Say whether the embedding tables of a model are collapsed, which, and why.

    >>> import numpy as np
    >>> import multiembed as me
    >>> found = me.diagnose({"site": np.eye(40, 6)})
    >>> found.fields[0].name, found.fields[0].verdict.label
    ('site', 'healthy')
    >>> round(found.fields[0].information_abundance, 6)
    6.0

    Args:
        source: A run directory; a checkpoint of another library, a file or a directory; or tables
            `(rows, columns)` by field name, arrays or tensors.
        counts: How often training met every row, `(rows,)` whole numbers by field; a run directory
            has its own.
        cardinalities: Field sizes in rows, in order or by name, where one table holds the rows of
            every field.
        split_sets: Compare the columns of a model with one set as so many sets (Figure 10a).
        progress: Called after every field with the number of fields done and of all fields.

    Raises:
        ConfigError: If it is a run whose configuration is broken.
        DataError: If there is nothing to read, the files, counts or sizes do not fit the tables, or
            a table holds a number that is not finite.
    """
    checkpoint = _read(source, cardinalities)
    known = checkpoint.counts if counts is None else counts
    unknown = sorted(known.keys() - {table.name for table in checkpoint.tables})
    if unknown:
        raise DataError(f"counts must be of fields of the model, got '{unknown[0]}'")
    found, summaries = [], []
    for done, table in enumerate(checkpoint.tables, start=1):
        field, summary = diagnose_field(table, known.get(table.name))
        found.append(field)
        summaries.append(summary)
        if progress is not None:
            progress(done, len(checkpoint.tables))
    interaction = diagnose_interaction(checkpoint, found, summaries)
    pullers = [] if interaction is None else interaction.pullers
    aware = checkpoint.field_aware
    sets = None if aware else diagnose_sets(found, summaries, split=split_sets)
    return Diagnosis(
        source="tables in memory" if isinstance(source, Mapping) else str(source),
        layout=checkpoint.layout,
        summary=_summary(found, judge_model([f.verdict for f in found], pullers=pullers)),
        fields=found,
        subembeddings=interaction,
        diversity=sets,
        reliability=checkpoint.reliability,
        skipped=checkpoint.skipped,
    )


def _read(source: Source, cardinalities: Cardinalities | None) -> Checkpoint:
    if isinstance(source, Mapping):
        return from_mapping(source)
    return read_checkpoint(Path(source), cardinalities=cardinalities)


def _summary(found: Sequence[FieldDiagnosis], verdict: ModelVerdict) -> ModelSummary:
    dims = {field.dim for field in found}
    return ModelSummary(
        fields=len(found),
        rows=sum(field.cardinality for field in found),
        parameters=sum(f.cardinality * f.dim * f.sets for f in found),
        sets=max(field.sets for field in found),
        dim=dims.pop() if len(dims) == 1 else None,
        measures=mean_measures(found, "model"),
        verdict=verdict,
    )


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Turn records, arrays and paths into what JSON can hold."""
    if hasattr(value, "__dataclass_fields__"):
        named = {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
        found: dict[str, Any] = {}
        for name, item in named.items():
            found |= item if name == "measures" else {name: item}
        return found
    if isinstance(value, BaseModel):
        return _plain(value.model_dump())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
