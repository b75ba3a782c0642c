"""The formats of raw rows: all that preparing and scoring know of each, by name.

A format is a `RawFormat` and a line in `FORMATS`. Those of click logs with fixed columns are here;
`criteo_x4` and the like are published splits as the benchmark BARS prepares them, a directory with
`train.csv`, `valid.csv` and `test.csv`, whose label, fields and minimum counts are those of the
benchmark's own configurations (Zhu et al., BARS-CTR, CIKM 2021).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from typing_extensions import override

from multiembed.base.errors import DataError
from multiembed.base.number_kinds import NumericRuleName
from multiembed.data.sources.fetching import UNLIMITED, DownloadLimits
from multiembed.data.sources.file_series import open_files
from multiembed.data.sources.found_files import RawSource
from multiembed.data.sources.header import read_header
from multiembed.data.sources.raw_formats import FORMATS
from multiembed.data.sources.read_options import ReadOptions
from multiembed.data.sources.records import Dialect, read_records
from multiembed.data.sources.source import Column, FileReader, RowReader
from multiembed.data.sources.text import TextReader
from multiembed.data.store.schema import SPLITS, DateRule, Schema

CRITEO_NUMBERS = tuple(f"I{number}" for number in range(1, 14))
CRITEO_CATEGORIES = tuple(f"C{number}" for number in range(1, 27))
AVAZU_NAMES = (
    *("id", "click", "hour", "C1", "banner_pos", "site_id", "site_domain", "site_category"),
    *("app_id", "app_domain", "app_category", "device_id", "device_ip", "device_model"),
    *("device_type", "device_conn_type", *(f"C{number}" for number in range(14, 22))),
)
TABS = Dialect("\t", quote="")


class Choice(NamedTuple):
    """What of some rows is to be learned from what."""

    label: str
    columns: tuple[Column, ...]
    """The fields, in order."""


class RawFormat(ABC):
    """One format of raw rows. What is not said of it is as for tables."""

    min_count: int = 2
    """Values counted less often become *other*, unless the user says otherwise."""
    numeric_rule: NumericRuleName = "log"
    """How numbers become categories: as in the paper."""
    table_options: bool = False
    """Whether the user says which columns there are."""
    embedded: bool = False
    """Whether its rows lie in an installed package, so that its own name is the source."""

    def open_all(self, source: RawSource, downloads: Path, options: ReadOptions) -> RowReader:
        """Open what is to be prepared.

        Args:
            source: What the user gives.
            options: How it is written.
            downloads: Directory for what comes from URLs.

        Raises:
            DataError: If it cannot be read, or is of another format.
        """
        return open_files(
            source,
            downloads,
            lambda file: self.open_file(file, options),
            limits=download_limits(options),
            wanted=_named_by(options),
            extra=options.extra_columns,
            chosen=() if options.no_header else options.columns,
            dropped=options.drop,
        )

    def open_file(self, file: Path, options: ReadOptions) -> FileReader:
        """Open one of the files that are to be prepared."""
        return FORMATS["table"].open_file(file, options)

    def open_to_score(self, file: Path, schema: Schema) -> FileReader:
        """Open a file of rows to score, where the label may be absent."""
        return FORMATS["table"].open_file(file, read_options(schema))

    @abstractmethod
    def choose(self, reader: RowReader, options: ReadOptions) -> Choice:
        """Say which column is the label and which are fields.

        Raises:
            ConfigError: If the user's words are not enough.
            DataError: If the columns are not those of the format.
        """


def read_options(schema: Schema) -> ReadOptions:
    """Return how the rows of a dataset were read, which is how more of them are written."""
    known = {
        name: schema.options[name] for name in ReadOptions.model_fields if name in schema.options
    }
    return ReadOptions.model_validate(known)


def is_embedded(source: object) -> bool:
    """Say whether a source is the name of a format whose rows are installed."""
    return str(source) in FORMATS and FORMATS[str(source)].embedded


def download_limits(options: ReadOptions) -> DownloadLimits:
    """Return what options say of downloads."""
    return DownloadLimits(options.max_download_bytes, options.max_download_seconds)


def open_to_score(
    raw: Path | str, schema: Schema, downloads: Path, limits: DownloadLimits = UNLIMITED
) -> RowReader:
    """Open raw rows of the kind that a run was trained on; their label may be absent.

    Args:
        raw: A file, a directory, a pattern, a URL or the name of an embedded format.
        schema: Of the run.
        downloads: Directory for what comes from a URL.
        limits: How large a download may be, and how long it may take.

    Raises:
        DataError: If there is no such file, or it lacks a field.
    """
    if is_embedded(raw):
        reader = FORMATS[str(raw)].open_all(str(raw), downloads, read_options(schema))
    else:
        name = schema.options.get("format")
        format = FORMATS[str(name) if name in FORMATS else "table"]
        # What was dropped is no field, and is passed on.
        reader = open_files(
            str(raw),
            downloads,
            lambda file: format.open_to_score(file, schema),
            limits=limits,
            wanted={field.column for field in schema.fields} | {schema.label},
        )
    names = set(reader.names)
    for field in schema.fields:
        if field.column not in names:
            known = ", ".join(reader.names[:20])
            raise DataError(f"{raw} must have a column {field.column!r}, got {known}")
    return reader


def _named_by(options: ReadOptions) -> set[str]:
    """Return the columns that options name, and other texts of theirs."""
    named: set[str] = set()
    for option, value in options:
        if option not in ("drop", "columns", "keep", "split_by", "split_by_group"):
            named |= {value} if isinstance(value, str) else set()
            named |= set(value) if isinstance(value, tuple | dict) else set()
    return named


class CriteoFormat(RawFormat):
    """Criteo's logs: TAB, 40 columns, no header."""

    min_count = 10

    @override
    def open_file(self, file: Path, options: ReadOptions) -> FileReader:
        names = ("label", *CRITEO_NUMBERS, *CRITEO_CATEGORIES)
        return TextReader(file, TABS, names, header=False)

    @override
    def open_to_score(self, file: Path, schema: Schema) -> FileReader:
        # No header names the columns: they are the fields, after the label if there is one more.
        first = next(read_records(file, TABS), None)
        labelled = first is None or len(schema.fields) != first.columns[0]
        names = (schema.label, *schema.field_names) if labelled else schema.field_names
        return TextReader(file, TABS, names, header=False)

    @override
    def choose(self, reader: RowReader, options: ReadOptions) -> Choice:
        return Choice("label", (*_numbers(*CRITEO_NUMBERS), *_categories(*CRITEO_CATEGORIES)))


class AvazuFormat(RawFormat):
    """Avazu's logs: CSV with the header that it comes with."""

    min_count = 4

    @override
    def open_file(self, file: Path, options: ReadOptions) -> FileReader:
        dialect = Dialect(",")
        names, _ = read_header(file, dialect)
        if names != AVAZU_NAMES:
            expected, got = ",".join(AVAZU_NAMES[:3]), ",".join(names[:3])
            raise DataError(f"{file} line 1: expected the header {expected},..., got {got},...")
        return TextReader(file, dialect, names, header=True)

    @override
    def choose(self, reader: RowReader, options: ReadOptions) -> Choice:
        return Choice("click", _categories(*AVAZU_NAMES[2:]))


class PublishedFormat(RawFormat):
    """A published split: a directory with a file for each part."""

    def __init__(self, title: str, min_count: int, choice: Choice) -> None:
        self.title = title
        self.min_count = min_count
        self.choice = choice

    @override
    def open_all(self, source: RawSource, downloads: Path, options: ReadOptions) -> RowReader:
        if not isinstance(source, Mapping):
            folder = str(source) if isinstance(source, str | Path) else ""
            if not folder:
                raise DataError(f"{self.title} must be one directory, got several paths")
            source = {name: f"{folder.rstrip('/')}/{name}.csv" for name in SPLITS}
        return super().open_all(source, downloads, options)

    @override
    def choose(self, reader: RowReader, options: ReadOptions) -> Choice:
        for name in (self.choice.label, *(column.raw for column in self.choice.columns)):
            if name not in reader.names:
                raise DataError(
                    f"{reader.files[0]} must have the columns of {self.title}, got no {name!r}"
                )
        return self.choice


def _numbers(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, "numeric") for name in names)


def _categories(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, "categorical") for name in names)


CRITEO = CriteoFormat()
AVAZU = AvazuFormat()
# DIFFERS: BARS buckets Criteo's numbers as floor(ln(v)^2) above 2 and keeps others, so that 1
# and 3 are one value; the paper's rule, ours, takes 2 off the others, which keeps them apart.
CRITEO_X4 = PublishedFormat(
    "Criteo_x4",
    10,
    Choice("Label", (*_numbers(*CRITEO_NUMBERS), *_categories(*CRITEO_CATEGORIES))),
)
_HOUR, *_DAYS = (
    Column(part, "categorical", DateRule(column="hour", part=part, format="%y%m%d%H"))
    for part in ("hour", "weekday", "weekend")
)
AVAZU_X4 = PublishedFormat(
    "Avazu_x4", 2, Choice("click", (_HOUR, *_categories(*AVAZU_NAMES[3:]), *_DAYS))
)
FRAPPE_X1 = PublishedFormat(
    "Frappe_x1",
    1,
    Choice(
        "label",
        _categories(
            *("user", "item", "daytime", "weekday", "isweekend", "homework", "cost", "weather"),
            *("country", "city"),
        ),
    ),
)
MOVIELENS_X1 = PublishedFormat(
    "MovielensLatest_x1", 1, Choice("label", _categories("user_id", "item_id", "tag_id"))
)
