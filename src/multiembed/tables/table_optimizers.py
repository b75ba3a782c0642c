"""Table optimizers by name; nothing is loaded before it is asked for."""

from typing import TYPE_CHECKING

from multiembed.base.registry import Registry

if TYPE_CHECKING:
    from multiembed.tables.interface import TableOptimizer

_TABLES = "multiembed.tables"
TABLE_OPTIMIZERS: "Registry[type[TableOptimizer]]" = Registry(
    "table optimizer",
    {
        "deferred_adam": f"{_TABLES}.adam:DeferredAdam",
        "dense_adam": f"{_TABLES}.adam:DenseAdam",
        "lazy_adam": f"{_TABLES}.row_optimizers:LazyAdam",
        "rowwise_adagrad": f"{_TABLES}.row_optimizers:RowWiseAdagrad",
    },
)
"""Each is made as `TABLE_OPTIMIZERS[name](embedding, learning_rate=…, weight_decay=…)`."""
