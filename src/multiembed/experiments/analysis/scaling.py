"""Quality against size: curves, a fitted law, its test on the largest size, fair comparisons."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from multiembed.experiments.analysis.statistics import (
    CONFIDENCE,
    PairedDifference,
    compare_on_average,
    compare_points,
    paired_difference,
    rank_correlation,
)
from multiembed.experiments.grid.outcome import Point
from multiembed.models.naming import Scaling

DRAWS = 2000
EXPONENTS = np.geomspace(0.01, 10.0, 600)
"""Where the best exponent is looked for: outside, a curve is a step or a logarithm."""


AVERAGED = {"test_auc": "AUC", "normalized_information_abundance": "of a random table's"}
"""Measures that are averaged over architectures, and their headings."""
ENOUGH_TO_AVERAGE = 3
"""Architectures whose mean says more than each."""


@dataclass(frozen=True)
class Curve:
    """One way to scale one architecture: points by rising size, the base first."""

    architecture: str
    variant: str
    scaling: Scaling
    points: tuple[Point, ...]

    @property
    def name(self) -> str:
        """What readers call it."""
        return f"{self.architecture} {self.scaling} {self.variant}".rstrip()

    @property
    def sizes(self) -> list[int]:
        """Multiples of the base."""
        return [point.labels.size or 0 for point in self.points]

    def at(self, size: int) -> Point | None:
        """Return the point of a size, if it was run."""
        return next((point for point in self.points if point.labels.size == size), None)


class Estimate(NamedTuple):
    """A number and its 95% interval; the interval is NaN where nothing was repeated."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Write value and interval."""
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g})"


@dataclass(frozen=True, eq=False)
class Law:
    """`a x^-b + c`: what an error falls to as x grows, fitted to means over seeds."""

    a: Estimate
    b: Estimate
    c: Estimate
    draws: Float64[np.ndarray, "draws 3"]
    """(a, b, c) fitted to values as likely as those seen; none where nothing was repeated."""

    def predict(self, x: float) -> Estimate:
        """Return the error at x, the law being true."""
        value = self.a.value * x**-self.b.value + self.c.value
        a, b, c = self.draws.T
        return _estimate(value, a * x**-b + c)


@dataclass(frozen=True)
class HeldOut:
    """The error at the largest size, predicted from the smaller ones."""

    size: int
    predicted: Estimate
    """With the noise of the measurement itself."""
    measured: float
    unchanged: float
    """The error at the size below, the simplest prediction."""

    @property
    def inside(self) -> bool:
        """Whether the measurement lies in the interval."""
        return self.predicted.low <= self.measured <= self.predicted.high

    @property
    def nearer(self) -> bool:
        """Whether the prediction is nearer to the measurement than the size below is."""
        return abs(self.predicted.value - self.measured) < abs(self.unchanged - self.measured)


@dataclass(frozen=True)
class Matched:
    """Several sets against one wide one, at equal cost."""

    architecture: str
    variant: str
    by: str
    """What is equal: `size`, `parameters` or `flops`."""
    size: int
    """Of the model with several sets."""
    difference: PairedDifference | None
    """Of test AUC, multi less single; `None` where no single model is as large."""


def curves(points: Iterable[Point]) -> list[Curve]:
    """Arrange the points of whole data into curves; the base begins every one of them."""
    families: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        if point.labels.size is not None and point.labels.share == 1.0:
            family = (point.labels.architecture, point.labels.variant)
            families.setdefault(family, []).append(point)
    found = []
    for (architecture, variant), members in families.items():
        members.sort(key=lambda point: point.labels.size or 0)
        for scaling in ("single", "multi"):
            of_curve = [p for p in members if p.labels.size == 1 or p.labels.scaling == scaling]
            if any(point.labels.scaling == scaling for point in of_curve):
                found.append(Curve(architecture, variant, scaling, tuple(of_curve)))
    return found


def errors(curve: Curve, measure: str) -> list[list[float]]:
    """Return what a law describes, size by size: log loss, or 1 less the AUC."""
    sign, shift = (-1.0, 1.0) if measure.endswith("auc") else (1.0, 0.0)
    return [[shift + sign * value for value in point.values(measure)] for point in curve.points]


def fit_law(x: Sequence[float], values: Sequence[Sequence[float]], *, seed: int = 0) -> Law:
    """Fit `a x^-b + c` with `a >= 0` to the means of repeated values.

    The exponent is searched for, a and c follow by least squares. For the intervals the means are
    drawn anew many times, from the deviation that the repetitions show, whose own uncertainty
    counts: three seeds give wide intervals.

    Raises:
        ValueError: If there are fewer than three x: three numbers are fitted.
    """
    if len(x) != len(values) or len(x) < 3:
        raise ValueError(f"a law must have three sizes or more, got {len(x)}")
    means = np.array([np.mean(of_size) for of_size in values])
    places = np.asarray(x, dtype=np.float64)
    best = _fit(places, means[None])[0]
    draws = _fit(places, means + _noise(values, np.random.default_rng(seed)))
    a, b, c = (_estimate(float(best[at]), draws[:, at]) for at in range(3))
    return Law(a, b, c, draws)


def hold_out(curve: Curve, measure: str) -> HeldOut | None:
    """Predict the largest size from the others; `None` where fewer than three are left."""
    if len(curve.points) < 4:
        return None
    found = errors(curve, measure)
    sizes = [float(size) for size in curve.sizes]
    law = fit_law(sizes[:-1], found[:-1])
    predicted = law.predict(sizes[-1])
    noise = _noise(found, np.random.default_rng(1))[:, -1]
    a, b, c = law.draws.T
    drawn = a * sizes[-1] ** -b + c + noise if len(noise) else noise
    return HeldOut(
        size=curve.sizes[-1],
        predicted=_estimate(predicted.value, drawn),
        measured=float(np.mean(found[-1])),
        unchanged=float(np.mean(found[-2])),
    )


def rises(curve: Curve, measure: str) -> list[int]:
    """Return the sizes at which the mean error is above that of the size before."""
    means = [float(np.mean(of_size)) for of_size in errors(curve, measure)]
    return [
        size
        for size, before, here in zip(curve.sizes[1:], means[:-1], means[1:], strict=True)
        if here > before
    ]


def match(single: Curve, multi: Curve) -> list[Matched]:
    """Compare every point with several sets to one set of equal size, parameters and FLOPs.

    Between the sizes that were run, one set's AUC is interpolated linearly in the logarithm of
    the cost, seed by seed; beyond the largest there is no comparison.
    """
    found = []
    for point in multi.points:
        size = point.labels.size or 0
        if size > 1:
            other = single.at(size)
            equal_size = None if other is None else compare_points(point, other)
            found.append(Matched(multi.architecture, multi.variant, "size", size, equal_size))
            for cost in ("parameters", "flops"):
                equal = _at_equal_cost(single, point, cost)
                found.append(Matched(multi.architecture, multi.variant, cost, size, equal))
    return found


def abundance_against_gain(found: Iterable[Curve]) -> tuple[list[dict[str, object]], float, float]:
    """Say whether the abundance gained by the first evaluation predicts the AUC gained at the end.

    Returns:
        One row per scaled point (growth of mean abundance over the base's at the first
        evaluation, gain of test AUC over the base), Spearman's rank correlation over them, and
        its two-sided p value by permutation; both NaN for fewer than four points.
    """
    rows: list[dict[str, object]] = []
    for curve in found:
        base = curve.at(1)
        for point in curve.points:
            if base is None or point is base:
                continue
            first = "first_information_abundance"
            growth = point.spread(first).mean / base.spread(first).mean
            gain = compare_points(point, base).difference
            rows.append({"model": f"{curve.name} {point.labels.size}x", "growth": growth})
            rows[-1]["gain"] = gain
    if len(rows) < 4:
        return rows, float("nan"), float("nan")
    x, y = ([float(str(row[key])) for row in rows] for key in ("growth", "gain"))
    return rows, *rank_correlation(x, y)


def averages(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Compare both ways to every size to the base, and to each other, over all architectures.

    Returns:
        One row for each comparison: by measure the mean difference and its 95% interval; no row
        where fewer than three architectures allow it.
    """
    ways: dict[str, dict[str, Curve]] = {"single": {}, "multi": {}}
    for curve in curves(points):
        if not curve.variant:
            ways[curve.scaling][curve.architecture] = curve
    single, multi = ways.values()
    rows = []
    for size in sorted({point.labels.size or 0 for point in points} - {0, 1}):
        for name, ours, beside, theirs, at in (
            (f"single {size}x", single, "the base", single, 1),
            (f"multi {size}x", multi, "the base", multi, 1),
            (f"multi {size}x", multi, f"single {size}x", single, size),
        ):
            met = [(ours[a].at(size), theirs[a].at(at)) for a in ours if a in theirs]
            pairs = [(one, other) for one, other in met if one and other]
            if len(pairs) >= ENOUGH_TO_AVERAGE:
                rows.append({"model": name, "beside": beside} | _compared(pairs))
    return rows


def printed_average(row: Mapping[str, Any]) -> dict[str, str]:
    """Return one row of `averages` as a line to print."""
    line = {"of": str(row["architectures"]), "mean of": row["model"], "beside": row["beside"]}
    for measure, heading in AVERAGED.items():
        digits = 5 if measure == "test_auc" else 3
        found = (f"{row[measure + end]:+.{digits}f}" for end in ("", "_low", "_high"))
        line[f"{heading}, 95%"] = "{} ({}, {})".format(*found)
    return line


def _compared(pairs: Sequence[tuple[Point, Point]]) -> dict[str, Any]:
    row: dict[str, Any] = {"architectures": len(pairs)}
    for measure in AVERAGED:
        found = compare_on_average(pairs, measure)
        row[measure] = found.difference
        row[f"{measure}_low"], row[f"{measure}_high"] = found.t.low, found.t.high
    return row


def _at_equal_cost(single: Curve, point: Point, cost: str) -> PairedDifference | None:
    costs = np.array([float(getattr(p.outcomes[0], cost)) for p in single.points])
    wanted = float(getattr(point.outcomes[0], cost))
    if len(costs) < 2 or not costs.min() <= wanted <= costs.max():
        return None
    ours = point.by_replica("test_auc")
    theirs = [p.by_replica("test_auc") for p in single.points]
    common = [r for r in ours if all(r in values for values in theirs)]
    if not common:
        return None
    order = np.argsort(costs)
    wide = [
        float(
            np.interp(
                np.log(wanted),
                np.log(costs[order]),
                np.array([values[replica] for values in theirs])[order],
            )
        )
        for replica in common
    ]
    return paired_difference([ours[replica] for replica in common], wide)


def _fit(
    x: Float64[np.ndarray, " sizes"], y: Float64[np.ndarray, "draws sizes"]
) -> Float64[np.ndarray, "draws 3"]:
    """Return the best (a, b, c) for every row of y."""
    powers = x[None, :] ** -EXPONENTS[:, None]  # (exponents, sizes)
    centred = powers - powers.mean(axis=1, keepdims=True)
    slopes = np.maximum(y @ centred.T / np.sum(centred**2, axis=1), 0.0)  # (draws, exponents)
    # What is left of y's own spread; a slope held at 0 leaves all of it.
    explained = slopes**2 * np.sum(centred**2, axis=1)
    chosen = explained.argmax(axis=1)
    a = slopes[np.arange(len(y)), chosen]
    c = y.mean(axis=1) - a * powers.mean(axis=1)[chosen]
    return np.stack([a, EXPONENTS[chosen], c], axis=1)


def _noise(
    values: Sequence[Sequence[float]], random: np.random.Generator
) -> Float64[np.ndarray, "draws sizes"]:
    """Draw the errors of all means: normal, of a deviation that is itself drawn."""
    counts = np.array([len(of_size) for of_size in values])
    freedom = int((counts - 1).sum())
    if freedom < 1:
        return np.zeros((0, len(values)))
    squares = sum(float(np.var(of_size)) * len(of_size) for of_size in values)
    deviations = np.sqrt(squares / random.chisquare(freedom, DRAWS))
    return random.standard_normal((DRAWS, len(values))) * deviations[:, None] / np.sqrt(counts)


def _estimate(value: float, drawn: Float64[np.ndarray, " draws"]) -> Estimate:
    if len(drawn) == 0:
        return Estimate(value, float("nan"), float("nan"))
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(value, float(low), float(high))
