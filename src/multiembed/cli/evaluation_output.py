"""What `evaluate` found: as tables, as JSON, and as a page."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.table import Table

from multiembed.cli.console import table_of
from multiembed.diagnosis.by_group_page import by_group_page
from multiembed.diagnosis.importance_page import importance_page
from multiembed.report.wording import cut_apart
from multiembed.runs.by_group import GroupDrift, to_json
from multiembed.runs.evaluation import Scores
from multiembed.runs.importance import Effect, Importance
from multiembed.runs.influence import auc_interval

_BAR, _NAME = 12, 16
"""Most characters of a bar, and of a field's name beside it."""


class Evaluation(NamedTuple):
    """Scored rows, and what was asked of them."""

    run: str
    scores: Scores
    measures: dict[str, float | None]
    group: str | None
    """The column within whose values AUC was measured, too."""
    by: str | None
    groups: Sequence[GroupDrift]
    """Quality in each value of the column `by`."""
    importance: Importance | None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The AUC's, over the draw of the rows."""
        return auc_interval(self.scores.labels, self.scores.probabilities, self.scores.weights)

    def to_json(self) -> dict[str, object]:
        """Return it as what JSON can hold."""
        record: dict[str, object] = {**self.measures, "auc_interval": self.interval}
        record["reliability"] = [of.model_dump() for of in self.scores.curve]
        if self.groups:
            record["by"] = to_json(self.groups)
        if self.importance is not None:
            record["importance"] = self.importance.to_json()
        return record

    def page(self) -> str:
        """Return a page of what was asked for: the fields' importance, or groups of rows."""
        if self.importance is not None:
            return importance_page(self.run, self.importance)
        return by_group_page(self.run, str(self.by), self.groups)

    def shown(self) -> Iterator[Table | str]:
        """Yield what the terminal shows."""
        yield self._measures()
        left_out = self.measures.get("group_auc_left_out")
        if left_out:
            yield (
                f"{left_out:,.0f} rows are in no group: {self.group} is missing, or other and not "
                f"kept (prepare --keep {self.group})"
            )
        title = "reliability, in bins of equal mass"
        bins = table_of((), ("rows", "predicted", "observed"), title=title)
        for of in self.scores.curve:
            bins.add_row(f"{of.rows:,}", f"{of.predicted:.4%}", f"{of.observed:.4%}")
        yield bins
        if self.by is not None:
            yield from _by_tables(self.by, self.groups)
        if self.importance is not None:
            yield from _importance(self.importance)

    def _measures(self) -> Table:
        title = f"{self.run}, {self.scores.split} split"
        table = Table("measure", "value", title=title)
        for name, value in self.measures.items():
            whole = name.endswith(("rows", "left_out"))
            shown = "undefined" if value is None else f"{value:,.0f}" if whole else f"{value:.6f}"
            table.add_row(name.replace("_", " "), shown)
        if self.interval is not None:
            table.add_row("auc, 95% interval", "{:.6f} to {:.6f}".format(*self.interval))
        return table


def _importance(found: Importance) -> Iterator[Table | str]:
    """Yield a line, and a table of the fields, those first that do most."""
    rows = f"{found.rows:,} rows"
    rows += f" drawn of {found.of_rows:,}" if found.rows < found.of_rows else ""
    yield (
        f"importance: each field permuted {found.repeats} times among {rows}, ± 95%. "
        f"Unpermuted: AUC {found.auc:.5f}, log loss {found.log_loss:.5f}"
    )
    most = max(0.0, *(of.auc.value for of in found.fields)) or 1.0
    names = cut_apart([of.field for of in found.fields], _NAME)
    table = table_of(("field", ""), ("AUC falls by", "log loss rises by"), open_=True)
    for of in found.fields:
        bar = "█" * round(_BAR * max(0.0, of.auc.value) / most)
        table.add_row(names[of.field], bar, _estimate(of.auc), _estimate(of.log_loss))
    yield table


def _estimate(of: Effect) -> str:
    return f"{round(of.value, 5) + 0.0:.5f} ± {of.high - of.value:.5f}"  # never -0.00000


def _by_tables(column: str, groups: Sequence[GroupDrift]) -> Iterator[Table]:
    """Yield a table of the groups, and one of the fields that drifted in some of them."""
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
