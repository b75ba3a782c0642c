"""How raw rows are to be read and encoded."""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, field_validator, model_serializer
from pydantic import Field as Limited

from multiembed.base.errors import DataError
from multiembed.data.encoding.values import is_format
from multiembed.data.sources.formats import FORMATS
from multiembed.data.sources.source import Column, ColumnWishes
from multiembed.data.store.schema import Field, NumericRule

Count = Annotated[int, Limited(ge=1)]


class PrepareOptions(BaseModel, frozen=True, extra="forbid"):
    """Options of `prepare`; they are kept in the dataset's schema.

        >>> import multiembed as me
        >>> me.PrepareOptions(format="criteo").threshold
        10
        >>> options = me.PrepareOptions(format="table", label="click", dates={"time": "iso"})

    Raises:
        ValueError: If a value is of no use: pydantic's `ValidationError`, with the option's name.
    """

    format: str = "flights"
    """`flights`: real flight records, source `flights`. `criteo`: TAB, 40 columns, no header.
    `avazu`: CSV with header. `table`: any CSV, TSV, JSON lines, Parquet or Arrow file with
    column names. The others in `data.sources.formats` are published splits, a directory each."""
    label: str | None = None
    """Column of a table that says 0 or 1; the other formats know theirs."""
    min_count: Count | None = None
    """Rarer values become *other*; by default what the format says, 2 for a table."""
    field_min_counts: dict[str, Count] = {}
    """The same for single fields."""
    max_values: Count | None = None
    """Most values kept for a field, the frequent ones first; by default all."""
    field_max_values: dict[str, Count] = {}
    """The same for single fields."""
    hash_sizes: dict[str, Count] = {}
    """Categories whose values are hashed to so many."""
    dates: dict[str, str] = {}
    """Columns of a table that are moments, and become an hour and a weekday: `iso`, `s` or `ms`
    since 1970, or a format of `strptime`."""
    multivalued: dict[str, Annotated[str, Limited(min_length=1)]] = {}
    """Columns of a table whose cells hold several values, and what stands between these."""
    max_cell_values: Count = 8
    """Values kept of such a cell: the first ones."""
    vocabulary: Literal["train", "all"] = "train"
    """Rows whose values are counted: the training split, or all rows as in the paper."""
    numeric_rule: Literal["log", "quantiles", "as_is"] = "log"
    """How numbers become categories: the paper's rule, 32 buckets of equal counts, or every number
    its own."""
    categorical_columns: tuple[str, ...] = ()
    """Columns of a table that are categories whatever they look like."""
    numeric_columns: tuple[str, ...] = ()
    """Columns of a table that are numbers whatever they look like."""
    max_bad_rows: Annotated[int, Limited(ge=0)] = 0
    """Most rows with a wrong number of columns, or a label or number that cannot be read."""
    split_by: str | None = None
    """Column of times, or anything in an order: the first 80% of the rows train, the next 10%
    validate, the last 10% test. Rows of equal value stay together."""
    split_by_group: str | None = None
    """Column, such as a user, whose rows of equal value stay together; 8 of 10 groups train."""
    seed: Annotated[int, Limited(ge=0)] = 0
    """Seed of the split."""
    shard_rows: Annotated[int, Limited(ge=10)] = 1 << 20
    """Rows read per shard of the encoded dataset; memory grows with it."""
    overwrite: Annotated[bool, Limited(exclude=True)] = False
    """Whether a dataset of the same name is replaced."""

    @property
    def split_column(self) -> str | None:
        """The column that rows are split by, if there is one."""
        return self.split_by or self.split_by_group

    @property
    def threshold(self) -> int:
        """The count below which values become *other*."""
        return self.min_count or FORMATS[self.format].min_count

    @property
    def wishes(self) -> ColumnWishes:
        """What is said of the columns of a table."""
        return ColumnWishes(
            label=self.label,
            categorical=self.categorical_columns,
            numeric=self.numeric_columns,
            dates=self.dates,
            multivalued=self.multivalued,
            split_by=self.split_by,
        )

    @model_serializer(mode="wrap")
    def _without_unused(self, dump: Callable) -> dict[str, object]:
        """Leave out what came later where it is not used: datasets keep their bytes."""
        content = dump(self)
        if not self.multivalued:
            content.pop("multivalued", None)
            content.pop("max_cell_values", None)
        return content

    @field_validator("format")
    @classmethod
    def _check_format(cls, format: str) -> str:
        if format not in FORMATS:
            raise ValueError(f"one of {', '.join(FORMATS)}")
        return format

    @field_validator("dates")
    @classmethod
    def _check_dates(cls, dates: dict[str, str]) -> dict[str, str]:
        if not all(is_format(format) for format in dates.values()):
            raise ValueError("iso, s, ms or a format of strptime")
        return dates


def plain_fields(columns: Sequence[Column], options: PrepareOptions) -> list[Field]:
    """Return the fields that columns give, as they are before anything is counted.

    Args:
        columns: Of a source, in order.
        options: Say how rare values may be, what is hashed, and by what rule numbers are cut.

    Raises:
        DataError: If an option names a field that is not there.
    """
    known = {column.name: column.kind for column in columns}
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
            slots=options.max_cell_values if column.kind == "multivalued" else 1,
        )
        for column in columns
    ]
