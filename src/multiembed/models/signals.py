"""What rows have beside an id for each field, as a model is told of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from multiembed.models.histories import Histories
from multiembed.models.naming import Numeric
from multiembed.models.vector_settings import Pretrained


@dataclass(frozen=True)
class Signals:
    """What rows have beside an id for each field.

    Args:
        histories: Fields behind the others that read tables of theirs; `slots` counts them, too. An
            id of -1 is no value wherever it stands: without any, the embedding is zero.
        numeric: Fields that have a `NumericEmbedding` in place of a table. Such a field has one
            column of ids like any other, which is not looked at.
        pretrained: Vectors of values by the number of their field, see `ValueVectors`; of fields
            that have a table which no history reads.
    """

    histories: Histories = field(default_factory=Histories)
    numeric: Numeric = field(default_factory=Numeric)
    pretrained: Mapping[int, Pretrained] = field(default_factory=dict)
