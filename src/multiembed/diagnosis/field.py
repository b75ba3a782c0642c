"""Everything that is measured of one field's table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from multiembed.diagnosis.readers.table import RowCounts, Table
from multiembed.diagnosis.survey import survey, survey_case
from multiembed.diagnosis.verdict import Verdict, judge_field
from multiembed.spectra.catalogue import Measured, TableSpectra, View, measures_of
from multiembed.spectra.spectrum import spectrum_of_chunks
from multiembed.spectra.summary import Summary


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
    """Every row as often as training met it; `None` where that is unknown."""
    per_set: tuple[View, ...]
    """Every set by itself; empty for a single one."""
    singular_values: Float64[np.ndarray, " values"]
    centered_singular_values: Float64[np.ndarray, " values"]
    route: str
    """How the singular values were found: `gram` or `qr`."""
    error_bound: float
    """Largest error of a singular value, as a share of the largest."""
    verdict: Verdict


def diagnose_field(table: Table, counts: RowCounts | None = None) -> tuple[FieldDiagnosis, Summary]:
    """Measure and judge one table; also return its summary, which the interaction needs.

    Raises:
        DataError: If a number is not finite; the message names the table, row and column.
    """
    seen = survey(table, counts)
    whole, parts = seen.whole, seen.trained
    raw = spectrum_of_chunks(whole, lambda: (chunk for _, chunk in table.chunks()))
    spectra = TableSpectra.of(whole, raw=raw)
    trained = None if parts is None else TableSpectra.of(parts.trained)
    counted = counts is not None and counts.dtype != bool  # else how often is unknown
    case = survey_case(table, seen, counts, spectra=trained or spectra)
    sets = whole.blocks(table.dim) if table.sets > 1 else []
    field = FieldDiagnosis(
        name=table.name,
        cardinality=table.rows,
        rows_trained=case.trained,
        dim=table.dim,
        sets=table.sets,
        measures=measures_of(spectra, "field"),
        trained=None if trained is None else View.of(trained),
        weighted=None if parts is None or not counted else View.of(TableSpectra.of(parts.weighted)),
        per_set=tuple(View.of(TableSpectra.of(one)) for one in sets),
        singular_values=raw.singular_values,
        centered_singular_values=spectra.centered.singular_values,
        route=raw.route,
        error_bound=raw.error_bound,
        verdict=judge_field(case),
    )
    return field, whole
