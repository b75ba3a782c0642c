"""The ranks of tables and layers that a watched model shows: numbers, and a table to read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from markupsafe import escape
from torch import Tensor, finfo, float32

from multiembed.diagnosis.activations import ROUNDING, LayerSums
from multiembed.spectra.measures import dims_for_energy, effective_rank
from multiembed.spectra.spectrum import Spectrum, spectrum

RankOf = Literal["table", "batch", "row"]
MEANING: dict[RankOf, str] = {
    "table": "singular values of a table's weights",
    "batch": "covariance of a layer's output over the rows of a batch",
    "row": "token matrix of a single row, mean over rows",
}
"""What each of the three is, all of which go by the name of effective rank."""


@dataclass(frozen=True, kw_only=True)
class LayerRank:
    """How many directions one thing uses: a table, a layer over a batch, a layer within a row."""

    layer: str
    """The module's name; its further calls in one pass, and parts of what it gave, are apart."""
    of: RankOf
    """What was measured, see `MEANING`."""
    effective_rank: float
    """Exponential of the entropy of the singular values (Roy & Vetterli, 2007)."""
    k99: float
    """Fewest directions that hold 99% of the energy; a mean for rows."""
    rank: float
    """Directions above the rounding of the precision computed in; a mean for rows."""
    most: int
    """The most directions there could be, given shape and measured rows."""
    width: int
    """Columns of the table or output."""
    measured: int
    """Rows measured, with their tokens for `batch`."""
    not_finite: int = 0
    """Batches left out because a number was not finite."""


def table_rank(name: str, table: Tensor) -> LayerRank:
    """Measure an embedding table.

    Raises:
        DataError: If a number is not finite.
    """
    found = spectrum(table, tail=True, name=f"table '{name}'")
    return _mean([found], finfo(table.dtype).eps, layer=name, of="table", measured=found.rows)


def ranks_of(sums: LayerSums) -> Iterator[LayerRank]:
    """Measure what was kept of a layer: over the batch, and within rows that have tokens."""
    covariance = sums.covariance()
    rows = [*sums.row_spectra()]
    kinds: dict[RankOf, list[Spectrum]] = {"batch": [covariance] if covariance else [], "row": rows}
    for of, spectra in kinds.items():
        if spectra:
            seen = sums.rows if of == "batch" else len(rows)
            found = _mean(spectra, sums.epsilon, layer=sums.name, of=of, measured=seen)
            yield replace(found, width=sums.width, not_finite=int(sums.not_finite))


def _mean(
    spectra: Sequence[Spectrum], epsilon: float, *, layer: str, of: RankOf, measured: int
) -> LayerRank:
    """Return means over spectra; those of zeros have rank 0."""
    used = [found for found in spectra if found.singular_values.max(initial=0.0) > 0]
    return LayerRank(
        layer=layer,
        of=of,
        effective_rank=sum(effective_rank(found) for found in used) / len(spectra),
        k99=sum(dims_for_energy(found, 0.99) for found in used) / len(spectra),
        rank=sum(_rank(found, epsilon) for found in used) / len(spectra),
        most=max(len(found.singular_values) for found in spectra),
        width=spectra[0].dim,
        measured=measured,
    )


def _rank(found: Spectrum, epsilon: float) -> int:
    values = found.singular_values
    # The Gram matrix, though in float64, tells no smaller values from rounding than float32 does.
    floor = ROUNDING * max(epsilon, finfo(float32).eps)
    return int(np.count_nonzero(values > floor * values[0]))


_HEADINGS = ("layer", "of", "eff. rank", "K99", "rank", "most", "rows")
_WIDTHS = (33, 5, 9, 6, 6, 5, 8)


def layer_text(ranks: Sequence[LayerRank], said: str) -> str:
    """Return a table of 80 columns, what its kinds mean, and how much was measured."""
    lines = [said, "", _line(_HEADINGS)]
    lines += [_line(_cells(rank)) for rank in ranks]
    lines += ["", *(f"{of}: {meaning}" for of, meaning in MEANING.items())]
    return "\n".join([*lines, *_warnings(ranks)])


def layer_html(ranks: Sequence[LayerRank], said: str) -> str:
    """Return the same as a fragment of HTML."""
    rows = [_cells(rank) for rank in ranks]
    heads = "".join(f"<th>{heading}</th>" for heading in _HEADINGS)
    body = "".join(f"<tr>{''.join(f'<td>{escape(c)}</td>' for c in row)}</tr>" for row in rows)
    notes = [f"{of}: {meaning}" for of, meaning in MEANING.items()] + _warnings(ranks)
    return (
        f"<p>{escape(said)}</p><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
        f"<p>{'<br>'.join(str(escape(note)) for note in notes)}</p>"
    )


def _cells(rank: LayerRank) -> tuple[str, ...]:
    numbers = (f"{rank.effective_rank:.1f}", _short(rank.k99), _short(rank.rank))
    return (rank.layer, rank.of, *numbers, str(rank.most), str(rank.measured))


def _short(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else f"{value:.1f}"


def _line(cells: Sequence[str]) -> str:
    """Lay out one line; a long name loses its middle."""
    name, width = cells[0], _WIDTHS[0]
    if len(name) > width:
        name = f"{name[: width // 2]}…{name[len(name) - width + width // 2 + 1 :]}"
    numbers = [f"{cell:>{of}}" for cell, of in zip(cells[2:], _WIDTHS[2:], strict=True)]
    return " ".join([f"{name:<{width}}", f"{cells[1]:<{_WIDTHS[1]}}", *numbers])


def _warnings(ranks: Sequence[LayerRank]) -> list[str]:
    bad = {rank.layer: rank.not_finite for rank in ranks if rank.not_finite}
    return [f"{name}: {count} batches were not finite and left out" for name, count in bad.items()]
