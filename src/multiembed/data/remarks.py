"""What is odd about a dataset, or about its first rows, in one line each."""

import math
from collections.abc import Iterable, Sequence

import polars as pl

from multiembed.data.encoding.ordering import RowOrder
from multiembed.data.store.schema import Field, Schema, SplitOrder

RARE_ROWS, RARE_SHARE = 1000, 0.01
"""Rows of the rarer class among those that train. Where fewer train, about 100 test, and by these
an AUC is known to 0.04 or 0.05, which is more than good models differ by. Where one row in 100 is
of it, the number of rows says little: what can be known depends on those few."""
TYPICAL_AUC = 0.75


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
    lines += rare_remark(schema)
    if schema.weight is not None:
        lines.append(f"rows count by {schema.weight}; those of weight 0 were left out")
    return lines if schema.order is None else [*lines, *_cuts(schema.order)]


def rare_remark(schema: Schema, auc: float = TYPICAL_AUC) -> list[str]:
    """Say, where a class is rare, how many rows it has and what a test AUC can then tell."""
    train, test = (schema.splits.get(name) for name in ("train", "test"))
    if train is None or not 0 < train.positives < train.rows:
        return []
    negatives = train.rows - train.positives
    name, rarer = min(("positives", train.positives), ("negatives", negatives), key=lambda c: c[1])
    if rarer >= max(RARE_ROWS, RARE_SHARE * train.rows):
        return []
    line = f"{name} are few: {rarer:,} of {train.rows:,} rows that train ({rarer / train.rows:.2%})"
    if test is not None and 0 < test.positives < test.rows:
        others = test.rows - test.positives
        reach = 1.96 * auc_error(auc, test.positives, others)
        few = test.positives if name == "positives" else others
        line += f"; by {few:,} that test, an AUC of {auc:.2f} is known to ±{reach:.2g} (95%)"
    return [line]


def auc_error(auc: float, positives: int, negatives: int) -> float:
    """Return the standard error of an AUC on so many rows (Hanley and McNeil, 1982).

    It is exact for scores that are exponentially distributed in both classes, and near for others.
    """
    two_positives, two_negatives = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (positives - 1) * (two_positives - auc**2)
    variance += (negatives - 1) * (two_negatives - auc**2)
    return math.sqrt(variance / (positives * negatives))


def _cuts(order: SplitOrder) -> list[str]:
    valid = f"valid from {order.valid_from} to {order.valid_to}"
    where = f"train up to {order.train_to}, {valid}, test from {order.test_from}"
    lines = [f"split by {order.column}: {where}"]
    if order.missing:
        lines.append(f"{order.column}: {order.missing:,} rows without a value; they train")
    return lines


def _few_values(field: Field, count: int, where: str) -> list[str]:
    """Say of a field that it has one value, or numbers that its buckets do not tell apart.

    These take logarithms, or six digits: days such as 20240131 and epochs are one number to them.
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
