"""Everything that is measured of one field's table, in one pass over its rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.table import Table
from multiembed.diagnosis.verdict import Case, Verdict, judge_field
from multiembed.spectra.catalogue import Measured, TableSpectra, View, measures_of
from multiembed.spectra.spectrum import spectrum_of_chunks
from multiembed.spectra.summary import Summary, TrainedSummary


@dataclass(frozen=True, kw_only=True, eq=False)
class FieldDiagnosis(Measured):
    """The table of one field; of a model with several sets, all of them side by side.

    Its measures are attributes too: `field.information_abundance`, `field.k99`.
    """

    name: str
    cardinality: int
    """Rows of the table."""
    rows_trained: int | None
    """Rows met in training; `None` where counts are unknown."""
    dim: int
    """Columns of one set."""
    sets: int
    measures: Mapping[str, Any]
    """Of the whole table, by the names in `MEASURES`."""
    trained: View | None
    """The trained rows alone; `None` where counts are unknown."""
    weighted: View | None
    """Every row as often as training met it; `None` where counts are unknown."""
    per_set: tuple[View, ...]
    """Every set by itself; empty for a single one."""
    singular_values: Float64[np.ndarray, " values"]
    centered_singular_values: Float64[np.ndarray, " values"]
    route: str
    """How the singular values were found: `gram` or `qr`."""
    error_bound: float
    """Largest error of a singular value, as a share of the largest."""
    verdict: Verdict


def diagnose_field(
    table: Table, counts: Int[np.ndarray, " rows"] | None = None
) -> tuple[FieldDiagnosis, Summary]:
    """Measure and judge one table; also return its summary, which the interaction needs.

    Raises:
        DataError: If a number is not finite; the message names the table, row and column.
    """
    whole, seen = _summarise(table, counts)
    raw = spectrum_of_chunks(whole, lambda: (chunk for _, chunk in table.chunks()))
    spectra = TableSpectra.of(whole, raw=raw)
    trained = None if seen is None else View.of(TableSpectra.of(seen.trained))
    case = Case(
        view=View.of(spectra) if trained is None else trained,
        cardinality=table.rows,
        trained=None if trained is None else trained.rows,
        dim=table.dim,
    )
    sets = whole.blocks(table.dim) if table.sets > 1 else []
    field = FieldDiagnosis(
        name=table.name,
        cardinality=table.rows,
        rows_trained=case.trained,
        dim=table.dim,
        sets=table.sets,
        measures=measures_of(spectra, "field"),
        trained=trained,
        weighted=None if seen is None else View.of(TableSpectra.of(seen.weighted)),
        per_set=tuple(View.of(TableSpectra.of(one)) for one in sets),
        singular_values=raw.singular_values,
        centered_singular_values=spectra.centered.singular_values,
        route=raw.route,
        error_bound=raw.error_bound,
        verdict=judge_field(case),
    )
    return field, whole


def _summarise(
    table: Table, counts: Int[np.ndarray, " rows"] | None
) -> tuple[Summary, TrainedSummary | None]:
    """Return the summary of all rows and, where counts are known, of the trained ones."""
    name = f"table '{table.name}'"
    if counts is None:
        whole = Summary.empty(table.width)
        for _, chunk in table.chunks():
            whole.add(chunk, name=name)
        return whole, None
    if len(counts) != table.rows:
        raise DataError(f"{name} must have one count per row, {table.rows}, got {len(counts)}")
    seen = TrainedSummary.empty(table.width)
    for start, chunk in table.chunks():
        seen.add(chunk, counts[start : start + len(chunk)], name=name)
    return seen.whole, seen
