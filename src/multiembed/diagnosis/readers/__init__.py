"""Checkpoints of this package, of other libraries and of nobody in particular -> tables."""
