"""Updates of embedding tables."""

from multiembed.optim.deferred_adam import DeferredAdam
from multiembed.optim.lazy_adam import LazyAdam
from multiembed.optim.named import TABLE_OPTIMIZERS, table_optimizer
from multiembed.optim.rowwise_adagrad import RowWiseAdagrad
from multiembed.optim.tables import DenseAdam, TableOptimizer

__all__ = [
    "TABLE_OPTIMIZERS",
    "DeferredAdam",
    "DenseAdam",
    "LazyAdam",
    "RowWiseAdagrad",
    "TableOptimizer",
    "table_optimizer",
]
