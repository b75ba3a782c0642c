"""What an encoded dataset says about itself, in a file that a person can read."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    FiniteFloat,
    JsonValue,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic import Field as Limited

from multiembed.base.errors import DataError, without_secrets
from multiembed.base.files import write_text
from multiembed.base.json_files import read_json_file
from multiembed.base.number_kinds import NumericKind, NumericRuleName

FORMAT_VERSION = 1
SPLITS = ("train", "valid", "test")
FILE_NAME = "schema.json"

SplitName = Literal["train", "valid", "test"]


Dress = Literal["", ".", ",", "%", ",%"]
"""How numbers are written in text: the mark before a fraction where commas stand, and percent."""


class _Frozen(BaseModel):
    """A frozen part of the schema that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NumericRule(_Frozen):
    """How numbers become categories."""

    rule: NumericRuleName
    """`log`: `floor(ln(v)^2)` above 2, else `floor(v) - 2`; `quantiles`: equal counts; `as_is`:
    equal numbers are one category, however they are written."""
    edges: tuple[float, ...] | None = None
    """For `quantiles`: the first number of every bucket but the lowest, ascending."""


class NumberScale(_Frozen):
    """How the numbers of a field are kept beside its ids: on a scale, by straight lines."""

    embedding: NumericKind
    """How a model embeds them, unless it is told otherwise."""
    values: tuple[FiniteFloat, ...] = ()
    """Numbers of training, ascending; what lies beyond the first or the last counts as that."""
    levels: tuple[FiniteFloat, ...] = ()
    """Where each stands on the scale."""

    @model_validator(mode="after")
    def _check_points(self) -> "NumberScale":
        if len(self.values) != len(self.levels) or list(self.values) != sorted(set(self.values)):
            raise ValueError("values must rise, and there must be as many levels")
        return self


class DateRule(_Frozen):
    """How a moment becomes a category."""

    column: str
    """The raw column that holds the moments."""
    part: Literal["hour", "weekday", "weekend"]
    """`hour`: 0 to 23; `weekday`: 1 Monday to 7 Sunday; `weekend`: 1 on Saturday and Sunday."""
    format: str
    """`iso`, `s` or `ms` since 1970, or a format of `strptime`."""


Kind = Literal["categorical", "numeric", "multivalued"]


class Field(_Frozen):
    """One column of the id matrix, or several where a cell holds several values."""

    name: str
    kind: Kind
    cardinality: Annotated[int, Limited(ge=1, lt=2**31)]
    """Number of ids: the kept values, and id 0 for every other value."""
    min_count: int
    """Values counted less often than this are *other*."""
    numeric: NumericRule | None = None
    number: NumberScale | None = None
    """If given, the rows hold the numbers themselves, too."""
    date: DateRule | None = None
    hash_size: int | None = None
    """If given, values are hashed to this many before they are counted."""
    max_values: int | None = None
    """If given, at most that many values are kept; the rest are *other*."""
    other: dict[SplitName, int] = {}
    """Rows of each split whose value, or one of them, is *other*."""
    delimiter: str | None = None
    """For a multi-valued field: what stands between the values of a cell."""
    slots: Annotated[int, Limited(ge=1)] = 1
    """Columns of the id matrix: the most values of a cell. Behind fewer stands -1."""
    cut: int = 0
    """Rows, of all splits, whose cell has more values than that; the first were kept, of a history
    the last."""
    shares: str | None = None
    """For a history: the field whose values it holds, and whose vocabulary and table it shares.
    Without a value it is empty: its first column, too, holds -1."""
    empty: int = 0
    """For a history: rows, of all splits, where it is empty."""
    decimal: Dress = ""
    """For numbers in text that are no plain ones: how they are written."""
    missing: tuple[str, ...] = ()
    """Texts that stand for a missing value, beside the usual ones."""
    remark: str = ""
    """What is worth a look in how the column was read."""

    @model_serializer(mode="wrap")
    def _without_unused(self, dump: Callable) -> dict[str, object]:
        """Leave out what came later where it is not used: datasets keep their bytes."""
        content = dump(self)
        if not self.multivalued:
            for name in ("delimiter", "slots", "cut"):
                content.pop(name, None)
        for name in ("number", "decimal", "missing", "remark", "shares", "empty"):
            if not getattr(self, name):
                content.pop(name, None)
        return content

    @property
    def column(self) -> str:
        """The raw column that the field is made from."""
        return self.date.column if self.date is not None else self.name

    @property
    def table(self) -> str:
        """The field whose vocabulary and table it has: itself, unless it is a history."""
        return self.shares or self.name

    @property
    def kind_in_words(self) -> str:
        """What tables call its kind."""
        if self.number is not None:
            return f"numeric, as {self.number.embedding}"
        return self.kind if self.shares is None else f"history of {self.shares}"

    @property
    def multivalued(self) -> bool:
        """Whether a cell holds several values."""
        return self.kind == "multivalued"

    @property
    def parsed(self) -> bool:
        """Whether its values are read as numbers or moments, which text may fail to be."""
        return self.numeric is not None or self.date is not None

    @property
    def plain_text(self) -> bool:
        """Whether its values are text that is looked up as it is."""
        return not (self.parsed or self.multivalued) and self.hash_size is None

    @property
    def bucketed(self) -> bool:
        """Whether its values are whole numbers that a rule gave, instead of text."""
        return self.parsed and (self.numeric is None or self.numeric.rule != "as_is")


class SplitSummary(_Frozen):
    """Size of one split."""

    rows: int
    positives: int


class SourceFile(_Frozen):
    """One file that the rows were read from."""

    path: Annotated[str, AfterValidator(without_secrets)]
    bytes: int
    sha256: str


class SplitOrder(_Frozen):
    """Where the rows were cut, in the order that a column gives them."""

    column: str
    read_as: Literal["number", "moment"]
    train_to: str
    """The last value that trains."""
    valid_from: str
    valid_to: str
    test_from: str
    missing: int = 0
    """Rows without a value; they train."""


class Fingerprint(_Frozen):
    """What tells a dataset from others, whatever file it came from."""

    values: str
    """Of what every id stands for: the fields' rules, and their vocabularies without counts."""
    rows: str
    """Of all ids and labels, split by split, in order."""


class BadRows(_Frozen):
    """Rows that were left out because they could not be read."""

    count: int = 0
    first: tuple[str, ...] = ()
    """The first of them: file, line and reason."""


class FieldSizes(NamedTuple):
    """What a model must know of the fields of a dataset."""

    cardinalities: tuple[int, ...]
    """Number of ids of every field that has a table, *other* included."""
    slots: tuple[int, ...]
    """Columns of the id matrix that every field has, histories last."""
    shares: tuple[int, ...]
    """For every history, the place of the field whose table it shares."""
    kept_numbers: tuple[NumericKind | None, ...]
    """How the numbers of every field that has a table are embedded; None for fields of ids."""


class Schema(_Frozen):
    """Everything about an encoded dataset except its rows and its vocabularies."""

    format_version: int = FORMAT_VERSION
    label: str
    weight: str | None = None
    """Name of the column that says what every row counts; rows of weight 0 were left out."""
    fields: tuple[Field, ...]
    splits: dict[SplitName, SplitSummary]
    bad_rows: BadRows = BadRows()
    sources: tuple[SourceFile, ...] = ()
    options: dict[str, JsonValue] = {}
    """The options the dataset was prepared with."""
    order: SplitOrder | None = None
    """How rows were ordered and cut, if a column did it."""
    fingerprint: Fingerprint | None = None
    """Older datasets have none."""
    grown_from: tuple[str, ...] = ()
    """`Fingerprint.values` of the datasets whose vocabularies this one's grew out of, from the
    first on."""

    @model_serializer(mode="wrap")
    def _without_absent(self, dump: Callable) -> dict[str, object]:
        """Leave out what came later where it is absent."""
        content = dump(self)
        present = {key: value for key, value in content.items() if value is not None}
        return present if self.grown_from else {k: present[k] for k in present if k != "grown_from"}

    def is_of(self, other: "Schema", *, rows: bool = True) -> bool:
        """Say whether another schema is of the same values and, if wanted, the same rows.

        Of a dataset without a fingerprint sizes and counts are compared instead.
        """
        if self.fingerprint is not None and other.fingerprint is not None:
            same = self.fingerprint.values == other.fingerprint.values
            return same and not (rows and self.fingerprint.rows != other.fingerprint.rows)
        if rows:
            return (self.fields, self.splits) == (other.fields, other.splits)
        return (self.cardinalities, self.slots) == (other.cardinalities, other.slots)

    @property
    def tables(self) -> tuple[Field, ...]:
        """The fields that have a table: all but histories, which come last."""
        return tuple(field for field in self.fields if field.shares is None)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of ids of every field that has a table, *other* included."""
        return tuple(field.cardinality for field in self.tables)

    @property
    def shares(self) -> tuple[int, ...]:
        """For every history, the place of the field whose table it shares."""
        names = self.field_names
        return tuple(names.index(field.shares) for field in self.fields if field.shares)

    @property
    def slots(self) -> tuple[int, ...]:
        """Columns of the id matrix that every field has, in order."""
        return tuple(field.slots for field in self.fields)

    @property
    def kept_numbers(self) -> tuple[NumericKind | None, ...]:
        """How the numbers of every field that has a table are embedded; None for those of ids."""
        return tuple(field.number and field.number.embedding for field in self.tables)

    @property
    def sizes(self) -> FieldSizes:
        """What a model must know of the fields."""
        return FieldSizes(self.cardinalities, self.slots, self.shares, self.kept_numbers)

    @property
    def numbers(self) -> int:
        """How many numbers a row has beside its ids."""
        return sum(field.number is not None for field in self.fields)

    @property
    def field_names(self) -> tuple[str, ...]:
        """Names of the fields that have a table, in the order of the id matrix."""
        return tuple(field.name for field in self.tables)

    @classmethod
    def load(cls, path: Path | str) -> "Schema":
        """Read a schema from a file, or from `schema.json` of a directory.

        Raises:
            DataError: If there is none, it cannot be read, or it has another format version.
        """
        file = Path(path) / FILE_NAME if Path(path).is_dir() else Path(path)
        content = _read_json(file)
        version = content.get("format_version")
        if version != FORMAT_VERSION:
            raise DataError(f"{file}: format_version must be {FORMAT_VERSION}, got {version!r}")
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(step) for step in first["loc"])
            raise DataError(f"{file}: {place}: {first['msg']}") from None

    def save(self, path: Path | str) -> None:
        """Write the schema to a file, or to `schema.json` of a directory."""
        file = Path(path) / FILE_NAME if Path(path).is_dir() else Path(path)
        write_text(file, self.model_dump_json(indent=2) + "\n")


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise DataError(f"{file.parent} must be an encoded dataset, got no {file.name} in it")
    content = read_json_file(file)
    if not isinstance(content, dict):
        raise DataError(f"{file} must hold a JSON object, got {type(content).__name__}")
    return content
