"""One plain sentence for the first thing that is wrong in a configuration."""

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from multiembed.base.errors import ConfigError
from multiembed.base.files import read_small

Model = TypeVar("Model", bound=BaseModel)

_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("above", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("below", "lt"),
}
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "dict": "a table",
    "model": "a table",
    "path": "a path",
}
_LONGEST = 200
"""Characters of a value in a message."""
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


def read_toml(path: Path) -> dict[str, Any]:
    """Read a file of TOML.

    Raises:
        ConfigError: If it is missing or no TOML.
    """
    try:
        return tomllib.loads(read_small(path).decode())
    except OSError as error:
        raise ConfigError(f"{path} must be a readable file, got: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # of too many digits, or brackets
        raise ConfigError(f"{path} must be TOML, got: {error}") from None


def checked(kind: type[Model], values: Mapping[str, object], *, at: str = "") -> Model:
    """Build `kind` from `values`.

    Args:
        kind: A pydantic model.
        values: Its settings by name, as they were written.
        at: Goes before the key in the message: `run.toml: `.

    Raises:
        ConfigError: If a key is unknown or a value breaks a rule; the first of them alone.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(at + _first_problem(error, kind, values)) from None


def known_name(name: str, known: Iterable[str], *, subject: str) -> str:
    """Return `name` if it is one of `known`.

    Raises:
        ConfigError: If it is not; a near word is suggested.
    """
    names = list(known)
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise ConfigError(f"{subject} must be one of {', '.join(names)}, got '{name}'{hint}")


def _first_problem(
    error: ValidationError, kind: type[BaseModel], values: Mapping[str, object]
) -> str:
    """Say the first problem of `error` as *subject must rule, got value*."""
    # A value that fits no branch of a union is one problem with a rule for every branch.
    problems = [
        (_place(problem["loc"], values), problem) for problem in error.errors(include_url=False)
    ]
    place, first = problems[0]
    if first["type"] in _UNKNOWN:
        known = list(_section(kind, place[:-1]).model_fields)
        near = difflib.get_close_matches(str(place[-1]), known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known)}"
        return f"'{_dotted(place)}' is unknown; {hint}"
    if first["type"] == "missing":
        return f"{_dotted(first['loc'])} must be given, got nothing"
    rules = dict.fromkeys(
        _rule(problem["type"], problem.get("ctx", {}), problem["msg"])
        for elsewhere, problem in problems
        if elsewhere == place
    )
    return f"{_dotted(place)} must be {' or '.join(rules)}, got {_printed(first['input'])}"


def _printed(value: object) -> str:
    """Write a value as Python does, but for what is too long to read."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # of too many digits, or brackets
        return "one that is too long to print"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _rule(kind: str, context: Mapping[str, object], message: str) -> str:
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        bound = context[key]
        return f"{words} {bound if isinstance(bound, int) else f'{bound:g}'}"
    if kind == "too_short":
        return f"a list of at least {context['min_length']}"
    if kind == "literal_error":
        return str(context["expected"])
    return _KINDS.get(kind.split("_")[0], message.removeprefix("Value error, "))


def _place(location: Sequence[int | str], values: object) -> tuple[int | str, ...]:
    """Leave out of a location the names of a union's branches, which no input has."""
    place: list[int | str] = []
    for part in location:
        inside = _inside(values)
        if part in inside:
            values = inside[part]
            place.append(part)
    return tuple(place)


def _inside(values: object) -> Mapping[object, object]:
    if isinstance(values, list | tuple):
        return dict(enumerate(values))
    return values if isinstance(values, Mapping) else {}


def _section(kind: type[BaseModel], place: Sequence[int | str]) -> type[BaseModel]:
    """Return the type of the table at `place`."""
    for part in place:
        if str(part) in kind.model_fields:  # else a key of a table of tables
            kind = _model_in(kind.model_fields[str(part)].annotation) or kind
    return kind


def _model_in(annotation: object) -> type[BaseModel] | None:
    """Return the model that a type is, or is a table of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


def _dotted(place: Sequence[int | str]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".")
