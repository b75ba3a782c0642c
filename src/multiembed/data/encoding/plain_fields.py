"""Fields before anything is counted: columns, and what options say of them."""

from collections.abc import Sequence

from multiembed.base.errors import DataError
from multiembed.data.options import PrepareOptions
from multiembed.data.sources.source import Column
from multiembed.data.store.schema import Field, NumericRule


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
            decimal=column.decimal,
            missing=options.missing,
            remark=column.remark,
        )
        for column in columns
    ]
