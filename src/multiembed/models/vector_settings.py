"""How a field's pretrained vectors are used: settings, and their text on the command line."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from multiembed.base.bounds import Whole
from multiembed.base.errors import ConfigError

_OPTION = re.compile(r",(trained|sets=[0-9]{1,9}(?:\+[0-9]{1,9})*|values=[^,]+)$")
_NO_RECORD: dict[str, Any] = {"place": None, "width": None, "found": None, "sha256": None}
"""What training fills in."""


class Pretrained(BaseModel):
    """Where the vectors of one field's values come from, and what is done with them.

    Raises:
        ValidationError: Of pydantic, if a setting is unknown or out of range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    """Parquet, .npz, .npy or word2vec's text; a path alone stands for a table with it."""
    values: str | None = None
    """For .npy: the file of the values, in the order of its rows."""
    trained: bool = False
    """Whether the vectors themselves are trained, beside their projection."""
    sets: tuple[int, ...] | None = None
    """Embedding sets that get them, from 0; all if not given."""
    place: int | None = Field(default=None, ge=0)
    """Filled in when training starts: the field's number,"""
    width: Whole | None = None
    """numbers of a vector,"""
    found: Whole | None = None
    """how many of the field's values have one,"""
    sha256: str | None = None
    """and of the file; given before, the file must have it."""

    @model_validator(mode="before")
    @classmethod
    def _file_alone(cls, given: Any) -> Any:  # noqa: ANN401
        return {"file": str(given)} if isinstance(given, str | Path) else given

    def used(self, sets: int) -> tuple[int, ...]:
        """Return the sets that get the vectors, of a model with so many."""
        return tuple(range(sets)) if self.sets is None else self.sets

    def resolved(self, field: str, sets: int) -> "Pretrained":
        """Return the same with absolute paths.

        Raises:
            ConfigError: If the model has no such sets.
        """
        used = self.used(sets)
        if not used or len(set(used)) < len(used) or not 0 <= min(used) <= max(used) < sets:
            raise ConfigError(
                f"model.pretrained.{field}.sets must be different ones of the {sets} sets, counted "
                f"from 0, got {list(used)}"
            )
        paths = {"file": self.file, "values": self.values}
        absolute = {key: path and str(Path(path).absolute()) for key, path in paths.items()}
        return self.model_copy(update=absolute)

    def described(self) -> str:
        """Say what training made of it."""
        kind = "trained" if self.trained else "frozen"
        sets = "all sets" if self.sets is None else _several(self.sets)
        return f"{self.found:,} values have a {kind} vector of {self.width:,} numbers, in {sets}"

    def asks_as(self, other: "Pretrained") -> bool:
        """Say whether two are the same but for what training filled in."""
        return self.model_copy(update=_NO_RECORD) == other.model_copy(update=_NO_RECORD)


def _several(used: Sequence[int]) -> str:
    return "set " + str(used[0]) if len(used) == 1 else "sets " + ", ".join(map(str, used))


def parse_pretrained(text: str) -> tuple[str, dict[str, object]]:
    """Read `FIELD=FILE`, with `,sets=0+2`, `,trained` or `,values=FILE` behind it; or any of them.

    Raises:
        ConfigError: If it is anything else.
    """
    field, _, file = text.partition("=")
    settings: dict[str, object] = {}
    while option := _OPTION.search(file):
        key, _, value = option[1].partition("=")
        numbers = [int(number) for number in value.split("+")] if key == "sets" else value
        settings[key] = True if key == "trained" else numbers
        file = file[: option.start()]
    if not field or not file:
        raise ConfigError(f"pretrained must be FIELD=FILE[,sets=0+1][,trained], got {text!r}")
    return field, {"file": file, **settings}
