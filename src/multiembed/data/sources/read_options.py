"""What a user says of raw rows before any is encoded; `predict` reads as `prepare` was told."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, field_validator
from pydantic import Field as Limited

from multiembed.base.flags import Flag
from multiembed.data.encoding.values import is_format


class ReadOptions(BaseModel):
    """How raw rows are written, and what their columns are.

    Names, types, defaults and the text below each are all that there is of an option: the command
    line is made from them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    label: str | None = None
    """Column of a table that says 0 or 1; the other formats know theirs."""
    categorical_columns: Annotated[tuple[str, ...], Flag("--categorical", "COLUMN")] = ()
    """Columns of a table that are categories whatever they look like."""
    numeric_columns: Annotated[tuple[str, ...], Flag("--numeric", "COLUMN")] = ()
    """Columns of a table that are numbers whatever they look like."""
    dates: Annotated[dict[str, str], Flag("--date", "COLUMN[=FORMAT]", bare="iso")] = {}
    """Columns of a table that are moments, and become an hour and a weekday: iso (the default), s
    or ms since 1970, or a format of strptime such as %y%m%d%H."""
    multivalued: Annotated[
        dict[str, Annotated[str, Limited(min_length=1)]], Flag("--multivalued", "COLUMN=TEXT")
    ] = {}
    """Columns of a table whose cells hold several values, and what stands between these, such as
    genres='|'; a model reads their mean or sum."""
    split_by: str | None = None
    """Column of times, or anything in an order: the first 80% of the rows train, the next 10%
    validate, the last 10% test. Rows of equal value stay together."""

    @field_validator("dates")
    @classmethod
    def _check_dates(cls, dates: dict[str, str]) -> dict[str, str]:
        if not all(is_format(format) for format in dates.values()):
            raise ValueError("iso, s, ms or a format of strptime")
        return dates
