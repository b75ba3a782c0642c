"""How raw rows are to be read and encoded."""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    Field,
    field_validator,
    model_serializer,
)

from multiembed.data.encoding.moments import is_format

Format = Literal[
    "flights",
    "criteo",
    "avazu",
    "table",
    "criteo_x4",
    "avazu_x4",
    "frappe_x1",
    "movielenslatest_x1",
]
MIN_COUNTS = {
    **{"criteo": 10, "avazu": 4, "criteo_x4": 10, "avazu_x4": 2},
    **{"frappe_x1": 1, "movielenslatest_x1": 1},
}
Count = Annotated[int, Field(ge=1)]


class PrepareOptions(BaseModel, frozen=True, extra="forbid"):
    """Options of `prepare`; they are kept in the dataset's schema."""

    format: Format = "flights"
    """`flights`: real flight records, source `flights`. `criteo`: TAB, 40 columns, no header.
    `avazu`: CSV with header. `table`: any CSV, TSV, JSON lines, Parquet or Arrow file with
    column names. The others are the published splits of those names, a directory each."""
    label: str | None = None
    """Column of a table that says 0 or 1; the other formats know theirs."""
    min_count: Count | None = None
    """Rarer values become *other*; by default 10 for criteo, 4 for avazu, else 2, and for a
    published split what its benchmark sets."""
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
    multivalued: dict[str, Annotated[str, Field(min_length=1)]] = {}
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
    max_bad_rows: Annotated[int, Field(ge=0)] = 0
    """Most rows with a wrong number of columns, or a label or number that cannot be read."""
    split_by: str | None = None
    """Column of times, or anything in an order: the first 80% of the rows train, the next 10%
    validate, the last 10% test. Rows of equal value stay together."""
    split_by_group: str | None = None
    """Column, such as a user, whose rows of equal value stay together; 8 of 10 groups train."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the split."""
    shard_rows: Annotated[int, Field(ge=10)] = 1 << 20
    """Rows read per shard of the encoded dataset; memory grows with it."""
    overwrite: Annotated[bool, Field(exclude=True)] = False
    """Whether a dataset of the same name is replaced."""

    @property
    def split_column(self) -> str | None:
        """The column that rows are split by, if there is one."""
        return self.split_by or self.split_by_group

    @property
    def threshold(self) -> int:
        """The count below which values become *other*."""
        return self.min_count or MIN_COUNTS.get(self.format, 2)

    @model_serializer(mode="wrap")
    def _without_unused(self, dump: Callable) -> dict[str, object]:
        """Leave out what came later where it is not used: datasets keep their bytes."""
        content = dump(self)
        if not self.multivalued:
            content.pop("multivalued", None)
            content.pop("max_cell_values", None)
        return content

    @field_validator("dates")
    @classmethod
    def _check_dates(cls, dates: dict[str, str]) -> dict[str, str]:
        if not all(is_format(format) for format in dates.values()):
            raise ValueError("iso, s, ms or a format of strptime")
        return dates
