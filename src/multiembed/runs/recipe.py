"""What a run is configured with where nothing is said: a recipe, by the facts of its rows."""

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

from multiembed.base.validation import known_name
from multiembed.config import RecipeName, RunConfig
from multiembed.data.store.dataset import Dataset, open_dataset
from multiembed.data.store.schema import Schema
from multiembed.runs.given_config import configured, merged

RECIPES: tuple[RecipeName, ...] = get_args(RecipeName)
"""Recipes by name, the default first; each is a file of this package."""


def recipe_table(name: str, schema: Schema) -> dict[str, Any]:
    """Return what a recipe says of rows like these: a configuration file's content.

    A recipe's `rows` are settings for few rows: those of the first entry that stands `below` more
    training rows than there are take the place of what the file says of all.

    Raises:
        ConfigError: If there is no such recipe.
    """
    known_name(name, RECIPES, subject="recipe")
    file = files("multiembed.runs") / "recipes" / f"{name}.toml"
    table = tomllib.loads(file.read_text("utf-8"))
    few = [of for of in table.pop("rows", []) if schema.splits["train"].rows < of["below"]]
    settings = {key: value for key, value in few[0].items() if key != "below"} if few else {}
    return {"recipe": name, **merged(table, settings)}


def recipe(
    name: str, dataset: Dataset | Path | str, settings: Mapping[str, object] | None = None
) -> RunConfig:
    """Return the configuration that a recipe gives for a dataset, and for a model of your choice.

    Example:
        >>> import multiembed as me
        >>> from multiembed.testing.planted_clicks import PlantedClicks, write_planted
        >>> _ = write_planted("planted", PlantedClicks(cardinalities=(20, 8), ranks=2, rows=2000))
        >>> config = me.recipe("robust", "planted", {"model.size": 4, "model.scaling": "multi"})
        >>> config.recipe, config.training.best_by, config.training.batch_size  # of few rows
        ('robust', 'log_loss', 128)

    Args:
        name: `robust` or `paper`.
        dataset: Whose rows the recipe may depend on.
        settings: In place of what the recipe says, by dotted name.

    Raises:
        ConfigError: If there is no such recipe, or a setting is unknown or out of range.
        DataError: If the dataset cannot be read.
    """
    opened = open_dataset(dataset)
    return configured(None, [], settings or {}, base=recipe_table(name, opened.schema))
