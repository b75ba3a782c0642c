"""What `evaluate --by` prints: quality in each group of rows, and which fields drifted there."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from multiembed.cli.console import table_of

if TYPE_CHECKING:
    from multiembed.runs.by_group import GroupDrift


def by_tables(column: str | None, groups: "Sequence[GroupDrift]") -> Iterator[Table]:
    """Yield a table of the groups, and one of the fields that drifted in some of them."""
    if column is None:
        return
    headings = ("rows", "predicted", "observed", "ratio", "AUC", "log loss", "other")
    table = table_of((column,), headings, title=f"by {column}")
    for of in groups:
        found = [of.measures[name] for name in ("calibration_ratio", "auc", "log_loss")]
        other = sum(drift.other for drift in of.fields.values()) / len(of.fields)
        shares = [f"{of.measures[name]:.3%}" for name in ("mean_probability", "observed")]
        numbers = ["–" if number is None else f"{number:.5f}" for number in found]
        table.add_row(of.value, f"{of.measures['rows']:,.0f}", *shares, *numbers, f"{other:.2%}")
    yield table
    title = "fields whose values shifted: where most"
    shifted = table_of(("field", column), ("stability index", "other", "unseen"), title=title)
    for name in groups[0].fields:
        found = [(of.fields[name], of.value) for of in groups if of.fields[name].drifted]
        if found:
            drift, value = max(found, key=lambda one: one[0].stability)
            shares = [f"{drift.other:.2%}", f"{drift.unseen:.2%}"]
            shifted.add_row(name, value, f"{drift.stability:.3f}", *shares)
    if shifted.row_count:
        yield shifted
