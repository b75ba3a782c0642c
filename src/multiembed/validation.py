"""One plain sentence for the first thing that is wrong in a configuration."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from multiembed.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


def checked(kind: type[Model], values: Mapping[str, object], *, at: str = "") -> Model:
    """Build `kind` from `values`.

    Raises:
        ConfigError: If a key is unknown or a value breaks a rule; `at` goes before the key.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(first_problem(error, kind.model_fields, at=at)) from None


def first_problem(error: ValidationError, known: Iterable[str], *, at: str = "") -> str:
    """Say the first problem of `error` as *subject must rule, got value*.

    Args:
        error: What pydantic found.
        known: The keys there are, to suggest one for an unknown key.
        at: Words before the key's name.
    """
    problem = error.errors(include_url=False)[0]
    # The location of a problem inside a union ends in the names of its branches.
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        key = str(problem["loc"][-1])
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known)}"
        return f"{at}'{place}' is unknown; {hint}"
    rule = problem["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return f"{at}{place} must be {rule}, got {problem['input']!r}"
