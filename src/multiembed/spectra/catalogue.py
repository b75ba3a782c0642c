"""Every measure of a table by name: what computes it, what it is called, and where it is shown.

`MEASURES` is the one list that a field's record, the views of its rows, the model's summary, the
monitor of a training, the outcome of a run, the terminal and the page go through. A new measure
is one more entry.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from multiembed.spectra.measures import (
    condition,
    dims_for_energy,
    effective_rank,
    information_abundance,
    mean_share,
    null_information_abundance,
    participation_ratio,
    stable_rank,
    tail_slope,
)
from multiembed.spectra.spectrum import Spectrum, spectrum
from multiembed.spectra.standing import (
    centered_energies,
    excess_spread,
    leading_directions,
    leading_share,
)
from multiembed.spectra.summary import Summary

Value = float | int | None
Place = Literal["field", "view", "model", "training", "outcome"]
"""A record that measures go into: of a whole table, of some of its rows (all, trained, weighted,
one set), of a model (means over fields), of a step of training, of a finished run (means)."""
Written = Literal["fixed", "percent", "count", "general"]
"""How the page writes a number: so many digits after the point, in percent, whole, or by size."""


@dataclass(frozen=True, eq=False)
class TableSpectra:
    """What every measure of a table is computed from."""

    summary: Summary
    raw: Spectrum
    """Of the rows as they are."""
    centered: Spectrum
    """Of the rows less their mean."""

    @classmethod
    def of(cls, summary: Summary, *, raw: Spectrum | None = None) -> "TableSpectra":
        """Compute the spectra of the rows behind a summary.

        Args:
            summary: Of the rows.
            raw: Their uncentred spectrum, where it is known already.
        """
        raw = spectrum(summary) if raw is None else raw
        return cls(summary, raw, spectrum(summary, centered=True))

    def null(self, *, centered: bool = False) -> float:
        """Return the abundance of a random table: of a row less, where the mean is taken out."""
        return null_information_abundance(self.summary.rows - int(centered), self.summary.dim)


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One measure, with all that is said of it anywhere."""

    function: Callable[[TableSpectra], Value]
    places: frozenset[Place]
    """The records it goes into."""
    reads: Literal["raw", "centered", "shape"] = "raw"
    """Which spectrum it reads: where that is all zeros, the measure is `of_zeros`."""
    of_zeros: Value = 0.0
    heading: str | None = None
    """Of its column in the page's table of fields; `None` for no column."""
    words: str = ""
    """What it is, in a sentence."""
    beside_abundance: bool = False
    """Whether its column stands among the abundances, before the ranks."""
    written: Written = "fixed"
    digits: int = 2
    """After the point, where it is written `fixed`."""
    bar: bool = False
    """Whether its column draws a bar beside the number."""
    terminal: str | None = None
    """Heading of its column in the terminal, which has 80 characters; `None` for no column."""
    menu: str | None = None
    """What the menu of the chart over cardinality calls it; `None` to leave it out."""
    random: float | str | None = None
    """In that chart: its value for a random table, or the measure that says it."""
    card: str | None = None
    """Words below the model's mean on the page; `None` for no card."""
    of_view: str | None = None
    """The phrase for some rows of a table, `{}` standing for the number."""
    of_field: str | None = None
    """The phrase for a whole table in its details, `{}` standing for the number."""
    of_set: str | None = None
    """What the numbers of the sets, one by one, are called."""

    def of(self, table: TableSpectra) -> Value:
        """Return the measure of a table, also where its ratio is undefined."""
        if self.reads == "shape":
            return self.function(table)
        used = table.raw if self.reads == "raw" else table.centered
        zeros = used.singular_values.max(initial=0.0) == 0
        return self.of_zeros if zeros else self.function(table)


_EVERYWHERE: frozenset[Place] = frozenset({"field", "view", "model", "training", "outcome"})
_FIELD: frozenset[Place] = frozenset({"field"})
_VIEW: frozenset[Place] = frozenset({"view"})

MEASURES: dict[str, Measure] = {
    "information_abundance": Measure(
        function=lambda table: information_abundance(table.raw),
        places=_EVERYWHERE,
        heading="abundance",
        words="Information abundance: sum of the singular values over the largest",
        beside_abundance=True,
        terminal="abund.",
        menu="information abundance",
        random="null_information_abundance",
        card="information abundance, mean over fields",
        of_view="abundance {}",
    ),
    "centered_information_abundance": Measure(
        function=lambda table: information_abundance(table.centered),
        places=_EVERYWHERE,
        reads="centered",
        heading="centred",
        words="The same once the mean row is taken out",
        beside_abundance=True,
        menu="centred information abundance",
        random="null_information_abundance",
        card="less the common mean of the rows",
        of_view="centred {}",
    ),
    "normalized_information_abundance": Measure(
        function=lambda table: information_abundance(table.raw) / table.null(),
        places=_EVERYWHERE,
        heading="of random",
        words="Abundance over that of a random table of the same shape",
        beside_abundance=True,
        written="percent",
        menu="abundance over a random table's",
        random=1.0,
        card="of a random table of the same shape",
        of_view="of random {}",
        of_set="of random",
    ),
    "centered_normalized_information_abundance": Measure(
        function=lambda table: information_abundance(table.centered) / table.null(centered=True),
        places=frozenset({"field", "view", "model"}),
        reads="centered",
        heading="centred, of random",
        words="Centred abundance over that of a random table",
        beside_abundance=True,
        written="percent",
        bar=True,
        menu="centred abundance over a random table's",
        random=1.0,
        card="of a random table, less the common mean",
        of_view="centred of random {}",
        of_set="centred",
    ),
    "null_information_abundance": Measure(
        function=lambda table: table.null(),
        places=_FIELD,
        reads="shape",
        words="The information abundance of a random table of this shape",
    ),
    "effective_rank": Measure(
        function=lambda table: effective_rank(table.raw),
        places=frozenset({"field", "model"}),
        words="Exponential of the entropy of the singular values",
        digits=1,
        of_field="Effective rank {}",
    ),
    "stable_rank": Measure(
        function=lambda table: stable_rank(table.raw),
        places=_FIELD,
        words="Energy over that of the strongest direction",
        of_field="stable rank {}",
    ),
    "participation_ratio": Measure(
        function=lambda table: participation_ratio(table.raw),
        places=_FIELD,
        words="Inverse of the concentration of the energy",
        of_field="participation ratio {}",
    ),
    "k90": Measure(
        function=lambda table: dims_for_energy(table.raw, 0.90),
        places=_FIELD,
        of_zeros=0,
        words="Fewest directions that hold 90% of the energy",
        written="count",
        of_field="K90 {}",
    ),
    "k99": Measure(
        function=lambda table: dims_for_energy(table.raw, 0.99),
        places=_FIELD,
        of_zeros=0,
        words="Fewest directions that hold 99% of the energy",
        written="count",
        of_field="K99 {} with the mean",
    ),
    "centered_k99": Measure(
        function=lambda table: dims_for_energy(table.centered, 0.99),
        places=frozenset({"field", "view"}),
        reads="centered",
        of_zeros=0,
        heading="K99",
        words="Fewest directions that hold 99% of the energy of the rows less their mean",
        written="count",
        terminal="K99",
        of_view="99% of the energy in {} of {columns} directions",
    ),
    "condition": Measure(
        function=lambda table: condition(table.raw),
        places=_FIELD,
        of_zeros=math.inf,
        words="Largest singular value over the smallest",
        written="general",
        of_field="condition {}",
    ),
    "mean_share": Measure(
        function=lambda table: mean_share(table.summary),
        places=frozenset({"field", "view"}),
        heading="mean",
        words="Share of the energy that the mean row holds",
        beside_abundance=True,
        written="percent",
    ),
    "tail_slope": Measure(
        function=lambda table: (
            tail_slope(table.raw) if len(table.raw.singular_values) > 1 else None
        ),
        places=_FIELD,
        of_zeros=None,
        words="Exponent of the power law that fits the energies; none for a single value",
        of_field="tail slope {}",
    ),
    "leading_directions": Measure(
        function=lambda table: leading_directions(table.centered),
        places=_VIEW,
        reads="centered",
        of_zeros=0,
        words="How many directions stand above an even rest; 0 where none do",
        written="count",
    ),
    "leading_share": Measure(
        function=lambda table: leading_share(table.centered),
        places=_VIEW,
        reads="centered",
        words="Share of the centred energy that they hold",
        written="percent",
    ),
    "excess_spread": Measure(
        function=lambda table: excess_spread(
            centered_energies(table.centered),
            rows=table.summary.rows - 1,
            columns=table.summary.dim,
        ),
        places=_VIEW,
        reads="centered",
        words="Spread of the centred energies beyond that of a random table's",
    ),
}
"""In the order in which records hold them."""


class Measured:
    """A record whose measures can be read as attributes too: `field.k99`."""

    measures: Mapping[str, Any]
    """By name; which ones is the matter of `MEASURES`."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        """Return one measure."""
        measures = self.__dict__.get("measures", {})
        if name not in measures:
            raise AttributeError(f"{type(self).__name__} has no attribute or measure '{name}'")
        return measures[name]


@dataclass(frozen=True, kw_only=True)
class TableMeasures(Measured):
    """The measures of a table at one place, and nothing else."""

    measures: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class View(Measured):
    """One way to look at a table: all rows, trained rows, rows by their counts, or one set."""

    rows: int
    """How many rows were looked at."""
    columns: int
    measures: Mapping[str, Any]

    @classmethod
    def of(cls, table: TableSpectra) -> "View":
        """Measure the rows behind a table's spectra."""
        summary = table.summary
        return cls(rows=summary.rows, columns=summary.dim, measures=measures_of(table, "view"))


def measures_at(place: Place) -> list[str]:
    """Return the names of the measures that a record holds, in order."""
    return [name for name, measure in MEASURES.items() if place in measure.places]


def measures_of(table: TableSpectra, place: Place) -> dict[str, Value]:
    """Return the measures of a table that belong to a place, by name."""
    return {name: MEASURES[name].of(table) for name in measures_at(place)}


def mean_measures(records: Sequence[Measured], place: Place) -> dict[str, float]:
    """Return means over fields, unweighted, as in the paper's Table 2."""
    return {
        name: math.fsum(record.measures[name] for record in records) / len(records)
        for name in measures_at(place)
    }
