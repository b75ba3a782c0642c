"""The singular values of a random table: what a spectrum looks like that nothing was learned in."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float64


@lru_cache(maxsize=4096)
def null_spectrum(rows: int, dim: int) -> Float64[np.ndarray, " values"]:
    """Return the singular values that a random normal `(rows, dim)` table has, the largest as 1.

    Quantiles of the Marchenko-Pastur law: the means over draws lie within 0.04 of them at every
    shape, and within 0.015 from 100 rows and 8 columns on; a chart shows no more.

    Args:
        rows: At least 1.
        dim: At least 1.
    """
    small, large = sorted((rows, dim))
    ratio = small / large
    # With x = 1 + ratio + 2 sqrt(ratio) cos t, the law's density times dx is smooth in t.
    angles = (np.arange(8000) + 0.5) * np.pi / 8000
    points = 1 + ratio + 2 * np.sqrt(ratio) * np.cos(angles)
    held = np.cumsum(np.sin(angles) ** 2 / points)
    ranks = (np.arange(small) + 0.5) / small
    values = np.sqrt(np.interp(ranks, held / held[-1], points))
    return values / values[0]
