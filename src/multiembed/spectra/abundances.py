"""One way to look at a table (all rows, trained rows, rows by their counts) in a few numbers."""

from dataclasses import dataclass

from multiembed.spectra.measures import effective_rank, information_abundance, mean_share
from multiembed.spectra.null import null_information_abundance
from multiembed.spectra.spectrum import Spectrum, spectrum
from multiembed.spectra.summary import Summary


@dataclass(frozen=True, kw_only=True)
class View:
    """The abundances of some rows of a table; 0 where nothing is left to measure."""

    rows: int
    """How many rows were looked at."""
    columns: int
    information_abundance: float
    """As the paper defines it: a common mean of the rows counts as collapse."""
    centered_information_abundance: float
    """The same once the mean row is taken out."""
    normalized_information_abundance: float
    """Over that of a random table of the same shape."""
    centered_normalized_information_abundance: float
    """Of the centred rows, over that of a random table with one row less."""
    mean_share: float
    """Share of the energy that the mean row holds."""
    centered_effective_rank: float
    """About how many directions hold the energy of the centred rows, by its entropy."""


def view_of(rows: Summary, *, raw: Spectrum | None = None) -> View:
    """Return the abundances of the rows behind a summary.

    Args:
        rows: What is left of the rows.
        raw: Their uncentred spectrum, where it is known already.
    """
    raw = spectrum(rows) if raw is None else raw
    abundance = _abundance(raw)
    around_mean = spectrum(rows, centered=True)
    centered = _abundance(around_mean)
    return View(
        rows=rows.rows,
        columns=rows.dim,
        information_abundance=abundance,
        centered_information_abundance=centered,
        normalized_information_abundance=_over_null(abundance, rows.rows, rows.dim),
        centered_normalized_information_abundance=_over_null(centered, rows.rows - 1, rows.dim),
        mean_share=mean_share(rows) if abundance else 0.0,
        centered_effective_rank=effective_rank(around_mean, of="energies") if centered else 0.0,
    )


def _abundance(values: Spectrum) -> float:
    return information_abundance(values) if values.singular_values.max(initial=0.0) else 0.0


def _over_null(abundance: float, rows: int, dim: int) -> float:
    return abundance / null_information_abundance(rows, dim) if rows >= 1 else 0.0
