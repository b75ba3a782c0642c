"""What scored rows can be written as, by what the file's name ends in; loaded when asked for."""

from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from multiembed.base.errors import ConfigError
from multiembed.base.files import local_path
from multiembed.base.registry import Registry

if TYPE_CHECKING:
    from multiembed.serving.rows_out import RowWriter
else:
    RowWriter = Any  # polars loads with the first of them

OUTPUTS: Registry[Callable[[IO[bytes]], RowWriter]] = Registry(
    "output format",
    {
        ".csv": "multiembed.serving.rows_out:CommaText",
        ".tsv": "multiembed.serving.rows_out:TabText",
        ".parquet": "multiembed.serving.rows_out:ParquetFile",
        ".arrow": "multiembed.serving.rows_out:ArrowFile",
        ".jsonl": "multiembed.serving.rows_out:JsonLines",
    },
)
"""What the name of a file ends in, and what writes such a file."""


def check_out(out: Path) -> None:
    """Refuse a file whose format its name does not say.

    Raises:
        ConfigError: If the name ends in none of the known ways, or is a URL.
    """
    local_path(out)
    if out.suffix not in OUTPUTS:
        raise ConfigError(f"{out} must end in one of {', '.join(OUTPUTS)}, got '{out.suffix}'")
