"""What a setting changes: the variants of a grid beside the first, at every point."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from multiembed.experiments.analysis.scaling import compare
from multiembed.experiments.analysis.statistics import PairedDifference, Spread
from multiembed.experiments.grid.results import Point

MEASURES = {"test_auc": "AUC", "test_log_loss": "log loss"}


@dataclass(frozen=True)
class Contrast:
    """One measure of a variant less that of the first variant of the grid, run by run."""

    model: str
    """Architecture, way, size and share: what the two have in common."""
    variant: str
    measure: str
    difference: PairedDifference
    first: Spread
    """Of the first variant's runs: how far seeds and folds alone move the measure."""


def contrasts(points: Sequence[Point], first: str) -> list[Contrast]:
    """Compare every variant to the variant `first` where both were run, by AUC and log loss.

    A setting that changes a measure by less than seeds do may be chosen for its speed.
    """
    firsts = {_place(point): point for point in points if point.labels.variant == first}
    found = []
    for point in points:
        other = firsts.get(_place(point), point)
        if other is not point and set(point.replicas) & set(other.replicas):
            found += [_contrast(point, other, measure) for measure in MEASURES]
    return found


def _contrast(point: Point, first: Point, measure: str) -> Contrast:
    return Contrast(
        model=replace(point.labels, variant="").point,
        variant=point.labels.variant,
        measure=MEASURES[measure],
        difference=compare(point, first, measure),
        first=first.spread(measure),
    )


def _place(point: Point) -> tuple[object, ...]:
    labels = point.labels
    return labels.architecture, labels.scaling, labels.size, labels.share
