"""Ids that a model may be given: of as many fields as it has, each below its cardinality."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from multiembed.base.errors import ConfigError, DataError


def check_ids(ids: Int[Tensor, "batch fields"], limits: Int[Tensor, " limits"]) -> None:
    """Refuse ids outside their field; `limits` are the cardinalities.

    Raises:
        DataError: Naming field, id and cardinality.
    """
    if ids.shape[1] != len(limits):
        raise DataError(f"ids must have {len(limits)} fields, got {ids.shape[1]}")
    if torch.compiler.is_exporting():
        return
    outside = (ids < 0) | (ids >= limits)
    if bool(outside.any()):
        row, field = (int(at) for at in outside.nonzero()[0])
        raise DataError(
            f"id of field {field} must be below its cardinality "
            f"{int(limits[field])}, got {int(ids[row, field])} in row {row}"
        )


def check_shape(cardinalities: Sequence[int], dim: int, sets: int) -> None:
    """Refuse sizes that no tables can have.

    Raises:
        ConfigError: Naming the first that is below 1.
    """
    if len(cardinalities) == 0:
        raise ConfigError("cardinalities must name at least one field, got none")
    for field, size in enumerate(cardinalities):
        if size < 1:
            raise ConfigError(f"cardinality of field {field} must be at least 1, got {size}")
    if dim < 1:
        raise ConfigError(f"dim must be at least 1, got {dim}")
    if sets < 1:
        raise ConfigError(f"sets must be at least 1, got {sets}")


def known_numbers(numbers: Sequence[int]) -> Int[Tensor, " numbers"]:
    """Return numbers that no checkpoint holds: a model built without memory has them, too."""
    device = "cpu" if torch.get_default_device().type == "meta" else None
    return torch.tensor(numbers, dtype=torch.int64, device=device)
