"""How an option of a model of options is written on the command line, where its name is not it."""

from typing import NamedTuple


class Flag(NamedTuple):
    """Metadata of an option: `Annotated[dict[str, int], Flag("--date", "COLUMN=FORMAT")]`."""

    name: str
    metavar: str | None = None
    """What is written after it; for a mapping `KEY=VALUE`."""
    bare: str | None = None
    """For a mapping: the value where the key stands alone."""
