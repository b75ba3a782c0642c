"""Everybody who is compared with our models, by name; a new one enters here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from pydantic import JsonValue

from multiembed.base.registry import Registry
from multiembed.experiments.compare.contender_columns import Columns

_HERE = "multiembed.experiments.compare"


class Task(NamedTuple):
    """What a contender gets: the same arrays as all others."""

    columns: Columns
    seed: int
    """Of all that it draws."""
    threads: int
    advance: Callable[[int, int, str], None]
    """Told of rounds done, of how many at most, and how good the last one was."""


class Fitted(NamedTuple):
    """What a contender gives back."""

    valid: Float[np.ndarray, " valid_rows"]
    """Probabilities of the validation rows."""
    test: Float[np.ndarray, " test_rows"]
    """Probabilities of the test rows, by which it is judged."""
    chosen: Mapping[str, JsonValue]
    """What validation chose: rounds, a penalty, …"""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to predict clicks."""

    title: str
    """What tables call it."""
    fit: Callable[[Task], Fitted]
    """Fits training rows, stops or chooses by validation rows, scores both other splits."""
    settings: Mapping[str, JsonValue] = field(default_factory=dict)
    """What it is told beforehand, for whoever wants to know; a change makes it be fitted anew."""
    packages: tuple[str, ...] = ()
    """Packages that must be installed, as they are imported."""
    seeded: bool = False
    """Whether another seed gives another model; otherwise one stands for all seeds."""
    is_tree: bool = False


CONTENDERS: Registry[Contender] = Registry(
    "contender",
    {
        "base_rate": f"{_HERE}.linear:BASE_RATE",
        "logistic_regression": f"{_HERE}.linear:LOGISTIC_REGRESSION",
        "lightgbm": f"{_HERE}.trees:LIGHTGBM",
        "catboost": f"{_HERE}.trees:CATBOOST",
    },
)
"""In the order in which they are fitted; our recipes come after them."""
