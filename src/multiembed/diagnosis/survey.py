"""A table read for its verdict: once, and once more where long rows may hide what others are."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Num

from multiembed.base.errors import DataError
from multiembed.diagnosis.case import BEFORE_GAP, Case, few_of, limit_of, spread_of
from multiembed.diagnosis.readers.table import RowCounts, Table
from multiembed.spectra.catalogue import TableSpectra, View
from multiembed.spectra.norms import SAMPLE, RowNorms
from multiembed.spectra.standing import centered_energies
from multiembed.spectra.summary import Summary, TrainedSummary, as_float64, row_blocks

LONG_MATTER = 0.005
"""Least share of the energy that long rows must lose by their weight, if they can change a
verdict: half of what K99 leaves out."""

MOST = 0.9
"""The share of the energy that is most of it."""

DEAD = 1e-12
"""Largest energy of a column less its mean, beside the largest column's, if it holds one value."""


@dataclass(eq=False)
class Survey:
    """What one pass over a table's rows leaves."""

    whole: Summary
    trained: TrainedSummary | None
    """`None` where counts are unknown."""
    norms: RowNorms | None
    """Of the rows judged; `None` where there are none."""

    def judged(self) -> Summary:
        """Return the trained rows, or all where counts are unknown, less those near zero.

        Those add nothing to the sums: only their number goes. All stay where no two are left.
        """
        rows = self.whole if self.trained is None else self.trained.trained
        left = rows.rows - self.near_zero
        return Summary(rows=left, weight=float(left), total=rows.total, gram=rows.gram)

    @property
    def near_zero(self) -> int:
        """Rows set apart."""
        return 0 if self.norms is None or self.norms.present < 2 else self.norms.near_zero


def survey(table: Table, counts: RowCounts | None) -> Survey:
    """Summarise all rows of a table and, where counts are known, the trained ones.

    Raises:
        DataError: If a number is not finite, or there is not one count per row.
    """
    name = f"table '{table.name}'"
    if counts is not None and len(counts) != table.rows:
        raise DataError(f"{name} must have one count per row, {table.rows}, got {len(counts)}")
    whole = Summary.empty(table.width)
    trained = None if counts is None else TrainedSummary.empty(table.width)
    norms = None
    for start, chunk in table.chunks():
        if norms is None:
            sample = _sample(chunk, None if counts is None else counts[start:])
            norms = RowNorms.beside(sample) if len(sample) else None
        for at, block in row_blocks(chunk):
            seen = slice(start + at, start + at + len(block))
            if trained is None or counts is None:
                whole.add(block, name=name)
            else:
                trained.add(block, counts[seen].astype(np.int64), name=name)
            if norms is not None:
                norms.add(block if counts is None else block[counts[seen] > 0])
    return Survey(whole if trained is None else trained.whole, trained, norms)


def survey_case(
    table: Table, seen: Survey, counts: RowCounts | None, *, spectra: TableSpectra
) -> Case:
    """Return what the verdict on a table rests on.

    Args:
        table: It is read once more where long rows can matter.
        seen: What the first pass left.
        counts: How often training met every row.
        spectra: Of the trained rows, or of all where counts are unknown.
    """
    judged = seen.judged() if seen.near_zero else spectra.summary
    spectra = TableSpectra.of(judged) if seen.near_zero else spectra
    spread = judged.centered_gram().diagonal()
    case = Case(
        view=View.of(spectra),
        near_zero=seen.near_zero,
        dead_columns=int(np.count_nonzero(spread <= DEAD * judged.gram.diagonal().max())),
        cardinality=table.rows,
        trained=None if seen.trained is None else seen.trained.trained.rows,
        dim=table.dim,
    )
    if seen.norms is None or not _long_rows_matter(case.view, spectra, seen.norms):
        return case
    typical = Summary.empty(table.width)
    for block in _judged_rows(table, counts):
        typical.add(block, seen.norms.weights(block))
    typical.rows = round(typical.weight)
    if typical.rows < 2:
        return case
    most = seen.norms.holding(MOST)
    few = most <= few_of(judged.rows, judged.dim)
    dominating, dominated = (most, MOST) if few else seen.norms.long()
    return replace(
        case,
        typical=View.of(TableSpectra.of(typical)),
        dominating=dominating,
        dominated=dominated,
    )


def _long_rows_matter(view: View, spectra: TableSpectra, norms: RowNorms) -> bool:
    """Whether another verdict is possible once long rows weigh less.

    The rows' sums change by a matrix whose trace is what the weights take away, so no direction's
    share of the energy falls by more than that (Weyl's inequality).
    """
    taken = norms.excess_energy()
    if taken < LONG_MATTER:
        return False
    if spread_of(view) != "even":
        return True
    energies = centered_energies(spectra.centered)
    beyond = float(energies[limit_of(view) :].sum() / energies.sum())
    return beyond - taken < (1 - BEFORE_GAP) * (1 - taken)


def _judged_rows(
    table: Table, counts: RowCounts | None
) -> Iterator[Float64[np.ndarray, "block width"]]:
    for start, chunk in table.chunks():
        for at, block in row_blocks(chunk):
            first = start + at
            yield block if counts is None else block[counts[first : first + len(block)] > 0]


def _sample(
    chunk: Num[np.ndarray, "chunk width"], counts: RowCounts | None
) -> Float64[np.ndarray, "sample width"]:
    """Return some of the rows judged of a chunk, evenly apart."""
    if counts is None:
        return as_float64(chunk[:: -(-len(chunk) // SAMPLE)])
    met = np.flatnonzero(counts[: len(chunk)] > 0)
    return as_float64(chunk[met[:: max(1, -(-len(met) // SAMPLE))]])
