"""Flags of the command line made from a model of options: name, type, default and text stand there.

A mapping is a flag that can be given again, `KEY=VALUE`; a tuple one that can be given again.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from multiembed.base.errors import ConfigError
from multiembed.base.flags import Flag

MOST_DIGITS = 100
"""Python reads no number of thousands; every limit is far below."""


def takes_options(
    kind: type[BaseModel], *names: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command a flag for every option of `kind`, or for those that are named.

    Those given reach it as `options`.
    """
    fields = {name: kind.model_fields[name] for name in names} or kind.model_fields

    def with_flags(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(command).parameters.values() if p.name != "options"]
        flags = [_parameter(name, field) for name, field in fields.items()]

        @wraps(command)
        def run(**arguments: object) -> None:  # typer calls with names
            given = {flag.name: arguments.pop(flag.name) for flag in flags}
            options = {
                name: _value(fields[name], name, value)
                for name, value in given.items()
                if value not in (None, [])
            }
            command(**arguments, options=options)

        run.__signature__ = inspect.Signature([*own, *flags])  # pyright: ignore
        return run

    return with_flags


def _flag(name: str, field: FieldInfo) -> Flag:
    return next(
        (about for about in field.metadata if isinstance(about, Flag)),
        Flag("--" + name.replace("_", "-")),
    )


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    flag = _flag(name, field)
    kind, text = _plain(field.annotation), " ".join((field.description or "").split())
    repeated = get_origin(kind) in (dict, tuple)
    if not (repeated or kind is bool or field.default is None or "default" in text):
        text += f" Default: {field.default}."
    option = typer.Option(
        flag.name,
        metavar=flag.metavar,
        help=text + (" Repeatable." if repeated else ""),
        show_default=False,
    )
    annotation = Annotated[(list[str] if repeated else kind) | None, option]  # pyright: ignore
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _plain(annotation: object) -> Any:  # noqa: ANN401
    """Return a type without its bounds and without None."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
    is_optional = len(kinds) == len(get_args(annotation)) - 1
    return _plain(kinds[0]) if is_optional else annotation


def _value(field: FieldInfo, name: str, given: object) -> object:
    if not isinstance(given, list):
        return given
    if get_origin(field.annotation) is tuple:
        return tuple(given)
    of_numbers = int in (value := get_args(field.annotation)[1], *get_args(value))
    return _pairs(_flag(name, field), given, of_numbers=of_numbers)


def _pairs(flag: Flag, given: list[str], *, of_numbers: bool) -> Mapping[str, str | int]:
    pairs = {}
    for one in given:
        # A column's name may hold the sign; a number may not.
        key, _, value = one.rpartition("=") if of_numbers else one.partition("=")
        value = value or flag.bare or ""
        fits = not of_numbers or (value.isdecimal() and len(value) <= MOST_DIGITS)
        if not key or not value or not fits:
            subject = flag.name.removeprefix("--").replace("-", "_")
            raise ConfigError(f"{subject} must be {flag.metavar}, got {one!r}")
        pairs[key] = int(value) if of_numbers else value
    return pairs
