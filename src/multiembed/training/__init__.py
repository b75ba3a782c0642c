"""Logits -> a trained run."""

from multiembed.training.run import Run, load_run
from multiembed.training.trainer import Observer, Progress, train

__all__ = ["Observer", "Progress", "Run", "load_run", "train"]
