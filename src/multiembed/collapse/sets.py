"""Whether the embedding sets of a model see different things, field by field and on average."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from multiembed.collapse.diversity import (
    Diversity,
    MeanDiversity,
    mean_diversity,
    random_set_diversity,
    set_diversity,
)
from multiembed.collapse.field import FieldDiagnosis
from multiembed.collapse.summary import Summary


@dataclass(frozen=True, kw_only=True, eq=False)
class SetsDiagnosis:
    """How different the sets are (Figure 10a), beside random tables of the same shapes."""

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
    fields: Sequence[FieldDiagnosis], summaries: Sequence[Summary]
) -> SetsDiagnosis | None:
    """Compare the sets of every field; `None` for a model with one set."""
    if fields[0].sets == 1:
        return None
    measured = [
        (field, summary)
        for field, summary in zip(fields, summaries, strict=True)
        if field.information_abundance and all(v.information_abundance for v in field.per_set)
    ]
    if not measured:
        return None
    found = [set_diversity(summary, sets=field.sets) for field, summary in measured]
    random = [
        random_set_diversity(field.cardinality, field.dim, sets=field.sets) for field, _ in measured
    ]
    return SetsDiagnosis(
        fields=[field.name for field, _ in measured],
        per_field=[mean_diversity([one]) for one in found],
        random=[mean_diversity([one]) for one in random],
        mean=mean_diversity(found),
        random_mean=mean_diversity(random),
        pairs=_over_fields(found),
    )


def _over_fields(found: Sequence[Diversity]) -> Float64[np.ndarray, "sets sets"]:
    return np.mean([one.rank_aware_diversity for one in found], axis=0)
