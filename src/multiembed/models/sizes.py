"""Budgets of every architecture at every size, without building any of them in memory."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

import torch

from multiembed.models.budget import Budget
from multiembed.models.click_model import ClickModel
from multiembed.models.interactions.architectures import ARCHITECTURES
from multiembed.models.naming import Scaling, shape_of_size

PAPER_SIZES = (1, 2, 3, 4, 10)


@dataclass(frozen=True)
class SizedModel:
    """One model by name and size, and what it costs."""

    architecture: str
    size: int
    """Multiple of the paper's base."""
    scaling: Scaling
    dim: int
    sets: int
    budget: Budget


def sized_models(
    cardinalities: Sequence[int],
    *,
    architectures: Iterable[str] = tuple(ARCHITECTURES),
    sizes: Iterable[int] = PAPER_SIZES,
    scalings: Iterable[Scaling] = get_args(Scaling),
) -> list[SizedModel]:
    """Return the budget of each architecture, size and scaling on fields of these cardinalities.

    The base, which is the same for every scaling, comes once. Hyperparameters are the paper's.

    Raises:
        ConfigError: If an architecture or a size is unknown or impossible.
    """
    rows = {}
    for architecture in architectures:
        for size in sizes:
            for scaling in scalings:
                dim, sets = shape_of_size(architecture, size, scaling)
                if (architecture, dim, sets) in rows:
                    continue
                with torch.device("meta"):
                    model = ClickModel(architecture, cardinalities, dim=dim, sets=sets)
                rows[architecture, dim, sets] = SizedModel(
                    architecture, size, scaling, dim, sets, model.summary()
                )
    return list(rows.values())
