"""One model's checkpoints in order of time: what its fields gained and lost, at which step."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from multiembed.base.errors import DataError
from multiembed.data.store.dataset import read_vocabulary
from multiembed.diagnosis.diagnose import Progress, Source
from multiembed.diagnosis.drift import (
    KINDS,
    DriftDiagnosis,
    FieldDrift,
    FieldShift,
    FieldStep,
    LastingDirection,
)
from multiembed.diagnosis.drift_words import drift_findings, drift_headline
from multiembed.diagnosis.readers.asked import Asked
from multiembed.diagnosis.readers.checkpoint import read_source
from multiembed.diagnosis.readers.layouts import Cardinalities
from multiembed.diagnosis.readers.own_runs import is_run
from multiembed.diagnosis.readers.table import CHUNK_BYTES, Checkpoint, Table
from multiembed.diagnosis.row_keys import (
    OTHER,
    Keys,
    MatchedRows,
    Rows,
    checked_keys,
    match_by_key,
    match_by_number,
    named,
)
from multiembed.diagnosis.shifts import Shift, judge_steps
from multiembed.spectra.subspaces import SideBySide, Turn
from multiembed.spectra.summary import Summary, refuse_non_finite

STRONGEST = 5
"""Rows that a direction is told by."""


@dataclass(frozen=True, eq=False)
class _Opened:
    """One of the checkpoints, opened but not yet read."""

    name: str
    checkpoint: Checkpoint
    tables: Mapping[str, Table]
    keys: Callable[[str], Keys | None]
    """Of a field's rows, where it is known what they stand for."""


def diagnose_over_time(
    checkpoints: Sequence[Source] | Mapping[str, Source],
    *,
    keys: Sequence[Mapping[str, Iterable[object]]] | None = None,
    cardinalities: Cardinalities | None = None,
    progress: Progress | None = None,
) -> DriftDiagnosis:
    """Say how one model's tables changed from checkpoint to checkpoint, and which step shows.

    Rows are matched by the values they stand for where every checkpoint knows them (runs of this
    package, or `keys`), else by their number. Tables are compared as patterns over the rows that
    all of them have, so that it is no change to be rotated or scaled, as retrained tables are.

    >>> import numpy as np
    >>> import multiembed as me
    >>> rows = np.random.default_rng(0).standard_normal((500, 6))
    >>> june, july = {"site": rows}, {"site": rows[:, ::-1] * [2, 2, 2, 2, 2, 0]}
    >>> found = me.diagnose_over_time([june, july])
    >>> turn = found.fields[0].whole.turn
    >>> turn.kept, turn.gained, turn.lost
    (5, 0, 1)

    Args:
        checkpoints: Two or more, the oldest first: whatever `diagnose` reads, in order or by name.
        keys: For every checkpoint, what the rows of its tables stand for, `(rows,)` by field;
            fields that are not named are matched as if there were none.
        cardinalities: Field sizes in rows, where one table holds the rows of every field.
        progress: Called after every field with the number of fields done and of all fields.

    Raises:
        ConfigError: If one is a run whose configuration is broken.
        DataError: If there are fewer than two, one cannot be read, they have no field in common, a
            field has fewer than two rows in common, keys do not fit, or a number is not finite.
    """
    opened = _opened(checkpoints, keys, cardinalities)
    names = [of.tables.keys() for of in opened]
    shared = [name for name in names[0] if all(name in of for of in names)]
    if not shared:
        raise DataError("checkpoints must have a field in common, got none")
    compared = []
    for done, name in enumerate(shared, start=1):
        compared.append(_compared(name, opened))
        if progress is not None:
            progress(done, len(shared))
    test = judge_steps(np.stack([_distances(of.turns, len(opened)) for of in compared]))
    fields = tuple(_judged(of, opened, by) for of, by in zip(compared, test.shifts, strict=True))
    sources = tuple(of.name for of in opened)
    return DriftDiagnosis(
        version=version("multiembed"),
        date=date.today().isoformat(),
        sources=sources,
        headline=drift_headline(sources, fields, test),
        findings=drift_findings(sources, fields),
        alarm=any(of.alarm for of in fields),
        p_value=test.p_value,
        null=test.null,
        fields=fields,
        apart=tuple(sorted({*chain(*names)} - {*shared})),
    )


def _opened(
    checkpoints: Sequence[Source] | Mapping[str, Source],
    keys: Sequence[Mapping[str, Iterable[object]]] | None,
    cardinalities: Cardinalities | None,
) -> list[_Opened]:
    sources = [*checkpoints.values()] if isinstance(checkpoints, Mapping) else [*checkpoints]
    if len(sources) < 2:
        raise DataError(f"checkpoints must be two or more, got {len(sources)}")
    if keys is not None and len(keys) != len(sources):
        raise DataError(f"keys must be one mapping per checkpoint, {len(sources)}, got {len(keys)}")
    names = [*checkpoints] if isinstance(checkpoints, Mapping) else _names(sources)
    return [
        _open(name, source, None if keys is None else keys[at], cardinalities)
        for at, (name, source) in enumerate(zip(names, sources, strict=True))
    ]


def _names(sources: Sequence[Source]) -> list[str]:
    """Name checkpoints by the last part of their paths, or by all of them if that is not enough."""
    paths = [_path(source) for source in sources]
    short = [str(at) if of is None else of.name for at, of in enumerate(paths, start=1)]
    if len({*short}) == len(short):
        return short
    whole = [name if of is None else str(of) for name, of in zip(short, paths, strict=True)]
    return [f"{at} {name}" for at, name in enumerate(whole, start=1)]


def _path(source: Source) -> Path | None:
    """Return where a source lies; `None` for what is in memory."""
    return Path(source) if isinstance(source, str | Path) else None


def _open(
    name: str,
    source: Source,
    keys: Mapping[str, Iterable[object]] | None,
    cardinalities: Cardinalities | None,
) -> _Opened:
    checkpoint = read_source(source, Asked(cardinalities))
    tables = {table.name: table for table in checkpoint.tables}

    def keys_of(field: str) -> Keys | None:
        rows, subject = tables[field].rows, f"table '{field}' of {name}"
        if keys is not None and field in keys:
            return checked_keys(keys[field], rows, name=subject)
        path = _path(source)
        if path is None or not is_run(path) or field not in checkpoint.counts:
            return None  # rows of a field of numbers stand for no values
        values = read_vocabulary(path, field).sort("id")["value"]
        return checked_keys(pl.concat([pl.Series([OTHER]), values]), rows, name=subject)

    return _Opened(name, checkpoint, tables, keys_of)


@dataclass(frozen=True, eq=False)
class _Compared:
    """One field, all checkpoints compared with each other."""

    name: str
    matched: MatchedRows
    row_names: Callable[[Int[np.ndarray, " rows"]], list[str]]
    """What rows of the first checkpoint's table stand for."""
    side: SideBySide
    turns: Mapping[tuple[int, int], Turn]
    steps: tuple[FieldStep, ...]
    whole: FieldStep


def _compared(name: str, opened: Sequence[_Opened]) -> _Compared:
    sizes = [of.tables[name].rows for of in opened]
    keys = [of.keys(name) for of in opened]
    known = [of for of in keys if of is not None]
    by_key, last = len(known) == len(keys), len(opened) - 1
    matched = match_by_key(known) if by_key else match_by_number(sizes)
    ends = match_by_key(known[::last]) if by_key else match_by_number(sizes[::last])
    counts = [of.checkpoint.counts.get(name) for of in opened]
    trained = [of > 0 for of in counts if of is not None]
    matched = matched.only(trained) if len(trained) == len(counts) else matched
    if matched.count < 2:
        raise DataError(
            f"field '{name}' must have two rows or more in all checkpoints, got {matched.count}"
        )
    side = _side_by_side(name, opened, matched.rows)
    count = len(opened)
    turns = {(a, b): side.turn(a, b) for a in range(count) for b in range(a + 1, count)}

    def step(a: int, b: int, rows: MatchedRows, at: int) -> FieldStep:
        return FieldStep(
            rows_before=sizes[a],
            rows_after=sizes[b],
            new=rows.new[at],
            gone=rows.gone[at],
            turn=turns[a, b],
        )

    return _Compared(
        name=name,
        matched=matched,
        row_names=lambda rows: named(known[0], rows) if by_key else [str(row) for row in rows],
        side=side,
        turns=turns,
        steps=tuple(step(at, at + 1, matched, at) for at in range(count - 1)),
        whole=step(0, last, ends, 0),
    )


def _judged(of: _Compared, opened: Sequence[_Opened], shift: Shift) -> FieldDrift:
    alarm = shift.certain and shift.abrupt
    return FieldDrift(
        name=of.name,
        matched_by=of.matched.by,
        rows=of.matched.count,
        abundance=tuple(of.side.abundance(place) for place in range(len(of.steps) + 1)),
        steps=of.steps,
        whole=of.whole,
        largest=shift.step,
        kind=KINDS[shift.kind],
        shift=_shifted(of, opened, shift.step) if alarm else None,
        p_value=shift.p_value,
        alarm=alarm,
        drifts=shift.certain and not shift.abrupt,
    )


def _shifted(of: _Compared, opened: Sequence[_Opened], step: int) -> FieldShift:
    cut = of.side.cut(step + 1)
    weights = np.concatenate([cut.lost.weights, cut.gained.weights], axis=1)
    chunks = _aligned(of.name, opened, of.matched.rows)
    patterns = np.concatenate([np.concatenate(rows, axis=1) @ weights for _, rows in chunks])
    squares = (patterns - patterns.mean(axis=0)) ** 2
    first = of.matched.rows[0]

    def told(column: int, energy: float) -> LastingDirection:
        most = np.argsort(-squares[:, column])[:STRONGEST]
        numbers = most if isinstance(first, int) else first[most]
        return LastingDirection(
            energy=energy,
            rows=tuple(of.row_names(numbers)),
            share=float(squares[most, column].sum()),
        )

    energies = [float(energy) for energy in (*cut.lost.energies, *cut.gained.energies)]
    directions = [told(column, energy) for column, energy in enumerate(energies)]
    lost = len(cut.lost.energies)
    return FieldShift(
        before=cut.before,
        after=cut.after,
        kept=cut.kept,
        lost=tuple(directions[:lost]),
        gained=tuple(directions[lost:]),
    )


def _side_by_side(name: str, opened: Sequence[_Opened], rows: Sequence[Rows]) -> SideBySide:
    widths = [of.tables[name].width for of in opened]
    joint = Summary.empty(sum(widths))
    for start, chunks in _aligned(name, opened, rows):
        for of, chunk in zip(opened, chunks, strict=True):
            if not np.isfinite(chunk.sum(dtype=np.float64)):
                subject = f"table '{name}' of {of.name}"
                refuse_non_finite(chunk.astype(np.float64), name=subject, start=start)
        joint.add(np.concatenate(chunks, axis=1), name=f"field '{name}'")
    return SideBySide(joint, widths)


def _aligned(
    name: str, opened: Sequence[_Opened], rows: Sequence[Rows]
) -> Iterator[tuple[int, list[Float[np.ndarray, "chunk _"]]]]:
    """Yield the matched rows of a field's tables, a few thousand at a time."""
    tables = [of.tables[name] for of in opened]
    readers = [_reader(table, of) for table, of in zip(tables, rows, strict=True)]
    count = rows[0] if isinstance(rows[0], int) else len(rows[0])
    step = max(1, CHUNK_BYTES // (8 * sum(table.width for table in tables)))
    for start in range(0, count, step):
        stop = min(start + step, count)
        yield start, [read(start, stop) for read in readers]


def _reader(table: Table, rows: Rows) -> Callable[[int, int], Float[np.ndarray, "chunk _"]]:
    if isinstance(rows, int):
        return table.read
    whole = table.read(0, table.rows)[rows]  # no file is read row by row in another order
    return lambda start, stop: whole[start:stop]


def _distances(turns: Mapping[tuple[int, int], Turn], count: int) -> Float[np.ndarray, "kinds _ _"]:
    """Return squared distances between all checkpoints, of every kind in `KINDS`."""
    found = np.zeros((len(KINDS), count, count))
    for (a, b), turn in turns.items():
        found[:, a, b] = found[:, b, a] = turn.spectral_distance, 1 - turn.overlap, 1 - turn.cka
    return found
