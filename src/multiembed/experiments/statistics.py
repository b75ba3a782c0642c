"""How sure a comparison is, given the rows it was made on."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from multiembed.training.metrics import auc


class Interval(NamedTuple):
    """A difference and what 95% of resamples give."""

    difference: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether all of the interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


def paired_auc_difference(
    labels: Int[np.ndarray, " rows"],
    first: Float[np.ndarray, " rows"],
    second: Float[np.ndarray, " rows"],
    *,
    resamples: int = 400,
    seed: int = 0,
) -> Interval:
    """Return `auc(first) - auc(second)` with a 95% percentile bootstrap over the rows.

    Both models are scored on the same resampled rows, so what the rows do to both cancels.
    This is the noise of the test rows alone: another seed of training moves both models too.
    """
    random = np.random.default_rng(seed)
    differences = np.empty(resamples)
    for at in range(resamples):
        rows = random.integers(0, len(labels), len(labels))
        differences[at] = auc(labels[rows], first[rows]) - auc(labels[rows], second[rows])
    low, high = np.quantile(differences, [0.025, 0.975])
    return Interval(auc(labels, first) - auc(labels, second), float(low), float(high))
