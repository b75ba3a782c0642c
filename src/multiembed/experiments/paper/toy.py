"""The paper's toy experiment (section 4.1, Figure 4): a small field collapses a large one.

Three fields and a factorization machine `h = sum_{i<j} e_i . e_j` on every pair of the first two
fields' values, labels drawn by a coin. Only the first field's table is trained; whether the third
has 3 values or 100 is the one difference.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from multiembed.spectra.measures import information_abundance

CARDINALITY = 100
"""Of the first and the second field."""
ITERATIONS = 5000
EVERY = 100
"""Iterations between two measurements."""
DIMS = (5, 10, 20, 50)
SMALL, LARGE = 3, 100
"""Cardinalities of the third field."""


@dataclass(frozen=True)
class ToyCurve:
    """How the abundance of the first field's table moved in one training."""

    dim: int
    cardinality: int
    """Of the third field."""
    seed: int
    iterations: list[int]
    abundance: list[float]
    """Before each of the iterations, and after the last."""


def toy_experiment(
    *,
    dims: Sequence[int] = DIMS,
    cardinalities: Sequence[int] = (SMALL, LARGE),
    seeds: int = 3,
    iterations: int = ITERATIONS,
) -> Iterator[ToyCurve]:
    """Train the toy for all widths, cardinalities of the third field, and seeds."""
    for dim in dims:
        for seed in range(seeds):
            for cardinality in cardinalities:
                yield toy_curve(dim, cardinality, seed=seed, iterations=iterations)


def toy_curve(
    dim: int, cardinality: int, *, seed: int = 0, iterations: int = ITERATIONS
) -> ToyCurve:
    """Train one toy by gradient descent on all rows at rate 1.

    The paper does not name the loss: here it is the mean logistic loss of h.
    """
    random = np.random.default_rng((seed, dim, cardinality))
    first, second, third = (
        random.standard_normal((rows, dim)) for rows in (CARDINALITY, CARDINALITY, cardinality)
    )
    shape = (CARDINALITY, CARDINALITY)  # row: value of the first field, column: of the second
    of_third = random.integers(0, cardinality, shape)
    labels = random.integers(0, 2, shape).astype(np.float64)
    # What the fixed tables add to h.
    fixed = np.take_along_axis(second @ third.T, of_third.T, axis=1).T
    cells = (np.arange(CARDINALITY)[:, None] * cardinality + of_third).ravel()
    times, abundance = [], []
    for at in range(iterations + 1):
        if at % EVERY == 0 or at == iterations:
            times.append(at)
            abundance.append(information_abundance(first))
        if at < iterations:
            h = first @ second.T + np.take_along_axis(first @ third.T, of_third, axis=1) + fixed
            residual = (0.5 + 0.5 * np.tanh(h / 2) - labels) / labels.size
            first = first - _gradient(residual, second, third, cells)
    return ToyCurve(dim, cardinality, seed, times, abundance)


def _gradient(
    residual: Float64[np.ndarray, "first second"],
    second: Float64[np.ndarray, "second dim"],
    third: Float64[np.ndarray, "third dim"],
    cells: Int64[np.ndarray, " samples"],
) -> Float64[np.ndarray, "first dim"]:
    """Return the gradient of the loss in the first field's table."""
    size = len(residual) * len(third)
    by_third = np.bincount(cells, residual.ravel(), minlength=size).reshape(len(residual), -1)
    return residual @ second + by_third @ third
