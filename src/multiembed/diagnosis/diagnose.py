"""From a checkpoint to a diagnosis: fields, interaction, sets, and a verdict in words."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from multiembed.base.errors import DataError
from multiembed.diagnosis.field import FieldDiagnosis, diagnose_field
from multiembed.diagnosis.frame import frame_of
from multiembed.diagnosis.headline import ModelVerdict, judge_model
from multiembed.diagnosis.interaction import InteractionDiagnosis, diagnose_interaction
from multiembed.diagnosis.notebook import notebook
from multiembed.diagnosis.origin import Origin, origin_of
from multiembed.diagnosis.page import page
from multiembed.diagnosis.readers.asked import Asked
from multiembed.diagnosis.readers.cardinalities import Cardinalities
from multiembed.diagnosis.readers.checkpoint import read_source
from multiembed.diagnosis.readers.counts import GivenCounts, fit_counts
from multiembed.diagnosis.readers.own_runs import check_dataset_of, is_run
from multiembed.diagnosis.readers.table import Checkpoint, RowCounts, Skipped, Table
from multiembed.diagnosis.sets import SetsDiagnosis, diagnose_sets
from multiembed.runs.metrics import Reliability
from multiembed.spectra.catalogue import Measured, mean_measures
from multiembed.spectra.summary import Summary

Source = object
"""A path (of a run, or of somebody's checkpoint or vectors), or what is in memory: a torch module,
its state dict, one array, tensor, list or frame, or a mapping of them."""
Progress = Callable[[int, int], None]
"""Called with the number of fields done and of all fields."""

FORMAT = 2
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
    >>> found = me.diagnose({"site": np.tile(np.eye(6), (7, 1)), "hour": np.ones((24, 6))})
    >>> found.summary.verdict.counts
    {'low rank': 1, 'healthy': 1}
    >>> found.to_dict()["fields"][1]["information_abundance"]
    1.0
    """

    source: str
    """What was read."""
    origin: Origin
    """By which version, when, and of which files it was made."""
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
    unknown_role: list[FieldDiagnosis]
    """Matrices that may be tables or other weights; the summary leaves them out."""
    broken: tuple[Skipped, ...]
    """Tables that hold numbers that are not finite, and how many of their rows do."""
    skipped: tuple[Skipped, ...]
    """Every other tensor that was not measured, and why."""
    counts_from: str | None
    """Where the row counts come from that verdicts rest on; `None`: unknown, judged on all rows."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain lists, dictionaries and numbers; infinities become None."""
        return {"format": FORMAT, **_plain(self)}

    def to_json(self) -> str:
        """Return everything as JSON."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"

    def to_html(self) -> str:
        """Return one self-contained page that works offline."""
        return page(self.to_dict())

    def to_frame(self, *, pandas: bool = False) -> Any:  # noqa: ANN401
        """Return one row per field: verdict, number it rests on, sizes, and every measure.

        Args:
            pandas: Whether it shall be a frame of pandas; it is one of polars otherwise.

        Raises:
            ConfigError: If pandas is asked for and not installed.
        """
        return frame_of(self.fields, pandas=pandas)

    def _repr_html_(self) -> str:
        """Return verdict, table and spectra for a notebook, without scripts."""
        return notebook(self.to_dict())


def diagnose(
    source: Source,
    *,
    counts: GivenCounts | None = None,
    cardinalities: Cardinalities | None = None,
    tables: Sequence[str] = (),
    leave_out: Sequence[str] = (),
    split_sets: int | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Say whether the embedding tables of a model are collapsed, which, and why.

    >>> import numpy as np
    >>> import multiembed as me
    >>> found = me.diagnose({"site": np.tile(np.eye(6), (7, 1))})
    >>> found.fields[0].name, found.fields[0].verdict.label
    ('site', 'healthy')
    >>> round(found.fields[0].information_abundance, 6)
    6.0

    Args:
        source: A path: a run directory, a checkpoint of another library (file or directory), or a
            file of vectors. Or what is in memory: a torch module, a state dict, one table
            `(rows, columns)` as an array, tensor, list or frame, or tables by field name.
        counts: How often training met every row, `(rows,)` whole numbers by field; one array, where
            there is one field; or a file of them. By default those of a run directory, or what the
            optimizer beside a model's weights tells: where Adam's second moments of a row are 0,
            it was never trained.
        cardinalities: Field sizes in rows, in order or by name, where one table holds the rows of
            every field.
        tables: Patterns (`*user*`) of names: these matrices are the tables, whatever they look
            like. A pattern without `*`, `?` and `[` may be any part of a name.
        leave_out: Patterns of names that are no tables.
        split_sets: Compare the columns of a model with one set as so many sets (Figure 10a).
        progress: Called after every field with the number of fields done and of all fields.

    Raises:
        ConfigError: If it is a run whose configuration is broken.
        DataError: If there is nothing to read, the files, counts or sizes do not fit the tables,
            every table holds a number that is not finite, or the dataset of a run is now another.
    """
    origin = origin_of(source)
    if isinstance(source, str | Path) and is_run(Path(source)):
        check_dataset_of(Path(source))
    checkpoint = read_source(source, Asked(cardinalities, tuple(tables), tuple(leave_out)))
    if counts is not None:
        known, counts_from = fit_counts(counts, checkpoint.tables)
        checkpoint = replace(checkpoint, counts=known, counts_from=counts_from)
    named = str(source) if isinstance(source, str | Path) else f"{_kind(source)} in memory"
    return _diagnosed(checkpoint, named, origin, split_sets=split_sets, progress=progress)


def _diagnosed(
    checkpoint: Checkpoint,
    source: str,
    origin: Callable[[], Origin],
    *,
    split_sets: int | None,
    progress: Progress | None,
) -> Diagnosis:
    every = (*checkpoint.tables, *checkpoint.unknown_role)
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is found, and said
        measured, broken = _measure(every, checkpoint.counts, progress)
    pairs = [measured[table.name] for table in checkpoint.tables if table.name in measured]
    if not pairs:
        raise DataError(f"a table must hold finite numbers, got {len(broken)} broken ones")
    found, summaries = [field for field, _ in pairs], [summary for _, summary in pairs]
    whole = len(found) == len(checkpoint.tables)
    interaction = diagnose_interaction(checkpoint, found, summaries) if whole else None
    pullers = [] if interaction is None else interaction.pullers
    sets = None if checkpoint.field_aware else diagnose_sets(found, summaries, split=split_sets)
    return Diagnosis(
        source=source,
        origin=origin(),
        layout=checkpoint.layout,
        summary=_summary(found, judge_model([f.verdict for f in found], pullers=pullers)),
        fields=found,
        subembeddings=interaction,
        diversity=sets,
        reliability=checkpoint.reliability,
        unknown_role=[measured[t.name][0] for t in checkpoint.unknown_role if t.name in measured],
        broken=tuple(broken),
        skipped=checkpoint.skipped,
        counts_from=checkpoint.counts_from,
    )


def _kind(source: object) -> str:
    return "tables" if isinstance(source, Mapping) else type(source).__name__


def _measure(
    tables: Sequence[Table], counts: Mapping[str, RowCounts], progress: Progress | None
) -> tuple[dict[str, tuple[FieldDiagnosis, Summary]], list[Skipped]]:
    """Measure tables, by name; set aside what holds numbers that are not finite, unless alone."""
    measured, broken = {}, []
    for done, table in enumerate(tables, start=1):
        try:
            measured[table.name] = diagnose_field(table, counts.get(table.name))
        except DataError:
            bad = 0 if len(tables) == 1 else _broken_rows(table)
            if bad == 0:
                raise
            reason = f"{bad:,} of {table.rows:,} rows hold NaN or infinity"
            broken.append(Skipped(table.name, (table.rows, table.width), reason))
        if progress is not None:
            progress(done, len(tables))
    return measured, broken


def _broken_rows(table: Table) -> int:
    return sum(int((~np.isfinite(chunk)).any(axis=1).sum()) for _, chunk in table.chunks())


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
        finite = value.astype(object)
        finite[~np.isfinite(value)] = None
        return finite.tolist()
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
