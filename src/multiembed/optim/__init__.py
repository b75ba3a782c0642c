"""Updates of embedding tables."""

from multiembed.optim.tables import DenseAdam, TableOptimizer

__all__ = ["DenseAdam", "TableOptimizer"]
