"""Fields before anything is counted: columns, and what options say of them."""

from collections.abc import Mapping, Sequence

from multiembed.base.errors import DataError
from multiembed.base.number_kinds import NumericKind
from multiembed.data.options import EVERY_FIELD, PrepareOptions
from multiembed.data.sources.source import Column
from multiembed.data.store.schema import Field, NumberScale, NumericRule


def plain_fields(columns: Sequence[Column], options: PrepareOptions) -> list[Field]:
    """Return the fields that columns give, as they are before anything is counted.

    Args:
        columns: Of a source, in order.
        options: Say how rare values may be, what is hashed, and by what rule numbers are cut.

    Raises:
        DataError: If an option names a field that is not there, or is of another kind.
    """
    known = {column.name: column.kind for column in columns}
    numbers = _kept_numbers(known, options.numeric_embedding)
    for named in (options.field_min_counts, options.field_max_values, options.hash_sizes):
        for name in named:
            if name not in known:
                raise DataError(f"a field must be one of {', '.join(known)}, got {name!r}")
    for name in options.hash_sizes:
        if known[name] == "numeric":
            raise DataError(f"a hashed field must be categorical, got {name!r}, which is numeric")
    for column in columns:
        if column.shares is not None:
            _check_sequence(column.name, column.shares, columns)
    rule = NumericRule(rule=options.rule)
    fields = [
        Field(
            name=column.name,
            kind=column.kind,
            cardinality=1,
            min_count=options.field_min_counts.get(column.name, options.threshold),
            numeric=rule if column.kind == "numeric" else None,
            number=numbers.get(column.name),
            date=column.date,
            hash_size=options.hash_sizes.get(column.shares or column.name),
            max_values=options.field_max_values.get(column.name, options.max_values),
            delimiter=column.delimiter,
            slots=_slots(column, options),
            shares=column.shares,
            decimal=column.decimal,
            missing=options.missing,
            remark=column.remark,
        )
        for column in columns
    ]
    # Behind all others, so that those with a table of their own are numbered without gaps.
    return sorted(fields, key=lambda field: field.shares is not None)


def share_sizes(fields: Sequence[Field]) -> list[Field]:
    """Give histories the cardinality of the field whose values they hold, once it is known."""
    sizes = {field.name: field.cardinality for field in fields}
    return [field.model_copy(update={"cardinality": sizes[field.table]}) for field in fields]


def _slots(column: Column, options: PrepareOptions) -> int:
    if column.shares is not None:
        return options.sequence_length
    return options.max_cell_values if column.kind == "multivalued" else 1


def _check_sequence(name: str, item: str, columns: Sequence[Column]) -> None:
    kinds = {
        column.name: "a sequence" if column.shares else "a date" if column.date else column.kind
        for column in columns
    }
    categories = [known for known, kind in kinds.items() if kind == "categorical"]
    if item not in categories:
        got = f"{item!r}" + (f", which is {kinds[item]}" if item in kinds else "")
        raise DataError(
            f"sequence {name!r} must be of a categorical field ({', '.join(categories)}), got {got}"
        )


def _kept_numbers(
    kinds: Mapping[str, str], asked: Mapping[str, NumericKind]
) -> dict[str, NumberScale]:
    """Return how the numbers of fields are to be kept, field by field."""
    numeric = [name for name, kind in kinds.items() if kind == "numeric"]
    for name in asked:
        if name not in (*numeric, EVERY_FIELD):
            found = "which is no number" if name in kinds else "which is not there"
            raise DataError(
                f"a field of numeric_embedding must be numeric, got {name!r}, {found}; "
                f"numeric are: {', '.join(numeric) or 'none'}"
            )
    if asked and not numeric:
        raise DataError("numeric_embedding must have fields that are numeric, got none")
    every: NumericKind | None = asked.get(EVERY_FIELD)
    scales: dict[str, NumberScale] = {}
    for name in numeric:
        kind = asked.get(name) or every
        if kind is not None:
            scales[name] = NumberScale(embedding=kind)
    return scales
