"""What is odd about a dataset, or about its first rows, in one line each."""

from collections.abc import Iterable, Sequence

import polars as pl

from multiembed.data.encoding.ordering import RowOrder
from multiembed.data.store.schema import Field, Schema, SplitOrder


def dataset_remarks(schema: Schema) -> list[str]:
    """Return how rows were cut, and which fields and splits have nothing to learn from."""
    lines = field_remarks(schema.fields)
    for field in schema.fields:
        if field.cardinality == 1:
            lines.append(f"{field.name}: no value occurs {field.min_count} times, all are other")
        elif field.slots == 1 and field.shares is None:
            other = field.other.get("train", 0) > 0
            lines += _few_values(field, field.cardinality - 1 + other, "rows that train")
    for name, split in schema.splits.items():
        if split.rows and split.positives in (0, split.rows):
            what = "AUC is undefined there" if name == "test" else "training needs both classes"
            label = int(split.positives > 0)
            lines.append(f"{name}: label {schema.label} is {label} in all rows; {what}")
    if schema.weight is not None:
        lines.append(f"rows count by {schema.weight}; those of weight 0 were left out")
    return lines if schema.order is None else [*lines, *_cuts(schema.order)]


def _cuts(order: SplitOrder) -> list[str]:
    valid = f"valid from {order.valid_from} to {order.valid_to}"
    where = f"train up to {order.train_to}, {valid}, test from {order.test_from}"
    lines = [f"split by {order.column}: {where}"]
    if order.missing:
        lines.append(f"{order.column}: {order.missing:,} rows without a value; they train")
    return lines


def _few_values(field: Field, count: int, where: str) -> list[str]:
    """Say of a field that it has one value, or numbers that its buckets do not tell apart.

    These take logarithms, or four digits: days such as 20240131 and epochs are one number to them.
    """
    if field.bucketed and field.kind == "numeric" and count <= 2:
        kept = "one bucket" if count == 1 else "two buckets"
        ways = "another --numeric-rule, --date or --categorical tells more apart"
        return [f"{field.name}: {kept} in all {where}; {ways}"]
    return [f"{field.name}: one value in all {where}"] if count == 1 else []


def field_remarks(fields: Iterable[Field]) -> list[str]:
    """Return what telling the kinds of columns found odd."""
    return [f"{field.name}: {field.remark}" for field in fields if field.remark]


def sample_remarks(
    labels: pl.Series,
    distinct: Sequence[tuple[Field, int]],
    keys: pl.Series,
    order: RowOrder | None,
) -> list[str]:
    """Return the same of the first rows, as far as these show it.

    Args:
        labels: 0, 1 or null.
        distinct: Every field, and how many values it has.
        keys: What `order` makes of the column to split by, if there is one.
        order: How rows would be ordered.
    """
    lines = [line for field, count in distinct for line in _few_values(field, count, "these rows")]
    if labels.drop_nulls().n_unique() == 1:
        lines.append(f"label {labels.name}: {labels.drop_nulls()[0]} in all these rows")
    if order is not None and keys.drop_nulls().len():
        first, last = (order.text(key) for key in (keys.min(), keys.max()))  # pyright: ignore
        lines.append(f"split by {order.column}: {order.read_as}s, here from {first} to {last}")
    return lines
