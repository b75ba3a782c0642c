"""The paper's toy experiment (section 4.1, Figure 4): a small field collapses a large one.

Three fields and a factorization machine `h = sum_{i<j} e_i . e_j` on every pair of the first two
fields' values, labels drawn by a coin. Only the first field's table is trained; whether the third
has 3 values or 100 is the one difference.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from multiembed.experiments.analysis.statistics import paired_difference
from multiembed.experiments.grid.outcome import spread
from multiembed.experiments.paper.study import Analysis, Item, Lines, Series, Study, no_runs
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


def analyse_figure4(study: Study) -> Analysis:
    """Train the toy experiment, which needs no data."""
    sizes = study.scope.sizes
    dims = DIMS if sizes is None else tuple(10 * size for size in sizes)
    found = list(toy_experiment(dims=dims, seeds=study.scope.seeds))
    rows = [
        {"dim": c.dim, "cardinality": c.cardinality, "seed": c.seed, "iteration": i, "abundance": a}
        for c in found
        for i, a in zip(c.iterations, c.abundance, strict=True)
    ]
    table, findings, panels = [], [], []
    for dim in dims:
        last = {
            size: [c.abundance[-1] for c in found if (c.dim, c.cardinality) == (dim, size)]
            for size in (SMALL, LARGE)
        }
        small, large = spread(last[SMALL]), spread(last[LARGE])
        table.append(
            {"dim": str(dim), "D3 = 3": f"{small.mean:.2f}", "D3 = 100": f"{large.mean:.2f}"}
        )
        difference = paired_difference(last[SMALL], last[LARGE])
        words = difference.words("D3 = 3", "D3 = 100", measure="abundance")
        findings.append(f"K = {dim}: {words}.")
        panels.append(_toy_panel(dim, [c for c in rows if c["dim"] == dim and c["seed"] == 0]))
    return Analysis({"curves": rows}, [table], panels, findings)


def _toy_panel(dim: int, rows: list[dict[str, int | float]]) -> Lines:
    series = []
    for size in (SMALL, LARGE):
        own = [row for row in rows if row["cardinality"] == size]
        x, y = [float(row["iteration"]) for row in own], [float(row["abundance"]) for row in own]
        series.append(Series(f"D3 = {size}", x, y))
    return Lines(f"K = {dim}", "iteration", "information abundance of E1", series)


FIGURE4 = Item("The toy experiment", no_runs, analyse_figure4)
