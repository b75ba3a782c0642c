"""What a user says of raw rows before any is encoded; `predict` reads as `prepare` was told."""

import codecs
import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, field_validator
from pydantic import Field as Limited

from multiembed.base.flags import Flag
from multiembed.data.encoding.canonical import canonical_text

_ESCAPED = re.compile(r"\\(t|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|0)")
"""How a command line writes characters that are hard to type."""


class ReadOptions(BaseModel):
    """How raw rows are written, and what their columns are.

    Names, types, defaults and the text below each are all that there is of an option: the command
    line is made from them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    label: str | None = None
    """Column of a table that says 0 or 1; the other formats know theirs."""
    weight: str | None = None
    """Column of a table that says what every row counts, in the loss and in every measure; rows of
    weight 0 are left out."""
    categorical_columns: Annotated[tuple[str, ...], Flag("--categorical", "COLUMN")] = ()
    """Columns of a table that are categories whatever they look like."""
    numeric_columns: Annotated[tuple[str, ...], Flag("--numeric", "COLUMN")] = ()
    """Columns of a table that are numbers whatever they look like."""
    dates: Annotated[dict[str, str], Flag("--date", "COLUMN[=FORMAT]", bare="iso")] = {}
    """Columns of a table that are moments, and become an hour and a weekday: iso (the default), s,
    ms, us or ns since 1970, or a format of strptime such as %y%m%d%H."""
    multivalued: Annotated[
        dict[str, Annotated[str, Limited(min_length=1)]], Flag("--multivalued", "COLUMN=TEXT")
    ] = {}
    """Columns of a table whose cells hold several values, and what stands between these, such as
    genres='|'; a model reads their mean or sum. Lists, as a type or as text, need no word."""
    sequences: Annotated[
        dict[str, Annotated[str, Limited(min_length=1)]], Flag("--sequence", "COLUMN=FIELD")
    ] = {}
    """Columns of a table that hold histories, such as the items that were clicked before, oldest
    first, and the field whose values they are, such as clicked=item. They share its table. Cells
    are lists, or text that --multivalued says the delimiter of."""
    missing: Annotated[tuple[str, ...], Flag("--missing", "TEXT")] = ()
    """Texts that stand for a missing value in every column, beside the empty one, NULL, \\N, NaN,
    None and N/A."""
    split_by: str | None = None
    """Column of times, or anything in an order: the first 80% of the rows train, the next 10%
    validate, the last 10% test. Rows of equal value stay together."""
    drop: Annotated[tuple[str, ...], Flag("--drop", "COLUMN")] = ()
    """Columns of a table that are left out: row numbers, what is known only after the click."""
    no_header: bool = False
    """Files of a table have no line with names; --columns names them all."""
    columns: Annotated[tuple[str, ...], Flag("--columns", "A,B,...")] = ()
    """The only columns of a table to learn from, beside those that other options name; of files
    without a header, the names of all columns in order."""
    encoding: str | None = None
    """Encoding of text that is not UTF-8 and does not say so: latin-1, gb18030, utf-16-le, ..."""
    separator: str | None = None
    r"""What stands between the values of a line, such as '\t', '\x01', ' ' or '::'. By default
    told by the first line: tab, comma, semicolon, bar or \x01."""
    quote: str | None = None
    """What encloses values of text that hold separators; none takes quotes as they are. The
    default is the double quote."""
    escape: str | None = None
    """What takes its meaning from a quote or separator behind it, such as '\\'. By default nothing
    does: a quote inside quotes is written twice."""
    comment: str | None = None
    """How lines begin that are no rows, such as '#'. By default all lines are rows."""

    max_download_bytes: Annotated[int | None, Limited(exclude=True, ge=1)] = None
    """Most bytes of a file that is downloaded; by default what the disk has free."""
    max_download_seconds: Annotated[float | None, Limited(exclude=True, gt=0)] = None
    """Most seconds that the download of a file takes; by default any number, but for 60 without a
    byte."""

    @field_validator("missing")
    @classmethod
    def _add_canonical(cls, missing: tuple[str, ...]) -> tuple[str, ...]:
        """Let -999 stand for -999.0 too."""
        return tuple(dict.fromkeys([*missing, *filter(None, map(canonical_text, missing))]))

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """Columns read that need be no field."""
        return tuple(name for name in (self.split_by, self.weight) if name is not None)

    @field_validator("columns", mode="before")
    @classmethod
    def _split_columns(cls, columns: object) -> object:
        if isinstance(columns, str):
            columns = (columns,)
        if not isinstance(columns, Sequence):
            return columns
        return tuple(name for one in columns for name in str(one).split(","))

    @field_validator("columns")
    @classmethod
    def _check_columns(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        if "" in columns or len(set(columns)) < len(columns):
            raise ValueError("different names, none of them empty")
        return columns

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, encoding: str | None) -> str | None:
        if not encoding:
            return None
        try:
            "\n".encode(encoding)  # also refuses what is no encoding of text, such as hex
            name = codecs.lookup(encoding).name
        except (LookupError, UnicodeError):
            raise ValueError("an encoding that Python knows, such as latin-1") from None
        return None if name in ("utf-8", "utf-8-sig") else name

    @field_validator("separator", "comment")
    @classmethod
    def _check_text(cls, text: str | None) -> str | None:
        text = None if text is None else _unescaped(text)
        if text is not None and (not text or "\n" in text or "\r" in text):
            raise ValueError("text without a line end")
        return text

    @field_validator("quote", "escape")
    @classmethod
    def _check_mark(cls, mark: str | None) -> str | None:
        mark = None if mark is None else _unescaped(mark)
        if mark not in (None, "none") and (len(mark.encode()) != 1 or mark in "\r\n"):
            raise ValueError("one ASCII character or none")
        return mark

    @field_validator("dates")
    @classmethod
    def _check_dates(cls, dates: dict[str, str]) -> dict[str, str]:
        from multiembed.data.encoding.moments import is_format  # and with it polars

        if not all(is_format(format) for format in dates.values()):
            raise ValueError("iso, s, ms, us, ns or a format of strptime")
        return dates


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda found: found[0].encode().decode("unicode_escape"), text)
