"""The formats by name, and the fields that each of them gives."""

from pathlib import Path

from multiembed.data.flights import Flights
from multiembed.data.options import PrepareOptions
from multiembed.data.schema import Field, NumericRule
from multiembed.data.sources import Source
from multiembed.errors import DataError


def open_source(source: Path | str, options: PrepareOptions) -> Source:
    """Open raw rows of the format that the options name.

    Raises:
        DataError: If there is no such file, or its columns are not the format's.
    """
    if options.format == "flights":
        if str(source) != "flights":
            raise DataError(f"source must be the word flights for format flights, got {source}")
        return Flights()
    raise DataError("not yet")


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
