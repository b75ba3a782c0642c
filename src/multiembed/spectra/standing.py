"""What stands out of a spectrum: directions above an even rest, and more spread than chance has."""

import numpy as np
from jaxtyping import Float64

from multiembed.spectra.spectrum import Spectrum

GAP = 1.5
"""Least ratio of the last leading singular value to the first of the rest.

An even rest alone is not enough: a random table has one after every direction.
"""

EVEN = 0.25
"""Most that the energies of an even rest spread beyond chance, as `excess_spread` counts it.

Noise has 0. Of 64 directions that fall as `k^-0.5`, as LightGCN's do, those after the first have
1.8; singular values between a half and one have 0.14.
"""


def excess_spread(energies: Float64[np.ndarray, " values"], *, rows: int, columns: int) -> float:
    """Return by how much energies differ from each other beyond those of a random table.

    `p sum e^2 / (sum e)^2 - 1`, John's statistic of sphericity (1971): the squared coefficient of
    variation of the energies. Less its mean for independent normals, `(p^2 + p - 2) / (p q + 2)`
    with `p` the smaller and `q` the larger side, which is exact.

    Args:
        energies: Squares of singular values, one per direction of the smaller side; not all zero.
        rows: Of the table; one less where its mean was taken out.
        columns: Of the table.
    """
    small, large = sorted((rows, columns))
    shares = energies / energies.max()
    spread = small * float(shares @ shares) / float(shares.sum()) ** 2 - 1
    return spread - (small**2 + small - 2) / (small * large + 2)


def leading_directions(centered: Spectrum) -> int:
    """Return how many directions stand above an even rest; 0 where none do.

    At most half of them, with a rest of two at least: there is a gap of `GAP` below them, and what
    is left spreads no more than `EVEN` beyond chance, as noise does, or is zero.

    Args:
        centered: Of a table's rows less their mean.
    """
    energies = centered_energies(centered)
    most = min(len(energies) // 2, len(energies) - 2)
    for leading in range(1, most + 1):
        rest = energies[leading:]
        if energies[leading - 1] < max(GAP**2 * rest[0], np.finfo(float).tiny):
            continue
        left = {"rows": centered.rows - 1 - leading, "columns": centered.dim - leading}
        if rest[0] == 0 or excess_spread(rest, **left) <= EVEN:
            return leading
    return 0


def leading_share(centered: Spectrum) -> float:
    """Return the share of the energy that the leading directions hold."""
    energies = centered_energies(centered)
    return float(energies[: leading_directions(centered)].sum() / energies.sum())


def centered_energies(centered: Spectrum) -> Float64[np.ndarray, " directions"]:
    """Return the energies of the directions that rows less their mean can have."""
    return centered.singular_values[: min(centered.rows - 1, centered.dim)] ** 2
