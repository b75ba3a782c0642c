"""Table optimizers by name."""

from typing import Protocol

from multiembed.base.errors import ConfigError
from multiembed.models.embedding import EmbeddingSets
from multiembed.tables.deferred_adam import DeferredAdam
from multiembed.tables.interface import DenseAdam, TableOptimizer
from multiembed.tables.lazy_adam import LazyAdam
from multiembed.tables.rowwise_adagrad import RowWiseAdagrad


class TableOptimizerClass(Protocol):
    """How a table optimizer is made."""

    def __call__(
        self, embedding: EmbeddingSets, *, learning_rate: float, weight_decay: float
    ) -> TableOptimizer:
        """Begin to update the tables of `embedding`."""
        ...


TABLE_OPTIMIZERS: dict[str, TableOptimizerClass] = {
    "deferred_adam": DeferredAdam,
    "dense_adam": DenseAdam,
    "lazy_adam": LazyAdam,
    "rowwise_adagrad": RowWiseAdagrad,
}


def table_optimizer(
    name: str, embedding: EmbeddingSets, *, learning_rate: float, weight_decay: float
) -> TableOptimizer:
    """Make the table optimizer called `name` for tables on the device they will be trained on.

    Raises:
        ConfigError: If there is none of this name.
    """
    if name not in TABLE_OPTIMIZERS:
        raise ConfigError(f"table optimizer must be one of {sorted(TABLE_OPTIMIZERS)}, got {name}")
    return TABLE_OPTIMIZERS[name](embedding, learning_rate=learning_rate, weight_decay=weight_decay)
