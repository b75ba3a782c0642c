"""Architectures by name and options, sizes by the paper's words."""

import difflib
from collections.abc import Mapping
from typing import Literal

from pydantic import ValidationError

from multiembed.errors import ConfigError
from multiembed.models.interactions import ARCHITECTURES, Architecture
from multiembed.validation import first_problem

Scaling = Literal["single", "multi"]


def named_architecture(name: str, options: Mapping[str, object] | None = None) -> Architecture:
    """Return the architecture called `name` with `options` in place of the paper's values.

    Raises:
        ConfigError: If the name, an option or a value is unknown; a near word is suggested.
    """
    if name not in ARCHITECTURES:
        near = difflib.get_close_matches(name, ARCHITECTURES, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ConfigError(
            f"architecture must be one of {', '.join(ARCHITECTURES)}, got '{name}'{hint}"
        )
    kind = ARCHITECTURES[name]
    try:
        return kind(**dict(options or {}))
    except ValidationError as error:
        raise ConfigError(first_problem(error, kind.model_fields, at=f"{name} option ")) from None


def shape_of_size(
    architecture: str, size: int, scaling: Scaling, *, base_dim: int | None = None
) -> tuple[int, int]:
    """Return (dim, sets) of a model `size` times the base: wider, or more sets of base width.

    The base is the paper's: 10, and 50 for NFwFM (section 5.2).
    """
    if size < 1:
        raise ConfigError(f"size must be at least 1, got {size}")
    base = base_dim or type(named_architecture(architecture)).base_dim
    return (base * size, 1) if scaling == "single" else (base, size)
