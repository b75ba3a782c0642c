"""What each field does for a model: how much worse it predicts with other rows' values of it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int64

from multiembed.base.errors import ConfigError, DataError
from multiembed.data.store.dataset import Dataset
from multiembed.data.store.schema import Schema
from multiembed.data.store.shards import Batch
from multiembed.runs.influence import Z, auc_influence, log_loss_influence
from multiembed.runs.run import Run, load_run

MOST_PERMUTED = 50_000
"""Rows that are permuted unless more are asked for."""


class Effect(NamedTuple):
    """A number with its 95% interval, over the draw of the rows and of the permutations."""

    value: float
    low: float
    high: float


class FieldImportance(NamedTuple):
    """What a field's values do for a model."""

    field: str
    auc: Effect
    """How far the AUC falls when rows get the field's values of other rows."""
    log_loss: Effect
    """How far the log loss rises."""


class Importance(NamedTuple):
    """What all fields do for a model, on rows of a split."""

    split: str
    rows: int
    of_rows: int
    """The split's; of more than asked for, `rows` were drawn."""
    repeats: int
    auc: float
    log_loss: float
    """As the rows are."""
    fields: tuple[FieldImportance, ...]
    """Those first without which the AUC falls most."""

    def to_json(self) -> dict[str, object]:
        """Return it as what JSON can hold."""
        fields = [
            {"field": of.field, "auc": of.auc._asdict(), "log_loss": of.log_loss._asdict()}
            for of in self.fields
        ]
        return {**self._asdict(), "fields": fields}


def importance(
    run: Run | Path | str,
    split: str = "test",
    *,
    dataset: Dataset | Path | str | None = None,
    repeats: int = 5,
    seed: int = 0,
    max_rows: int = MOST_PERMUTED,
    calibrated: bool | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Importance:
    """Measure how much worse a run predicts when one field's values are permuted among the rows.

    A field keeps its cells whole: all values of a cell or a history, a number with its bucket.
    Fields that tell the same share what they do: permuted alone, neither is missed much.

        >>> import multiembed as me
        >>> from multiembed.testing.planted_clicks import PlantedClicks, write_planted
        >>> _ = write_planted("clicks", PlantedClicks(cardinalities=(20, 8), ranks=2, rows=2000))
        >>> model = me.ModelConfig(architecture="dnn", dim=2, options={"hidden": [4]})
        >>> config = me.RunConfig(model=model, training=me.TrainingConfig(max_epochs=1, threads=1))
        >>> found = me.importance(me.train(config, dataset="clicks", run="run"), repeats=3)
        >>> sorted(of.field for of in found.fields), found.rows
        (['f0', 'f1'], 200)

    Args:
        run: A trained run, or its directory.
        split: `train`, `valid` or `test`.
        dataset: Other rows, of the same vocabularies, in place of the run's own.
        repeats: Permutations of every field, at least 2.
        seed: Of the permutations, and of the draw of rows.
        max_rows: Most rows; of more, so many are drawn.
        calibrated: Whether the run's calibration is applied, as `Run.score` does.
        progress: Called with how many permutations are scored, and of how many.

    Raises:
        ConfigError: If there are fewer than 2 repeats or rows.
        DataError: If the dataset cannot be read or is another one, or the rows are of one class.
    """
    for name, value in (("repeats", repeats), ("max_rows", max_rows)):
        if value < 2:
            raise ConfigError(f"{name} must be at least 2, got {value}")
    run = load_run(run)
    of = run.dataset(dataset).split(split)
    drawn = np.random.default_rng((seed, 0)).choice(of.rows, min(of.rows, max_rows), replace=False)
    rows = of.take(np.sort(drawn))
    if not 0 < np.count_nonzero(rows.labels) < len(rows.labels):
        raise DataError(f"rows of {split} must be of both classes, got {len(drawn):,} of one")
    calibration = run.applied(calibrated)

    def predict(batch: Batch) -> Float[np.ndarray, " rows"]:
        probabilities = run.predict(batch.ids, batch.numbers)
        return probabilities if calibration is None else calibration.apply(probabilities)

    order = np.random.default_rng((seed, 1))
    permutations = [order.permutation(len(drawn)) for _ in range(repeats)]
    measured = permuted(predict, rows, columns_of(run.schema), permutations, progress)
    fields = _by_importance(run.schema, measured.fields)
    return Importance(split, len(drawn), of.rows, repeats, *measured.base, fields)


def _by_importance(
    schema: Schema, found: Sequence[tuple[Effect, Effect]]
) -> tuple[FieldImportance, ...]:
    named = [FieldImportance(of.name, *both) for of, both in zip(schema.fields, found, strict=True)]
    return tuple(sorted(named, key=lambda of: (-of.auc.value, -of.log_loss.value)))


FieldColumns = tuple[slice, int | None]
"""Where a field's ids are in a row, and its number if it has one."""


def columns_of(schema: Schema) -> list[FieldColumns]:
    """Return where every field's cells are, in the order of `schema.fields`."""
    ends = np.cumsum(schema.slots).tolist()
    number = iter(range(schema.numbers))
    return [
        (slice(end - field.slots, end), next(number) if field.number is not None else None)
        for field, end in zip(schema.fields, ends, strict=True)
    ]


class Permuted(NamedTuple):
    """AUC and log loss of rows as they are, and how each field's permutations change them."""

    base: tuple[float, float]
    fields: list[tuple[Effect, Effect]]
    """How far the AUC falls, and how far the log loss rises."""


def permuted(
    predict: Callable[[Batch], Float[np.ndarray, " rows"]],
    rows: Batch,
    fields: Sequence[FieldColumns],
    permutations: Sequence[Int64[np.ndarray, " rows"]],
    progress: Callable[[int, int], None] | None = None,
) -> Permuted:
    """Score rows with the cells of each field taken from other rows.

    Args:
        predict: What is measured; it must not change its rows.
        rows: With both labels.
        fields: Where the cells of each are.
        permutations: For every repeat, the row that each row's cell is taken from.
        progress: Called with how many permutations are scored, and of how many.
    """
    measures = (auc_influence, log_loss_influence)
    changed = rows.map(np.copy)

    def measured() -> list[tuple[float, Float64[np.ndarray, " rows"]]]:
        probabilities = predict(changed)
        return [of(rows.labels, probabilities, rows.weights) for of in measures]

    base, found = measured(), []
    for at, (columns, number) in enumerate(fields):
        cells = [(changed.ids, rows.ids, columns)]
        if number is not None and changed.numbers is not None and rows.numbers is not None:
            cells.append((changed.numbers, rows.numbers, slice(number, number + 1)))
        repeats = []
        for repeat, taken in enumerate(permutations):
            for to, source, place in cells:
                to[:, place] = source[taken, place]
            repeats.append(measured())
            if progress is not None:
                progress(at * len(permutations) + repeat + 1, len(fields) * len(permutations))
        for to, source, place in cells:
            to[:, place] = source[:, place]
        auc, loss = (
            _estimate(own, of, permutations)
            for own, of in zip(base, zip(*repeats, strict=True), strict=True)
        )
        found.append((Effect(0 - auc.value, 0 - auc.high, 0 - auc.low), loss))
    return Permuted((base[0][0], base[1][0]), found)


def _estimate(
    base: tuple[float, Float64[np.ndarray, " rows"]],
    repeats: Sequence[tuple[float, Float64[np.ndarray, " rows"]]],
    permutations: Sequence[Int64[np.ndarray, " rows"]],
) -> Effect:
    """Return the mean change of a measure, and how sure it is.

    What row i with the cell of row k adds to the change is, by Hoeffding's decomposition, a part of
    row i, a part of row k and one of the pair. A permutation uses every row once in each role, so
    that the first two parts keep their noise however often it is repeated, and the last is
    averaged: `Var = Var(part of i as both) / n + Var(part of pairs) / (n repeats)`. The variances
    within one row's changes give what repeats leave of other rows in its mean.
    """
    count, rows = len(repeats), len(base[1])
    received = np.array([influence - base[1] for _, influence in repeats])
    given = np.empty_like(received)
    for own, to, taken in zip(given, received, permutations, strict=True):
        own[taken] = to
    of_row = (received.mean(axis=0) + given.mean(axis=0)).var()
    within = sum(float(of.var(axis=0, ddof=1).mean()) for of in (received, given))
    of_pairs = max(0.0, within - float(received.var()))
    variance = (max(0.0, float(of_row) - within / count) + of_pairs / count) / rows
    value = float(np.mean([found - base[0] for found, _ in repeats]))
    reach = Z * variance**0.5
    return Effect(value, value - reach, value + reach)
