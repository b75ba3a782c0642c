"""What an item of the paper is: runs to have, and what is made of them."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from multiembed.base.errors import ConfigError, DataError
from multiembed.base.registry import Registry
from multiembed.base.validation import known_name
from multiembed.config import parse_config
from multiembed.data.store.dataset import Dataset
from multiembed.diagnosis.diagnose import Diagnosis, diagnose
from multiembed.experiments.grid.dataset_views import identity, subset
from multiembed.experiments.grid.grid import (
    Grid,
    GridCase,
    RunLabels,
    expand,
    fold_views,
    merged,
    named_case,
    seeded,
)
from multiembed.experiments.grid.outcome import Outcome, Point, points
from multiembed.models.budget import PAPER_SIZES
from multiembed.models.interactions.architectures import ARCHITECTURES
from multiembed.models.naming import Scaling
from multiembed.runs.run import Run, load_run

SCALINGS: tuple[Scaling, ...] = ("single", "multi")


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    error: Sequence[float] | None = None
    """Standard deviations."""
    dashed: bool = False


@dataclass(frozen=True)
class Lines:
    """A chart of lines."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]


@dataclass(frozen=True)
class Bars:
    """A chart of groups of bars."""

    title: str
    y_label: str
    names: Sequence[str]
    groups: Mapping[str, Sequence[float]]
    from_zero: bool = True


@dataclass(frozen=True, eq=False)
class Heatmap:
    """A matrix in colours, rows by columns."""

    title: str
    x_label: str
    y_label: str
    values: Float64[np.ndarray, "rows columns"]


Panel = Lines | Bars | Heatmap


@dataclass(frozen=True)
class Analysis:
    """What an item found."""

    data: Mapping[str, Sequence[Mapping[str, Any]]]
    """What is behind it: rows of the same columns, by the name of what they tell."""
    tables: Sequence[Sequence[Mapping[str, str]]]
    """What to print, line by line, published beside measured where something is published."""
    panels: Sequence[Panel]
    """What to draw, side by side."""
    findings: Sequence[str] = ()
    """What the numbers say, in sentences."""


@dataclass(frozen=True)
class Scope:
    """On what, and how much of it, the items are run."""

    dataset: Dataset
    folder: Path
    seeds: int = 3
    folds: int | None = None
    """In how many parts all rows are dealt, each of which is tested once."""
    sizes: tuple[int, ...] | None = None
    """In place of an item's own."""
    shares: tuple[float, ...] | None = None
    """In place of Table 2's."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of all runs: sections `model` and `training`."""
    checkpoint: Path | None = None
    """A language model's, for Figure 11."""
    reference: bool = False
    """Run what the reference code runs, rather than what the paper says."""

    def of(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Return an item's sizes, or those that were asked for in their place."""
        return sizes if self.sizes is None else self.sizes

    def grid(
        self,
        architecture: str = "dcnv2",
        *,
        sizes: tuple[int, ...] = PAPER_SIZES,
        only: int | None = None,
        scaling: tuple[Scaling, ...] = SCALINGS,
        variants: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> list[GridCase]:
        """Return the runs of one architecture at an item's sizes, or at one of them only."""
        settings = self._settings(architecture)
        sizes = self.of(sizes) if only is None else (only,)
        if self.reference and architecture == "ipnn":
            return self._reference_ipnn(settings, sizes=sizes, scaling=scaling)
        grid = Grid(
            architectures=(architecture,),
            sizes=sizes,
            scaling=scaling,
            seeds=self.seeds,
            folds=self.folds,
            model=dict(settings.get("model", {})),
            training=dict(settings.get("training", {})),
            variants={name: dict(changes) for name, changes in (variants or {}).items()},
        )
        return expand(grid, self.dataset, self.views)

    def shaped(
        self, architecture: str, *, dim: int, sets: int = 1, share: float = 1.0
    ) -> list[GridCase]:
        """Return the runs of a model of a given width and number of sets."""
        settings = merged(
            self._settings(architecture),
            {"model": {"architecture": architecture, "dim": dim, "sets": sets}},
        )
        labels = RunLabels(
            architecture=architecture,
            size=None,
            scaling="single" if sets == 1 else "multi",
            variant=f"{sets} x {dim}",
            share=share,
        )
        return self._repeated(settings, labels)

    @property
    def views(self) -> Path:
        """Where shares of the dataset are written."""
        return self.folder / "datasets"

    def _settings(self, architecture: str) -> dict[str, Any]:
        """Return the settings of all runs, less options that an architecture does not have."""
        settings = merged({}, self.settings)
        options = dict(settings.get("model", {}).get("options", {}))
        known = ARCHITECTURES[architecture].model_fields
        # AutoInt is attention alone: hidden layers would make another model of it.
        unfit = {"hidden"} if architecture == "autoint" else set()
        kept = {k: v for k, v in options.items() if k in known and k not in unfit}
        settings["model"] = {**settings.get("model", {}), "options": kept}
        if self.reference:
            # The reference code reads rows in the order of the file.
            settings = merged(settings, {"training": {"shuffle": False}})
        return settings

    def _reference_ipnn(
        self, settings: dict[str, Any], *, sizes: tuple[int, ...], scaling: tuple[Scaling, ...]
    ) -> list[GridCase]:
        """Return what the reference code runs: one width, and several sets without embeddings."""
        found = []
        for size in sizes:
            for way in scaling[:1] if size == 1 else scaling:
                sets = size if way == "multi" else 1
                model = {"architecture": "ipnn", "dim": 10, "sets": sets}
                options = {"include_embeddings": False} if sets > 1 else {}
                changed = merged(settings, {"model": {**model, "options": options}})
                labels = RunLabels(architecture="ipnn", size=size, scaling=way)
                found += self._repeated(changed, labels)
        return found

    def _repeated(self, settings: dict[str, Any], labels: RunLabels) -> list[GridCase]:
        """Return one model's runs: every seed on every fold."""
        first = parse_config(settings, source="item").resolved()
        dealt = fold_views(self.folds, self.dataset, self.views)
        found = []
        for seed, (fold, dataset) in itertools.product(range(self.seeds), dealt):
            part = subset(dataset, self.views, labels.share, seed=seed)
            at = replace(labels, seed=seed, fold=fold)
            found.append(named_case(seeded(first, seed), part.path, identity(part), at))
        return found


@dataclass(frozen=True)
class Study:
    """The finished runs of one item."""

    scope: Scope
    cases: Sequence[GridCase]
    outcomes: Mapping[str, Outcome]
    """Of all runs, by name."""

    @cached_property
    def points(self) -> list[Point]:
        """The runs gathered over seeds.

        Raises:
            DataError: If one of them is not there.
        """
        absent = [case.name for case in self.cases if case.name not in self.outcomes]
        if absent:
            raise DataError(f"run {absent[0]} must be finished, got a failure or nothing")
        return points((case, self.outcomes[case.name]) for case in self.cases)

    def find(self, architecture: str, size: int, scaling: str, variant: str = "") -> Point:
        """Return the point of a size; that of the base whichever way it was to be reached."""
        for point in self.points:
            labels = point.labels
            same = labels.architecture == architecture and labels.variant == variant
            if same and labels.size == size and (size == 1 or labels.scaling == scaling):
                return point
        raise DataError(f"{architecture} {scaling} {size}x must have been run, got no such run")

    @property
    def sizes(self) -> list[int]:
        """The sizes that were run, rising."""
        return sorted({p.labels.size for p in self.points if p.labels.size is not None})

    def diagnoses(self, point: Point) -> Iterator[Diagnosis]:
        """Diagnose the runs of a point, one after another."""
        return (diagnose(self.scope.folder / "runs" / one.run) for one in point.outcomes)

    def diagnosis(self, point: Point) -> Diagnosis:
        """Diagnose the first run of a point."""
        return next(self.diagnoses(point))

    def runs(self, point: Point) -> Iterator[Run]:
        """Open the runs of a point, one after another."""
        return (load_run(self.scope.folder / "runs" / one.run) for one in point.outcomes)

    def run(self, point: Point) -> Run:
        """Open the first run of a point."""
        return next(self.runs(point))


@dataclass(frozen=True)
class Item:
    """One table or figure."""

    title: str
    plan: Callable[[Scope], list[GridCase]]
    """Which runs it needs."""
    analyse: Callable[[Study], Analysis]
    needs_checkpoint: bool = False
    """Of a language model, which the user must have."""


def no_runs(scope: Scope) -> list[GridCase]:
    """Need no run."""
    return []


def largest(study: Study) -> int:
    """Return the largest size that was run."""
    if not study.sizes:
        raise ConfigError("sizes must name at least one, got none")
    return study.sizes[-1]


_HERE = "multiembed.experiments.paper"
ITEMS: Registry[Item] = Registry(
    "item",
    {
        "table1": f"{_HERE}.quality_tables:TABLE1",
        "table2": f"{_HERE}.spectrum_tables:TABLE2",
        "table3": f"{_HERE}.quality_tables:TABLE3",
        "table4": f"{_HERE}.quality_tables:TABLE4",
        "table5": f"{_HERE}.quality_tables:TABLE1",
        "table6": f"{_HERE}.quality_tables:TABLE1",
        "table7": f"{_HERE}.quality_tables:TABLE7",
        "figure1": f"{_HERE}.spectrum_tables:FIGURE1",
        "figure2": f"{_HERE}.spectrum_tables:FIGURE2",
        "figure3": f"{_HERE}.interaction_figures:FIGURE3",
        "figure4": f"{_HERE}.toy:FIGURE4",
        "figure5": f"{_HERE}.interaction_figures:FIGURE5",
        "figure6": f"{_HERE}.interaction_figures:FIGURE6",
        "figure8": f"{_HERE}.spectrum_tables:FIGURE8",
        "figure9": f"{_HERE}.interaction_figures:FIGURE9",
        "figure10": f"{_HERE}.interaction_figures:FIGURE10",
        "figure11": f"{_HERE}.spectrum_tables:FIGURE11",
        "figure12": f"{_HERE}.quality_tables:FIGURE12",
        "figure13": f"{_HERE}.quality_tables:FIGURE13",
        "figure14": f"{_HERE}.interaction_figures:FIGURE14",
        "figure15": f"{_HERE}.spectrum_tables:FIGURE15",
        "figure16": f"{_HERE}.interaction_figures:FIGURE16",
        "figure17": f"{_HERE}.interaction_figures:FIGURE17",
    },
)
"""By the name in the paper; Figure 7 is a drawing of the architecture, with nothing to measure."""


def asked_items(item: str, checkpoint: Path | None) -> list[str]:
    """Return the items that were asked for; `all` is all that can be made.

    Raises:
        ConfigError: If there is no such item, or nothing of it can be measured.
    """
    if item == "all":
        names: dict[Item, str] = {}
        for name, one in ITEMS.items():
            names.setdefault(one, name)  # Tables 5 and 6 are Table 1 again
        return [name for one, name in names.items() if checkpoint or not one.needs_checkpoint]
    if item == "figure7":
        raise ConfigError("item must be measured, got figure7, a drawing of the architecture")
    known_name(item, [*ITEMS, "all"], subject="item")
    if ITEMS[item].needs_checkpoint and checkpoint is None:
        raise ConfigError(f"{item} must have --checkpoint, a local T5 or the like, got none")
    return [item]
