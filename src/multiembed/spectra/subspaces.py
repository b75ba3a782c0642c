"""How far the directions of a table moved from one checkpoint to the next, whatever its rotation.

The columns of a table mean nothing by themselves: training again turns them. What a model holds is
how its rows lie to each other. So tables are compared as patterns over the same rows (centred), by
measures that no rotation and no scaling of either moves.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from multiembed.spectra.measures import dims_for_energy
from multiembed.spectra.spectrum import Spectrum, above_rounding
from multiembed.spectra.summary import Summary

ENERGY = 0.99
"""Share of the energy that the leading directions of a table hold."""
KEPT_BELOW = 45.0
"""Degrees below which a direction counts as still there: more of it lies inside than outside."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What one table became in another with the same rows; all numbers are rotation-invariant."""

    before: int
    """Leading directions of the first: those that hold 99% of its energy."""
    after: int
    """Leading directions of the second."""
    kept: int
    """Principal angles between both leading subspaces below 45 degrees."""
    gained: int
    """Leading directions of the second that the first had not: `after - kept`."""
    lost: int
    """Leading directions of the first that the second has not: `before - kept`."""
    gained_energy: float
    """Share of the second's energy that lies outside the first's leading subspace."""
    lost_energy: float
    """Share of the first's energy that lies outside the second's leading subspace."""
    angles: tuple[float, ...]
    """The principal angles, rising, in degrees (Björck & Golub, 1973)."""
    mean_angle: float
    """How far the leading subspace turned: the angle of the mean squared cosine, in degrees."""
    overlap: float
    """Sum of the squared cosines over the geometric mean of `before` and `after`."""
    cka: float
    """Linear centred kernel alignment of the rows (Kornblith et al., 2019): 1 if nothing moved."""
    procrustes: float
    """Share of the energy left after the best rotation and scaling of one table onto the other."""
    spectral_distance: float
    """Squared Hellinger distance of both spectra's shares of energy: 0 alike, 1 disjoint."""
    chance: float
    """Mean squared cosine between subspaces of so many directions among so many rows by chance."""


LASTING = 0.75
"""Mean squared cosine with the tables of a stretch of time from which a direction lasts in it.

One that is in a single table only has about one over their number, at most a half.
"""


@dataclass(frozen=True, eq=False)
class Patterns:
    """Orthonormal patterns over rows, the one with the most energy first."""

    weights: Float64[np.ndarray, "columns patterns"]
    """A pattern is the tables side by side, centred, times these."""
    energies: Float64[np.ndarray, " patterns"]
    """Mean share of the energy that each holds in the tables of its stretch of time."""


@dataclass(frozen=True, eq=False)
class Cut:
    """What lasted before a step and what lasts after it; noise of single tables is in neither."""

    before: int
    """Directions that last in the tables before: near the leading subspace of every one."""
    after: int
    """Directions that last in the tables after."""
    kept: int
    """Principal angles between both below 45 degrees."""
    lost: Patterns
    """Lasting before, and 45 degrees or more from all that lasts after."""
    gained: Patterns
    """Lasting after, and 45 degrees or more from all that lasted before."""


@dataclass(frozen=True, eq=False)
class _Part:
    """One table of several side by side."""

    columns: slice
    energies: Float64[np.ndarray, " values"]
    leading: int
    whitening: Float64[np.ndarray, "dim leading"]
    """Takes rows to orthonormal coordinates of the leading directions."""


class SideBySide:
    """Tables with the same rows, of which only the joint Gram matrix is kept.

    Args:
        joint: Summary of the tables side by side.
        widths: Columns of each.
    """

    def __init__(self, joint: Summary, widths: Sequence[int]) -> None:
        assert sum(widths) == joint.dim
        self.rows = joint.rows
        self._gram = joint.centered_gram()
        ends = np.cumsum(widths)
        self._parts = [
            self._part(joint, slice(int(end) - width, int(end)))
            for end, width in zip(ends, widths, strict=True)
        ]

    def _part(self, joint: Summary, columns: slice) -> _Part:
        gram = joint.gram[columns, columns]
        own = Summary(joint.rows, joint.weight, joint.total[columns], gram)
        values, vectors = np.linalg.eigh(self._gram[columns, columns])
        values = above_rounding(values, own, centered=True)[::-1]
        spectrum = Spectrum(np.sqrt(values), own.dim, own.dim, "gram", 0.0)
        leading = dims_for_energy(spectrum, ENERGY) if values.max(initial=0.0) > 0 else 0
        whitening = vectors[:, ::-1][:, :leading] / np.sqrt(values[:leading])
        return _Part(columns, values, leading, whitening)

    def abundance(self, place: int) -> float:
        """Return the information abundance of one table, centred; 0 where all rows are equal."""
        values = np.sqrt(self._parts[place].energies)
        largest = float(values.max(initial=0.0))
        return float(values.sum()) / largest if largest else 0.0

    def turn(self, first: int, second: int) -> Turn:
        """Compare two of the tables, by their places."""
        a, b = self._parts[first], self._parts[second]
        cross = self._gram[a.columns, b.columns]
        energy_a, energy_b = float(a.energies.sum()), float(b.energies.sum())
        cosines = np.linalg.svd(a.whitening.T @ cross @ b.whitening, compute_uv=False).clip(0, 1)
        angles = np.degrees(np.arccos(cosines))
        alike = 1.0 if energy_a == energy_b == 0 else 0.0  # where one has no energy to compare
        sizes = np.linalg.norm(a.energies) * np.linalg.norm(b.energies)
        nuclear = float(np.linalg.svd(cross, compute_uv=False).sum())
        energy = energy_a * energy_b
        kept = int(np.count_nonzero(angles < KEPT_BELOW))
        squares = cosines**2
        return Turn(
            before=a.leading,
            after=b.leading,
            kept=kept,
            gained=b.leading - kept,
            lost=a.leading - kept,
            gained_energy=_outside(a.whitening.T @ cross, energy_b),
            lost_energy=_outside((cross @ b.whitening).T, energy_a),
            angles=tuple(float(angle) for angle in angles),
            mean_angle=float(np.degrees(np.arccos(np.sqrt(squares.mean())))) if energy else 0.0,
            overlap=float(squares.sum() / np.sqrt(a.leading * b.leading)) if energy else alike,
            cka=min(1.0, float((cross**2).sum() / sizes)) if sizes else alike,
            procrustes=max(0.0, 1 - nuclear**2 / energy) if energy else 1 - alike,
            spectral_distance=_hellinger(a.energies, b.energies),
            chance=min(1.0, max(a.leading, b.leading) / max(1, self.rows - 1)),
        )

    def cut(self, after: int) -> Cut:
        """Compare what lasts in the tables before one of them with what lasts from it on."""
        stretches = self._parts[:after], self._parts[after:]
        first, second = (self._lasting(parts) for parts in stretches)
        left, cosines, right = np.linalg.svd(first.T @ self._gram @ second)
        kept = int(np.count_nonzero(cosines > np.cos(np.radians(KEPT_BELOW))))
        return Cut(
            before=first.shape[1],
            after=second.shape[1],
            kept=kept,
            lost=self._patterns(stretches[0], first @ left[:, kept:]),
            gained=self._patterns(stretches[1], second @ right[kept:].T),
        )

    def _lasting(self, parts: Sequence[_Part]) -> Float64[np.ndarray, "columns lasting"]:
        """Return the columns' weights in orthonormal patterns that last in all these tables."""
        weights = np.zeros((len(self._gram), sum(part.leading for part in parts)))
        start = 0
        for part in parts:
            weights[part.columns, start : start + part.leading] = part.whitening
            start += part.leading
        shares, vectors = np.linalg.eigh(weights.T @ self._gram @ weights / len(parts))
        lasting = shares >= LASTING
        return weights @ vectors[:, lasting] / np.sqrt(len(parts) * shares[lasting])

    def _patterns(
        self, parts: Sequence[_Part], basis: Float64[np.ndarray, "columns patterns"]
    ) -> Patterns:
        """Turn a basis to its principal patterns, by their mean energy in these tables."""
        within = np.zeros((basis.shape[1],) * 2)
        for part in parts:
            inside = basis.T @ self._gram[:, part.columns]
            within += inside @ inside.T / (len(parts) * (float(part.energies.sum()) or 1.0))
        energies, vectors = np.linalg.eigh(within)
        return Patterns(basis @ vectors[:, ::-1], energies[::-1].clip(0))


def _outside(inside: Float64[np.ndarray, "leading dim"], energy: float) -> float:
    """Return the share of `energy` that is not in these coordinates."""
    return min(1.0, max(0.0, 1 - float((inside**2).sum()) / energy)) if energy else 0.0


def _hellinger(a: Float64[np.ndarray, " a"], b: Float64[np.ndarray, " b"]) -> float:
    """Return half the squared distance between the roots of both shares of energy."""
    width = max(len(a), len(b))
    roots = [np.sqrt(np.pad(e, (0, width - len(e))) / (e.sum() or 1.0)) for e in (a, b)]
    return float(((roots[0] - roots[1]) ** 2).sum() / 2)
