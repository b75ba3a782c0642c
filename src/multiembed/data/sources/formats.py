"""The formats by name, and the fields that each of them gives."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from multiembed.base.errors import ConfigError, DataError
from multiembed.data.options import PrepareOptions
from multiembed.data.sources.columnar import ARROW, PARQUET, ParquetSource, tell_columns
from multiembed.data.sources.file_series import FileSeries, RawSource, find_files
from multiembed.data.sources.flights import Flights
from multiembed.data.sources.published import LAYOUTS, Layout
from multiembed.data.sources.records import JSON_LINES, Dialect
from multiembed.data.sources.source import Block, Column, Source
from multiembed.data.sources.text import TextSource, check_names, read_header, read_keys
from multiembed.data.store.schema import SPLITS, Field, NumericRule

CRITEO_NUMBERS = tuple(f"I{number}" for number in range(1, 14))
CRITEO_CATEGORIES = tuple(f"C{number}" for number in range(1, 27))
AVAZU_NAMES = (
    *("id", "click", "hour", "C1", "banner_pos", "site_id", "site_domain", "site_category"),
    *("app_id", "app_domain", "app_category", "device_id", "device_ip", "device_model"),
    *("device_type", "device_conn_type", *(f"C{number}" for number in range(14, 22))),
)
COMPRESSED = (".gz", ".zst", ".zstd")
JSON = (".jsonl", ".ndjson", ".json")
TABBED = (".tsv", ".tab")
TABLE_OPTIONS = ("label", "categorical_columns", "numeric_columns", "dates", "multivalued")


def open_source(
    source: RawSource, options: PrepareOptions, downloads: Path | None = None
) -> Source:
    """Open raw rows of the format that the options name.

    Files behind URLs are first fetched into `downloads`.

    Raises:
        DataError: If there is no such file, or its columns are not the format's.
    """
    _check_options(options)
    if options.format == "flights":
        if options.split_column:
            raise ConfigError(
                f"split_by must be left out for format flights, got {options.split_column!r}"
            )
        if str(source) != "flights":
            raise DataError(f"source must be the word flights for format flights, got {source}")
        return Flights()
    layout = LAYOUTS.get(options.format)
    if layout is not None and not isinstance(source, Mapping):
        source = _published_files(source, layout)
    files, splits, names = find_files(source, downloads or Path("downloads"))
    openers: dict[str, Callable[[Path], TextSource | ParquetSource]] = {
        "criteo": _criteo,
        "avazu": _avazu,
    }
    opener = openers.get(options.format, open_table)
    series = FileSeries([opener(file) for file in files], splits, names)
    if series.given and options.split_column:
        raise ConfigError(
            f"split_by must be left out if files are given by split, got {options.split_column}"
        )
    if layout is not None:
        return _published(series, layout)
    _choose(series, options)
    return series


def open_table(file: Path) -> TextSource | ParquetSource:
    """Open a file with column names: text, JSON lines, Parquet or Arrow, told by its suffix.

    Raises:
        DataError: If it is none.
    """
    suffixes = [suffix.lower() for suffix in file.suffixes]
    kind = next((suffix for suffix in reversed(suffixes) if suffix not in COMPRESSED), "")
    if kind in PARQUET + ARROW:
        return ParquetSource(file)
    if kind in JSON:
        return TextSource(file, JSON_LINES, read_keys(file), header=False)
    dialect, names = read_header(file, "\t" if kind in TABBED else None)
    check_names(file, names)
    return TextSource(file, dialect, names, header=True)


def plain_fields(source: Source, options: PrepareOptions) -> list[Field]:
    """Return the fields of a source as they are before anything is counted.

    Raises:
        DataError: If an option names a field that is not there.
    """
    known = {column.name: column.kind for column in source.columns}
    for named in (options.field_min_counts, options.field_max_values, options.hash_sizes):
        for name in named:
            if name not in known:
                raise DataError(f"a field must be one of {', '.join(known)}, got {name!r}")
    for name in options.hash_sizes:
        if known[name] == "numeric":
            raise DataError(f"a hashed field must be categorical, got {name!r}, which is numeric")
    rule = NumericRule(rule=options.numeric_rule)
    return [
        Field(
            name=column.name,
            kind=column.kind,
            cardinality=1,
            min_count=options.field_min_counts.get(column.name, options.threshold),
            numeric=rule if column.kind == "numeric" else None,
            date=column.date,
            hash_size=options.hash_sizes.get(column.name),
            max_values=options.field_max_values.get(column.name, options.max_values),
            delimiter=column.delimiter,
            slots=1 if column.delimiter is None else options.max_cell_values,
        )
        for column in source.columns
    ]


def _check_options(options: PrepareOptions) -> None:
    if options.split_by is not None and options.split_by_group is not None:
        raise ConfigError(
            f"split_by_group must be left out if split_by is given, got {options.split_by_group!r}"
        )
    for name in TABLE_OPTIONS:
        if options.format != "table" and getattr(options, name):
            raise ConfigError(
                f"{name} must be left out unless format is table, got {options.format}"
            )


def _choose(series: FileSeries, options: PrepareOptions) -> None:
    """Say which columns of some files are the label and the fields."""
    extra = options.split_column
    if extra is not None and extra not in series.names:
        raise DataError(
            f"split_by must be a column of {series.files[0]} ({', '.join(series.names)}), "
            f"got {extra!r}"
        )
    if options.format == "criteo":
        columns = [Column(name, "numeric") for name in CRITEO_NUMBERS]
        columns += [Column(name, "categorical") for name in CRITEO_CATEGORIES]
        series.choose("label", columns, extra)
    elif options.format == "avazu":
        columns = [Column(name, "categorical") for name in AVAZU_NAMES[2:]]
        series.choose("click", columns, extra)
    else:
        _choose_of_table(series, options, extra)


def _choose_of_table(series: FileSeries, options: PrepareOptions, extra: str | None) -> None:
    file = series.files[0]
    if options.label is None:
        raise ConfigError(f"label must name a column of {file}, got none")
    if options.label not in series.names:
        raise DataError(
            f"label must be a column of {file} ({', '.join(series.names)}), got {options.label!r}"
        )
    if len(series.names) < 2:
        raise DataError(f"{file} must have columns beside the label, got {options.label!r} alone")
    columns = tell_columns(_first_block(series).rows, options.label, options)
    if not columns:
        raise DataError(f"{file} must have columns beside the label, got none to learn from")
    twice = [c.name for at, c in enumerate(columns) if c.name in [d.name for d in columns[:at]]]
    if twice:
        raise DataError(
            f"{file} header: fields must have names of their own, got {twice[0]!r} twice"
        )
    series.choose(options.label, columns, extra)


def _criteo(file: Path) -> TextSource:
    names = ("label", *CRITEO_NUMBERS, *CRITEO_CATEGORIES)
    return TextSource(file, Dialect("\t", quoted=False), names, header=False)


def _avazu(file: Path) -> TextSource:
    dialect, names = read_header(file, ",")
    if names != AVAZU_NAMES:
        expected, got = ",".join(AVAZU_NAMES[:3]), ",".join(names[:3])
        raise DataError(f"{file} line 1: expected the header {expected},..., got {got},...")
    return TextSource(file, dialect, names, header=True)


def _published_files(source: str | Path | Sequence[str | Path], layout: Layout) -> dict[str, str]:
    folder = str(source) if isinstance(source, str | Path) else ""
    if not folder:
        raise DataError(f"{layout.title} must be one directory, got several paths")
    return {name: f"{folder.rstrip('/')}/{name}.csv" for name in SPLITS}


def _published(series: FileSeries, layout: Layout) -> FileSeries:
    absent = [name for name in (layout.label, *layout.raw_names) if name not in series.names]
    if absent:
        raise DataError(
            f"{series.files[0]} must have the columns of {layout.title}, got no {absent[0]!r}"
        )
    series.choose(layout.label, layout.columns)
    return series


def _first_block(source: Source) -> Block:
    for block in source.blocks():
        if block.rows.height:
            return block
        if block.bad:
            raise DataError(f"{block.place} {block.bad[0].line}: {block.bad[0].reason}")
    raise DataError(f"{source.files[0]} must hold rows, got none that can be read")
