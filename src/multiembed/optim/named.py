"""Table optimizers by name."""

from typing import Protocol

from multiembed.errors import ConfigError
from multiembed.models.embedding import EmbeddingSets
from multiembed.optim.deferred_adam import DeferredAdam
from multiembed.optim.lazy_adam import LazyAdam
from multiembed.optim.rowwise_adagrad import RowWiseAdagrad
from multiembed.optim.tables import DenseAdam, TableOptimizer


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
