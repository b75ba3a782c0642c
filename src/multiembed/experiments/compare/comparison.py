"""What a comparison found: quality of each contender, differences to ours, and what it rests on."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from multiembed.base.errors import DataError
from multiembed.data.store.dataset import Dataset
from multiembed.experiments.analysis.paired_rows import auc_difference, log_loss_difference
from multiembed.experiments.analysis.statistics import paired_difference
from multiembed.experiments.compare.contender_columns import Columns, SplitColumns
from multiembed.experiments.compare.fits import Difference, Result, Standing
from multiembed.experiments.compare.row_facts import RareRows, RowFacts, rare_rows, row_facts
from multiembed.experiments.compare.worth import verdict


@dataclass(frozen=True)
class Comparison:
    """Everybody on the same rows, as `me.compare` returns it."""

    dataset: str
    rows: Mapping[str, int]
    """Of every split."""
    positives: Mapping[str, int]
    threads: int
    seeds: int
    standings: tuple[Standing, ...]
    """In the order in which they were fitted."""
    reference: str
    """Name of the best of ours by validation log loss (of all, where ours is not among them)."""
    differences: Mapping[str, Difference]
    """By name, of all others to the reference."""
    facts: RowFacts
    rare_rows: RareRows | None
    """Where the difference to the best of the others lies; None where rows cannot be told apart."""
    notes: tuple[str, ...]
    """What contenders saw otherwise than ours did."""
    failures: Mapping[str, str]
    """By title, why one could not be fitted."""
    verdict: tuple[str, ...]
    """What the numbers say, in sentences."""

    def named(self, name: str) -> Standing:
        """Return a contender."""
        return next(one for one in self.standings if one.name == name)

    @property
    def threads_in_words(self) -> str:
        """How many threads each had."""
        return f"{self.threads} thread{'s' if self.threads > 1 else ''}"

    @property
    def basis(self) -> str:
        """What the intervals are of."""
        if self.seeds > 1:
            return f"paired over {self.seeds} seeds, Student's t"
        return "paired over test rows, one fit each"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it; intervals as difference, low and high."""
        content = asdict(self)
        content["differences"] = {
            name: {of: getattr(found, of)._asdict() for of in ("auc", "log_loss")}
            for name, found in self.differences.items()
        }
        if self.rare_rows is not None:
            content["rare_rows"] |= {
                of: getattr(self.rare_rows, of)._asdict() for of in ("rare", "frequent")
            }
        return {**content, "intervals": self.basis}


def compared(
    results: Sequence[Result],
    dataset: Dataset,
    columns: Columns,
    *,
    threads: int,
    failures: Mapping[str, str],
) -> Comparison:
    """Put all fits together and say what they show."""
    by_name: dict[str, list[Result]] = {}
    for result in results:
        by_name.setdefault(result.name, []).append(result)
    standings = tuple(map(_standing, by_name.values()))
    seeds = max(one.fits for one in standings)
    reference = _best([one for one in standings if one.is_ours] or standings)
    others = [one for one in standings if one is not reference]
    differences = {
        one.name: _difference(by_name[one.name], by_name[reference.name], columns.test)
        for one in others
    }
    facts, rare = row_facts(dataset, columns), None
    rivals = [one for one in others if not one.is_ours]
    if rivals:
        pair = (by_name[of.name] for of in (_best(rivals), reference))
        rare = rare_rows(columns, *([of.probabilities for of in fits] for fits in pair))
    splits = dataset.schema.splits
    return Comparison(
        dataset=str(dataset.path),
        rows={str(name): of.rows for name, of in splits.items()},
        positives={str(name): of.positives for name, of in splits.items()},
        threads=threads,
        seeds=seeds,
        standings=standings,
        reference=reference.name,
        differences=differences,
        facts=facts,
        rare_rows=rare,
        notes=tuple(columns.notes),
        failures=dict(failures),
        verdict=tuple(verdict(reference, others, differences, facts, rare)),
    )


def _best(standings: Sequence[Standing]) -> Standing:
    """Return the best on validation rows: so the choice does not flatter what is judged on test."""
    return min(standings, key=lambda one: one.valid_log_loss)


def _standing(fits: Sequence[Result]) -> Standing:
    first = fits[0]

    def mean(measure: str) -> float:
        return float(np.mean([fit.test[measure] for fit in fits]))

    return Standing(
        name=first.name,
        title=first.title,
        is_ours=first.is_ours,
        is_tree=first.is_tree,
        fits=len(fits),
        auc=mean("auc"),
        log_loss=mean("log_loss"),
        calibration_ratio=mean("calibration_ratio"),
        seconds=float(np.mean([fit.seconds for fit in fits])),
        valid_log_loss=float(np.mean([fit.valid_log_loss for fit in fits])),
        settings=first.settings,
        chosen=[fit.chosen for fit in fits],
    )


def _difference(
    first: Sequence[Result], second: Sequence[Result], test: SplitColumns
) -> Difference:
    """Compare over test rows where there is one fit of each, else over seeds."""
    if len(first) == len(second) == 1:
        pair = first[0].probabilities, second[0].probabilities
        return Difference(
            auc_difference(test.labels, *pair, test.weights),
            log_loss_difference(test.labels, *pair, test.weights),
        )
    seeds = sorted({fit.seed for fit in (*first, *second) if fit.seed is not None})
    pairs = [(_of_seed(first, seed), _of_seed(second, seed)) for seed in seeds]
    whole = [(a, b) for a, b in pairs if a is not None and b is not None]
    if not whole:
        raise DataError("contenders must have a seed in common, got none")
    auc, loss = (
        paired_difference([a.test[of] for a, _ in whole], [b.test[of] for _, b in whole]).t
        for of in ("auc", "log_loss")
    )
    return Difference(auc, loss)


def _of_seed(fits: Sequence[Result], seed: int) -> Result | None:
    return next((fit for fit in fits if fit.seed in (seed, None)), None)
