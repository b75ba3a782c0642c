"""Whether the embedding sets of a model see different things, field by field and on average."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from multiembed.base.errors import DataError
from multiembed.diagnosis.field import FieldDiagnosis
from multiembed.spectra.diversity import (
    Diversity,
    MeanDiversity,
    mean_diversity,
    random_set_diversity,
    set_diversity,
)
from multiembed.spectra.summary import Summary


@dataclass(frozen=True, kw_only=True, eq=False)
class SetsDiagnosis:
    """How different the sets are (Figure 10a), beside random tables of the same shapes."""

    split: bool
    """Whether these are the columns of one set, split for comparison."""
    fields: list[str]
    """Fields measured; tables of zeros have no directions to compare."""
    per_field: list[MeanDiversity]
    """Means over the pairs of sets of each field."""
    random: list[MeanDiversity]
    """The same for a random table of each field's shape."""
    mean: MeanDiversity
    """Over fields."""
    random_mean: MeanDiversity
    pairs: Float64[np.ndarray, "sets sets"]
    """Rank-aware diversity of every pair of sets, over fields."""


def diagnose_sets(
    fields: Sequence[FieldDiagnosis], summaries: Sequence[Summary], *, split: int | None = None
) -> SetsDiagnosis | None:
    """Compare the sets of every field; `None` for a model with one set that is not split.

    Args:
        fields: One record per field.
        summaries: Of the same fields, all sets side by side.
        split: Take the columns of a model with one set as so many sets, in order.

    Raises:
        DataError: If the columns do not divide into `split` sets.
    """
    sets = fields[0].sets if fields[0].sets > 1 else split
    if sets is None:
        return None
    measured = [
        (field, summary)
        for field, summary in zip(fields, summaries, strict=True)
        if _all_in_use(field, summary, sets)
    ]
    if not measured:
        return None
    found = [set_diversity(summary, sets=sets) for _, summary in measured]
    random = [
        random_set_diversity(field.cardinality, summary.dim // sets, sets=sets)
        for field, summary in measured
    ]
    return SetsDiagnosis(
        split=fields[0].sets == 1,
        fields=[field.name for field, _ in measured],
        per_field=[mean_diversity([one]) for one in found],
        random=[mean_diversity([one]) for one in random],
        mean=mean_diversity(found),
        random_mean=mean_diversity(random),
        pairs=_over_fields(found),
    )


def _all_in_use(field: FieldDiagnosis, summary: Summary, sets: int) -> bool:
    """Whether every set of a field holds something else than zeros."""
    if sets < 2 or summary.dim % sets:
        raise DataError(
            f"split_sets must divide the {summary.dim} columns of field {field.name} "
            f"into at least 2 sets, got {sets}"
        )
    return bool((summary.gram.diagonal().reshape(sets, -1).sum(axis=1) > 0).all())


def _over_fields(found: Sequence[Diversity]) -> Float64[np.ndarray, "sets sets"]:
    return np.mean([one.rank_aware_diversity for one in found], axis=0)
