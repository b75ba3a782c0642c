"""What the cross layers of a model make of its tables, layer by layer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from multiembed.diagnosis.field import FieldDiagnosis
from multiembed.diagnosis.readers.table import Checkpoint
from multiembed.spectra.measures import null_information_abundance
from multiembed.spectra.subembeddings import (
    Attribution,
    CoInfluence,
    SubEmbeddings,
    attribute,
    interaction_patterns,
    sub_embeddings,
    sub_embeddings_per_set,
)
from multiembed.spectra.summary import Summary

PULL = math.log(1.5)
"""A field pulls others down if meeting it costs them a third of their abundance beyond chance.

Chance is a random projection. A projection onto one direction is found from 3 columns on.
"""

MOST_PULLERS = 5
"""How many such fields a verdict names."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerDiagnosis:
    """One layer's sub-embeddings; rows are source fields i, columns target fields j."""

    name: str
    abundance: Float64[np.ndarray, "fields fields"]
    """`IA(E_i^{->j})`, all sets side by side."""
    by_source: Float64[np.ndarray, " fields"]
    """Sum over targets."""
    by_target: Float64[np.ndarray, " fields"]
    """Sum over sources."""
    co_influence: CoInfluence
    per_set: tuple[Float64[np.ndarray, "fields fields"], ...]
    """The same for every set by itself; empty for one set, and beyond the first layer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class InteractionDiagnosis:
    """Who collapses whom; the first layer in full, as in the paper, the others in short."""

    fields: list[str]
    layers: list[LayerDiagnosis]
    attribution: Attribution | None
    """Of the first layer's falls; `None` where the model has no projections (FFM)."""
    pull: Float64[np.ndarray, " fields"] | None
    """How far meeting field j flattens what others show it, in nats."""
    chance_pull: float | None
    """The pull of a random square projection, which is itself not ideal."""
    pullers: list[str]
    """Fields that pull others down, the worst first."""
    patterns: Float64[np.ndarray, "sets fields fields"] | None
    """`|W_{i->j}|_F` in the first layer, per set."""


def diagnose_interaction(
    checkpoint: Checkpoint, fields: Sequence[FieldDiagnosis], summaries: Sequence[Summary]
) -> InteractionDiagnosis | None:
    """Measure what the cross layers see; `None` for a model that has none.

    Tables of zeros have no directions to carry, so a model with one is measured without.
    """
    if checkpoint.field_aware:
        return _field_aware(fields)
    if not checkpoint.cross_layers:
        return None
    projections = [layer.whole().double().numpy() for layer in checkpoint.cross_layers]
    layers = []
    for number, projection in enumerate(projections, start=1):
        first = number == 1 and fields[0].sets > 1
        sets = sub_embeddings_per_set(summaries, projection) if first else ()
        found = sub_embeddings(summaries, projection)
        layers.append(_layer(f"cross layer {number}", found, [one.abundance for one in sets]))
    attribution = attribute(summaries, projections[0])
    dim = fields[0].dim
    chance = math.log(dim / null_information_abundance(dim, dim))
    return InteractionDiagnosis(
        fields=[field.name for field in fields],
        layers=layers,
        attribution=attribution,
        pull=attribution.pull,
        chance_pull=chance,
        pullers=_pullers(fields, attribution.pull, above=chance + PULL),
        patterns=interaction_patterns(projections[0], fields=len(fields)),
    )


def _layer(
    name: str, found: SubEmbeddings, per_set: Sequence[Float64[np.ndarray, "fields fields"]]
) -> LayerDiagnosis:
    return LayerDiagnosis(
        name=name,
        abundance=found.abundance,
        by_source=found.by_source,
        by_target=found.by_target,
        co_influence=found.co_influence(),
        per_set=tuple(per_set),
    )


def _pullers(
    fields: Sequence[FieldDiagnosis], pull: Float64[np.ndarray, " fields"], *, above: float
) -> list[str]:
    order = np.argsort(-np.nan_to_num(pull, nan=-math.inf))
    strong = [fields[int(j)].name for j in order if pull[j] > above]
    return strong[:MOST_PULLERS]


def _field_aware(fields: Sequence[FieldDiagnosis]) -> InteractionDiagnosis | None:
    """An FFM learns its sub-embeddings itself: every part of a table is one (Figure 14)."""
    count = len(fields)
    if any(len(field.per_set) != count - 1 for field in fields):
        return None
    abundance = np.full((count, count), np.nan)
    for i, field in enumerate(fields):
        abundance[i, np.arange(count) != i] = [v.information_abundance for v in field.per_set]
    found = SubEmbeddings(
        abundance=abundance, tables=np.array([field.information_abundance for field in fields])
    )
    return InteractionDiagnosis(
        fields=[field.name for field in fields],
        layers=[_layer("field-aware tables", found, [])],
        attribution=None,
        pull=None,
        chance_pull=None,
        pullers=[],
        patterns=None,
    )
