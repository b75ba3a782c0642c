"""Everything that is measured of one field's table, in one pass over its rows."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.table import Table
from multiembed.diagnosis.verdict import Verdict, judge_field
from multiembed.spectra.abundances import View, view_of
from multiembed.spectra.measures import (
    condition,
    dims_for_energy,
    effective_rank,
    participation_ratio,
    stable_rank,
    tail_slope,
)
from multiembed.spectra.null import null_information_abundance
from multiembed.spectra.spectrum import DIRECT_ROWS, ESCALATE_BELOW, Spectrum, spectrum
from multiembed.spectra.summary import Summary, TrainedSummary
from multiembed.spectra.tsqr import merge_triangles


@dataclass(frozen=True, kw_only=True, eq=False)
class FieldDiagnosis:
    """The table of one field; of a model with several sets, all of them side by side."""

    name: str
    cardinality: int
    """Rows of the table."""
    rows_trained: int | None
    """Rows met in training; `None` where counts are unknown."""
    dim: int
    """Columns of one set."""
    sets: int
    information_abundance: float
    centered_information_abundance: float
    normalized_information_abundance: float
    centered_normalized_information_abundance: float
    null_information_abundance: float
    """The information abundance of a random table of this shape."""
    effective_rank: float
    stable_rank: float
    participation_ratio: float
    k90: int
    """Fewest directions that hold 90% of the energy."""
    k99: int
    """Fewest directions that hold 99% of the energy."""
    condition: float
    mean_share: float
    tail_slope: float | None
    """`None` where there are fewer than two singular values."""
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
    raw = _spectrum(table, whole)
    view = view_of(whole, raw=raw)
    trained_view = None if seen is None else view_of(seen.trained)
    met = None if trained_view is None else trained_view.rows
    verdict = judge_field(
        view if trained_view is None else trained_view,
        cardinality=table.rows,
        trained=met,
        dim=table.dim,
    )
    zero = view.information_abundance == 0
    field = FieldDiagnosis(
        name=table.name,
        cardinality=table.rows,
        rows_trained=met,
        dim=table.dim,
        sets=table.sets,
        information_abundance=view.information_abundance,
        centered_information_abundance=view.centered_information_abundance,
        normalized_information_abundance=view.normalized_information_abundance,
        centered_normalized_information_abundance=view.centered_normalized_information_abundance,
        null_information_abundance=null_information_abundance(table.rows, table.width),
        effective_rank=0.0 if zero else effective_rank(raw),
        stable_rank=0.0 if zero else stable_rank(raw),
        participation_ratio=0.0 if zero else participation_ratio(raw),
        k90=0 if zero else dims_for_energy(raw, 0.90),
        k99=0 if zero else dims_for_energy(raw, 0.99),
        condition=float("inf") if zero else condition(raw),
        mean_share=view.mean_share,
        tail_slope=None if zero or len(raw.singular_values) < 2 else tail_slope(raw),
        trained=trained_view,
        weighted=None if seen is None else view_of(seen.weighted),
        per_set=() if table.sets == 1 else tuple(view_of(s) for s in set_summaries(whole, table)),
        singular_values=raw.singular_values,
        centered_singular_values=spectrum(whole, centered=True).singular_values,
        route=raw.route,
        error_bound=raw.error_bound,
        verdict=verdict,
    )
    return field, whole


def set_summaries(whole: Summary, table: Table) -> list[Summary]:
    """Cut the summary of all sets side by side into one per set."""
    columns = [slice(m * table.dim, (m + 1) * table.dim) for m in range(table.sets)]
    return [
        Summary(whole.rows, whole.weight, whole.total[part], whole.gram[part, part])
        for part in columns
    ]


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


def _spectrum(table: Table, whole: Summary) -> Spectrum:
    """Take the Gram route where it is exact enough, else read the table again for a QR."""
    if table.rows > DIRECT_ROWS * table.width:
        by_gram = spectrum(whole)
        values = by_gram.singular_values
        if values[-1] ** 2 >= ESCALATE_BELOW * values[0] ** 2:
            return by_gram
    factor = np.zeros((0, table.width))
    for _, chunk in table.chunks():
        factor = merge_triangles(factor, chunk.astype(np.float64))
    by_qr = spectrum(factor)
    growth = (table.width + np.sqrt(table.rows)) / (table.width + np.sqrt(len(factor)))
    return replace(by_qr, rows=table.rows, error_bound=by_qr.error_bound * float(growth))
