"""A configuration as a command is given it: a file, assignments and flags, in this order."""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from multiembed.base.errors import ConfigError
from multiembed.config import RunConfig, parse_config, read_config


def configured(
    file: Path | None,
    assignments: Iterable[str],
    flags: Mapping[str | tuple[str, ...], object],
) -> RunConfig:
    """Return the file's configuration (or the defaults) with assignments, then flags, applied.

    Args:
        file: A TOML configuration.
        assignments: `training.learning_rate=0.01`, `model.options.hidden=[200, 200]`, …; the
            value is TOML, or a bare word.
        flags: Dotted key, or its parts, to value; None leaves the key alone.

    Raises:
        ConfigError: If something is unknown, out of range or no assignment.
    """
    table = {} if file is None else read_config(file).model_dump(mode="json", exclude_unset=True)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set must be KEY=VALUE, got '{assignment}'")
        _assign(table, key.strip().split("."), _value(text.strip()))
    for key, value in flags.items():
        if value is not None:
            _assign(table, key.split(".") if isinstance(key, str) else key, value)
    return parse_config(table, source="configuration" if file is None else str(file))


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
