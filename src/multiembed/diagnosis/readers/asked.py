"""What a user says of a checkpoint beside where it is, and what that leaves of it."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.cardinalities import Cardinalities
from multiembed.diagnosis.readers.table import Checkpoint, Skipped, Table


@dataclass(frozen=True)
class Asked:
    """What a user says of a checkpoint beside where it is."""

    cardinalities: Cardinalities | None = None
    tables: Sequence[str] = ()
    """Patterns of names: these and no others are tables."""
    leave_out: Sequence[str] = ()
    """Patterns of names that are no tables."""

    def chooses(self, *names: str) -> bool:
        """Say whether one of a matrix's names is among those asked for."""
        return _fits(self.tables, names)

    def refuses(self, *names: str) -> bool:
        """Say whether one of a matrix's names is among those that are no tables."""
        return _fits(self.leave_out, names)

    def left_out(self, *names: str) -> str | None:
        """Say why a table is not wanted, by its names; `None` if it is."""
        if self.refuses(*names):
            return "left out by --not"
        return None if not self.tables or self.chooses(*names) else "not among --tables"

    def check(self, names: Iterable[str]) -> None:
        """Refuse a pattern that no name fits: it is a slip.

        Raises:
            DataError: For the first such pattern.
        """
        known = list(names)
        for option, patterns in (("--tables", self.tables), ("--not", self.leave_out)):
            for pattern in patterns:
                if not _fits([pattern], known):
                    some = ", ".join(known[:5]) + (", …" if len(known) > 5 else "")
                    raise DataError(f"{option} must fit a matrix ({some}), got '{pattern}'")


def _fits(patterns: Sequence[str], names: Sequence[str]) -> bool:
    return any(
        fnmatchcase(name, pattern if re.search(r"[*?[]", pattern) else f"*{pattern}*")
        for pattern in patterns
        for name in names
    )


def choose(checkpoint: Checkpoint, asked: Asked) -> Checkpoint:
    """Keep the tables that a user wants, by the names of fields or of tensors.

    Raises:
        DataError: If none is left, or a pattern fits no name.
    """
    every = (*checkpoint.tables, *checkpoint.unknown_role)
    named = [name for table in every for name in (table.name, *table.origin)]
    asked.check([*dict.fromkeys([*named, *(of.name for of in checkpoint.skipped)])])
    out: list[Skipped] = []

    def wanted(tables: Sequence[Table]) -> tuple[Table, ...]:
        kept = []
        for table in tables:
            reason = asked.left_out(table.name, *table.origin)
            if reason is None:
                kept.append(table)
            else:
                out.append(Skipped(table.name, (table.rows, table.width), reason))
        return tuple(kept)

    tables, unknown = wanted(checkpoint.tables), wanted(checkpoint.unknown_role)
    if not tables:
        raise DataError("--tables and --not must leave a table, got none left")
    whole = len(tables) == len(checkpoint.tables)
    return replace(
        checkpoint,
        tables=tables,
        unknown_role=unknown,
        skipped=(*checkpoint.skipped, *out),
        counts={t.name: checkpoint.counts[t.name] for t in tables if t.name in checkpoint.counts},
        cross_layers=checkpoint.cross_layers if whole else (),
        field_aware=checkpoint.field_aware and whole,
    )
