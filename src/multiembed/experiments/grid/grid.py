"""An experiment: a grid of architectures, sizes, ways to reach them, seeds, written out as runs."""

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from multiembed.base.bounds import MOST_RUNS, Sets
from multiembed.base.errors import ConfigError
from multiembed.base.validation import checked, read_toml
from multiembed.config import RecipeName, RunConfig
from multiembed.data.store.dataset import Dataset
from multiembed.data.store.schema import Schema
from multiembed.experiments.grid.dataset_views import folds, identity, subset
from multiembed.models.naming import Scaling
from multiembed.runs.given_config import configured, laid_over, merged
from multiembed.runs.recipe import RECIPES, recipe_table

EXECUTION = ("threads", "device", "kernels")
"""Settings that say where a run is computed, not what: they are no part of its name."""
LATER = {"precision": "float32", "best_by": "auc", "from_base_rate": False, "calibration": "none"}
"""Settings that came later, at what they were before: a run that has this keeps its name."""


class Grid(BaseModel):
    """What is varied, and what all runs have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architectures: tuple[str, ...] = Field(default=("dcnv2",), min_length=1)
    sizes: tuple[Sets, ...] = Field(default=(1, 2, 4, 10), min_length=1)
    """Multiples of the paper's base."""
    scaling: tuple[Scaling, ...] = Field(default=("single", "multi"), min_length=1)
    """Ways to reach them."""
    seeds: int = Field(default=3, ge=1, le=MOST_RUNS)
    """How many: 0, 1, …"""
    shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(default=(1.0,), min_length=1)
    """Of the training rows, drawn by the seed of the run."""
    folds: int | None = Field(default=None, ge=3, le=MOST_RUNS)
    """In how many parts all rows are dealt, each of which is tested once."""
    recipe: RecipeName | None = None
    """What says what all runs leave open; the paper's settings if not given."""
    model: dict[str, Any] = Field(default_factory=dict)
    """Settings of every model."""
    training: dict[str, Any] = Field(default_factory=dict)
    """Settings of every training."""
    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """By name, settings in place of the common ones: each variant is run at every point."""


@dataclass(frozen=True, kw_only=True)
class RunLabels:
    """Where a run stands in its experiment: what tables group and compare by."""

    architecture: str
    size: int | None
    """Multiple of the paper's base; `None` where an experiment names widths itself."""
    scaling: Scaling
    variant: str = ""
    share: float = 1.0
    """Share of the training rows."""
    fold: int | None = None
    seed: int = 0

    @property
    def point(self) -> str:
        """What tables call the runs that differ in fold and seed alone."""
        size = None if self.size is None else f"{self.size}x"
        share = None if self.share == 1 else f"{self.share:.0%} of rows"
        parts = self.architecture, self.scaling, size, self.variant, share
        return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class GridCase:
    """One run of an experiment."""

    name: str
    """Of its directory: readable, and different where configuration or dataset differ."""
    config: RunConfig
    dataset: Path
    labels: RunLabels


def read_grid(path: Path) -> Grid:
    """Read an experiment from TOML.

    Raises:
        ConfigError: If the file is missing, is no TOML, or says something unknown.
    """
    return checked(Grid, read_toml(path), at=f"{path}: ")


def asked_grid(file: Path | None, flags: Mapping[str, Any], assignments: Iterable[str]) -> Grid:
    """Return the grid of a file (or the default one) with assignments, then flags, applied.

    Where no file decides, what is left open is by the default recipe.

    Raises:
        ConfigError: If something is unknown, out of range or no assignment.
    """
    table: dict[str, Any] = {"recipe": RECIPES[0]}
    if file is not None:
        table = read_grid(file).model_dump(exclude_unset=True)
    common = configured(None, assignments, {}).model_dump(mode="json", exclude_unset=True)
    if "dataset" in common:
        raise ConfigError("--set dataset must be left out, got one: DATASET says it")
    return checked(Grid, merged(table, common) | dict(flags))


def expand(grid: Grid, dataset: Dataset, views: Path) -> list[GridCase]:
    """Write a grid out as runs; the base, which is the same for every scaling, comes once.

    Args:
        grid: What to run.
        dataset: On what.
        views: Where shares and folds of the dataset are written, if the grid has any.

    Raises:
        ConfigError: If a point of the grid is no valid configuration, or there are too many.
    """
    kinds = (grid.architectures, grid.sizes, grid.scaling, grid.shares, grid.variants or " ")
    runs = math.prod([*map(len, kinds), grid.seeds, grid.folds or 1])
    if runs > MOST_RUNS:
        raise ConfigError(f"grid must be of at most {MOST_RUNS:,} runs, got {runs:,}")
    points = list(_points(grid, dataset.schema))  # all are checked before anything is written
    dealt = dict(fold_views(grid.folds, dataset, views))

    @cache
    def view(share: float, fold: int | None, seed: int) -> tuple[Path, str]:
        part = subset(dealt[fold], views, share, seed=seed)
        return part.path, identity(part)

    return distinct(
        named_case(config, *view(share, fold, labels.seed), replace(labels, share=share, fold=fold))
        for config, labels in points
        for share in grid.shares
        for fold in dealt
    )


def fold_views(
    count: int | None, dataset: Dataset, views: Path
) -> list[tuple[int | None, Dataset]]:
    """Return every fold with its number, or the dataset as it is where there are none.

    Raises:
        ConfigError: If there are more folds than rows.
    """
    if count is None:
        return [(None, dataset)]
    rows = sum(split.rows for split in dataset.schema.splits.values())
    if count > rows:
        raise ConfigError(f"folds must be at most the {rows:,} rows there are, got {count}")
    return list(enumerate(folds(dataset, views, count)))


def distinct(cases: Iterable[GridCase]) -> list[GridCase]:
    """Keep the first of the cases that are the same run."""
    return list({case.name: case for case in reversed(list(cases))}.values())[::-1]


def case_of(config: RunConfig, dataset: Dataset, labels: RunLabels) -> GridCase:
    """Name a run after its configuration and the identity of its dataset.

    Raises:
        ConfigError: If the configuration contradicts itself.
    """
    return named_case(config.resolved(), dataset.path, identity(dataset), labels)


def named_case(config: RunConfig, dataset: Path, schema: str, labels: RunLabels) -> GridCase:
    """Name a run whose configuration is resolved, on the dataset with this hash of its schema."""
    config = config.model_copy(update={"dataset": None})
    content = config.model_dump(mode="json", exclude_none=True)
    for key in EXECUTION:
        content["training"].pop(key, None)
    content["training"] = {
        key: value for key, value in content["training"].items() if LATER.get(key) != value
    }
    text = json.dumps([content, schema], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    family = config.model.architecture.replace(":", "_").replace(",", "-")
    shape = f"{config.model.dim}x{config.model.sets}"
    name = f"{family}-{shape}-seed{config.training.seed}-{digest}"
    return GridCase(name, config, dataset, labels)


def _points(grid: Grid, schema: Schema) -> Iterator[tuple[RunConfig, RunLabels]]:
    base = None if grid.recipe is None else recipe_table(grid.recipe, schema)
    common = {"model": grid.model, "training": grid.training}
    points = itertools.product(
        grid.architectures, (grid.variants or {"": {}}).items(), grid.sizes, grid.scaling
    )
    for architecture, (variant, changes), size, scaling in points:
        source = f"grid: variant '{variant}'" if variant else "grid"
        table = merged(merged(common, changes), {"model": {"architecture": architecture}})
        table = merged(table, {"model": {"size": size, "scaling": scaling}})
        first = laid_over(base, table, source=source).resolved()
        for seed in range(grid.seeds):
            labels = RunLabels(
                architecture=architecture,
                size=size,
                scaling="single" if size == 1 and "single" in grid.scaling else scaling,
                variant=variant,
                seed=seed,
            )
            yield seeded(first, seed), labels


def seeded(config: RunConfig, seed: int) -> RunConfig:
    """Return the same run with another seed; what else is said need not be checked again."""
    training = config.training.model_copy(update={"seed": seed})
    return config.model_copy(update={"training": training})
