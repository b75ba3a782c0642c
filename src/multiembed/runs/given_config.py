"""A configuration as a command is given it: a file, assignments and flags, in this order."""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from multiembed.base.errors import ConfigError
from multiembed.config import RunConfig, parse_config, read_config
from multiembed.models.naming import named_mix


def configured(
    file: Path | None,
    assignments: Iterable[str],
    flags: Mapping[str, object] | Mapping[str | tuple[str, ...], object],
    *,
    base: Mapping[str, Any] | None = None,
) -> RunConfig:
    """Return the file's configuration (or the base) with assignments, then flags, applied.

    Args:
        file: A TOML configuration; what it leaves open is as in the base.
        assignments: `training.learning_rate=0.01`, `model.options.hidden=[200, 200]`, …; the
            value is TOML, or a bare word.
        flags: Dotted key, or its parts, to value; None leaves the key alone.
        base: A recipe's configuration; the defaults if None.

    Raises:
        ConfigError: If something is unknown, out of range or no assignment.
    """
    own = {} if file is None else read_config(file).model_dump(mode="json", exclude_unset=True)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set must be KEY=VALUE, got '{assignment}'")
        _assign(own, key.strip().split("."), _value(text.strip()))
    if "recipe" in own and file is None:
        raise ConfigError("--set recipe must be left out, got one: --recipe says it")
    for key, value in flags.items():
        if value is not None:
            _assign(own, key.split(".") if isinstance(key, str) else key, value)
    return laid_over(base, own, source="configuration" if file is None else str(file))


def laid_over(base: Mapping[str, Any] | None, own: Mapping[str, Any], *, source: str) -> RunConfig:
    """Return what `own` says, and a recipe (the defaults if None) where it says nothing.

    Args:
        base: The recipe's configuration; options that the architecture has not are left out.
        own: The content of a configuration.
        source: What messages call it.

    Raises:
        ConfigError: If something is unknown or out of range.
    """
    config = parse_config(own, source=source)
    if base is None:
        return config
    return parse_config(merged(_fitting(base, config.model.architecture), own), source=source)


def _fitting(base: Mapping[str, Any], architecture: str) -> Mapping[str, Any]:
    """Return a recipe without the options that an architecture has not."""
    options = base.get("model", {}).get("options", {})
    known = {name for one, _ in named_mix(architecture) for name in type(one).model_fields}
    fitting = {name: value for name, value in options.items() if name in known}
    return {**base, "model": {**base.get("model", {}), "options": fitting}}


def merged(table: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `table` with `changes` in place of its values, section by section."""
    result = dict(table)
    for key, value in changes.items():
        inner = result.get(key)
        if isinstance(inner, Mapping) and isinstance(value, Mapping):
            result[key] = merged(inner, value)
        else:
            result[key] = value
    return result


def _value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # of too many digits, or brackets
        return text


def _assign(table: dict[str, object], key: Sequence[str], value: object) -> None:
    *sections, last = key
    for section in sections:
        inner = table.setdefault(section, {})
        if not isinstance(inner, dict):
            name = ".".join(key)
            raise ConfigError(
                f"--set {name} must name a section, got '{section}', which is a value"
            )
        table = inner
    table[last] = value
