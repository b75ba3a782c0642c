"""The formats by name, and the fields that each of them gives."""

from pathlib import Path

from multiembed.data.flights import Flights
from multiembed.data.options import PrepareOptions
from multiembed.data.records import Dialect
from multiembed.data.schema import Field, NumericRule
from multiembed.data.sources import Block, Column, Source
from multiembed.data.tables import ParquetSource, tell_columns
from multiembed.data.text import TextSource, check_names, read_header
from multiembed.errors import ConfigError, DataError

CRITEO_NUMBERS = tuple(f"I{number}" for number in range(1, 14))
CRITEO_CATEGORIES = tuple(f"C{number}" for number in range(1, 27))
AVAZU_NAMES = (
    *("id", "click", "hour", "C1", "banner_pos", "site_id", "site_domain", "site_category"),
    *("app_id", "app_domain", "app_category", "device_id", "device_ip", "device_model"),
    *("device_type", "device_conn_type", *(f"C{number}" for number in range(14, 22))),
)


def open_source(source: Path | str, options: PrepareOptions) -> Source:
    """Open raw rows of the format that the options name.

    Raises:
        DataError: If there is no such file, or its columns are not the format's.
    """
    if options.format != "table":
        _refuse_table_options(options)
    if options.format == "flights":
        if str(source) != "flights":
            raise DataError(f"source must be the word flights for format flights, got {source}")
        return Flights()
    file = Path(source)
    if not file.is_file():
        found = "a directory" if file.is_dir() else "nothing there"
        raise DataError(f"{file} must be a file, got {found}")
    openers = {"criteo": _criteo, "avazu": _avazu, "table": _table}
    return openers[options.format](file, options)


def plain_fields(source: Source, options: PrepareOptions) -> list[Field]:
    """Return the fields of a source as they are before anything is counted."""
    rule = NumericRule(rule=options.numeric_rule)
    return [
        Field(
            name=column.name,
            kind=column.kind,
            cardinality=1,
            min_count=options.threshold,
            numeric=rule if column.kind == "numeric" else None,
        )
        for column in source.columns
    ]


def _refuse_table_options(options: PrepareOptions) -> None:
    for name in ("label", "categorical_columns", "numeric_columns"):
        if getattr(options, name):
            raise ConfigError(
                f"{name} must be left out unless format is table, got {options.format}"
            )


def _criteo(file: Path, options: PrepareOptions) -> Source:
    names = ("label", *CRITEO_NUMBERS, *CRITEO_CATEGORIES)
    source = TextSource(file, Dialect("\t", quoted=False), names, header=False)
    numbers = [Column(name, "numeric") for name in CRITEO_NUMBERS]
    source.choose("label", [*numbers, *(Column(name, "categorical") for name in CRITEO_CATEGORIES)])
    return source


def _avazu(file: Path, options: PrepareOptions) -> Source:
    dialect, names = read_header(file, ",")
    if names != AVAZU_NAMES:
        expected, got = ",".join(AVAZU_NAMES[:3]), ",".join(names[:3])
        raise DataError(f"{file} line 1: expected the header {expected},..., got {got},...")
    source = TextSource(file, dialect, names, header=True)
    source.choose("click", [Column(name, "categorical") for name in AVAZU_NAMES[2:]])
    return source


def _table(file: Path, options: PrepareOptions) -> Source:
    if options.label is None:
        raise ConfigError(f"label must name a column of {file}, got none")
    source: TextSource | ParquetSource
    if file.suffix == ".parquet":
        source = ParquetSource(file)
    else:
        separator = "\t" if file.suffix in (".tsv", ".tab") else None
        dialect, names = read_header(file, separator)
        check_names(file, names)
        source = TextSource(file, dialect, names, header=True)
    if options.label not in source.names:
        raise DataError(
            f"label must be a column of {file} ({', '.join(source.names)}), got {options.label!r}"
        )
    if len(source.names) < 2:
        raise DataError(f"{file} must have columns beside the label, got {options.label!r} alone")
    first = _first_block(source)
    source.choose(options.label, tell_columns(first.rows, options.label, options))
    return source


def _first_block(source: Source) -> Block:
    for block in source.blocks():
        if block.rows.height:
            return block
        if block.bad:
            raise DataError(f"{block.place} {block.bad[0].line}: {block.bad[0].reason}")
    raise DataError(f"{source.files[0]} must hold rows, got none that can be read")
