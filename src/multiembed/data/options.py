"""How raw rows are to be read and encoded; reading it loads neither polars nor NumPy."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field as Limited
from pydantic import field_validator, model_serializer
from typing_extensions import override

from multiembed.base.bounds import Seed
from multiembed.base.flags import Flag
from multiembed.base.number_kinds import NumericKind, NumericRuleName
from multiembed.data.sources.raw_formats import FORMATS
from multiembed.data.sources.read_options import ReadOptions

Count = Annotated[int, Limited(ge=1, le=2**31 - 1)]  # ids have 32 bits
FieldCounts = dict[str, Count]
EVERY_FIELD = "*"
"""Stands for all fields of numbers among those of `numeric_embedding`."""
WRITTEN_ALWAYS = (
    *("format", "label", "min_count", "field_min_counts", "max_values", "field_max_values"),
    *("hash_sizes", "dates", "vocabulary", "numeric_rule", "categorical_columns"),
    *("numeric_columns", "max_bad_rows", "split_by", "split_by_group", "seed", "shard_rows"),
)
"""Options that every schema holds; those that came later stand there only where they are used."""

_MIN_COUNT = (
    "Rarer values become 'other'. Default: 2 flights, 10 criteo, 4 avazu, 2 table, 10 criteo_x4, "
    "2 avazu_x4, 1 frappe_x1, 1 movielenslatest_x1"
)


class PrepareOptions(ReadOptions):
    """Options of `prepare`; they are kept in the dataset's schema.

        >>> import multiembed as me
        >>> me.PrepareOptions(format="criteo").threshold
        10
        >>> options = me.PrepareOptions(label="click", dates={"time": "iso"})  # of any table

    Raises:
        ValueError: If a value is of no use: pydantic's `ValidationError`, with the option's name.
    """

    format: Annotated[str, Flag("--format", f"<{'|'.join(FORMATS)}>")] = "table"
    """Layout of the raw rows: any table with column names; Criteo's, TAB without a header; Avazu's,
    CSV with its header; real flight records, which the source flights means where no format is
    said; or a published split, a directory."""
    min_count: Annotated[Count | None, Limited(description=_MIN_COUNT)] = None
    field_min_counts: Annotated[FieldCounts, Flag("--field-min-count", "FIELD=N")] = Limited(
        default={}
    )
    """The same for single fields."""
    max_values: Count | None = None
    """Most values kept for a field, the frequent ones first; by default all."""
    field_max_values: Annotated[FieldCounts, Flag("--field-max-values", "FIELD=N")] = Limited(
        default={}
    )
    """The same for single fields."""
    hash_sizes: Annotated[FieldCounts, Flag("--hash-size", "FIELD=N")] = Limited(default={})
    """Categories whose values are hashed to so many."""
    max_cell_values: Annotated[int, Limited(ge=1, le=10_000)] = 8
    """Values kept of a cell that holds several: the first ones."""
    sequence_length: Annotated[int, Limited(ge=1, le=10_000)] = 50
    """Values kept of a history: the last ones, in their order."""
    vocabulary: Literal["train", "all"] = "train"
    """Rows whose values are counted: the training split, or all rows as in the paper."""
    numeric_rule: NumericRuleName | None = None
    """How numbers become categories: by log (the paper's rule), quantiles (32 buckets of equal
    counts; no value fills more than one), or as_is (every number its own). Default: log; quantiles
    for a table."""
    numeric_embedding: Annotated[
        dict[str, NumericKind], Flag("--numeric-embedding", "[FIELD=]linear|plr|soft", bare="*")
    ] = Limited(default={})
    """Fields whose numbers are kept, on a scale by training's quantiles, for models to embed:
    linear, plr (periodic functions) or soft (soft buckets). Without FIELD all that are numeric. By
    default a model reads the ids of their buckets."""
    max_bad_rows: Annotated[int, Limited(ge=0, lt=2**63)] = 0
    """Most rows with a wrong number of columns, or a label or number that cannot be read."""
    positive: str | None = None
    """Value of the label that counts as 1; every other one then counts as 0."""
    keep: Annotated[tuple[str, ...], Flag("--keep", "COLUMN")] = ()
    """Columns, fields or not, whose values are kept beside the ids: evaluate can measure AUC within
    the rows of each value."""
    split_by_group: str | None = None
    """Column, such as a user, whose rows of equal value stay together; 8 of 10 groups train."""
    seed: Seed = 0
    """Seed of the 8:1:1 split."""
    shard_rows: Annotated[int, Limited(ge=10, le=2**31 - 1)] = 1 << 20
    """Rows read per shard of the encoded dataset; memory grows with it."""
    like: Annotated[str | None, Flag("--like", "RUN|DATASET")] = None
    """Encode new rows as those of a run or a dataset were: all that is said of columns and values
    is theirs, and so are the ids."""
    grow: bool = False
    """With --like: give new values ids of their own, behind those that there are; min_count then
    says how often these rows must have a new value."""
    retire: Annotated[Count | None, Flag("--retire", "T")] = None
    """With --grow: values that the training rows of so many growths in a row did not have become
    'other', and new values take their ids."""
    overwrite: Annotated[bool, Limited(exclude=True)] = False
    """Replace a dataset of the same name."""

    @property
    def split_column(self) -> str | None:
        """The column that rows are split by, if there is one."""
        return self.split_by_group if self.split_by is None else self.split_by

    @property
    @override
    def extra_columns(self) -> tuple[str, ...]:
        """Columns read that need be no field: of the split, of weights, those kept."""
        found = (self.split_column, self.weight)
        return (*(name for name in found if name is not None), *self.keep)

    @property
    def threshold(self) -> int:
        """The count below which values become *other*."""
        return self.min_count or FORMATS[self.format].min_count

    @property
    def rule(self) -> NumericRuleName:
        """How numbers become categories."""
        return self.numeric_rule or FORMATS[self.format].numeric_rule

    @model_serializer(mode="wrap")
    def _without_unused(self, dump: Callable) -> dict[str, object]:
        """Leave out what came later where it is not used: datasets keep their bytes."""
        content = dump(self)
        fields = type(self).model_fields
        later = [name for name in content if getattr(self, name) != fields[name].default]
        names = dict.fromkeys([*WRITTEN_ALWAYS, *later])
        content["numeric_rule"] = self.rule
        if self.multivalued:
            names["max_cell_values"] = None
        if self.sequences:
            names["sequence_length"] = None
        return {name: content[name] for name in names if name in content}

    @field_validator("like", mode="before")
    @classmethod
    def _name_path(cls, like: object) -> object:
        return str(like) if isinstance(like, Path) else like

    @field_validator("numeric_embedding", mode="before")
    @classmethod
    def _of_every_field(cls, asked: object) -> object:
        """Let a kind alone, which the command line gives as `KIND=*`, stand for all fields."""
        if isinstance(asked, str):
            return {EVERY_FIELD: asked}
        if not isinstance(asked, Mapping):
            return asked
        return dict((of, name) if of == EVERY_FIELD else (name, of) for name, of in asked.items())

    @field_validator("format")
    @classmethod
    def _check_format(cls, format: str) -> str:
        if format not in FORMATS:
            raise ValueError(f"one of {', '.join(FORMATS)}")
        return format
