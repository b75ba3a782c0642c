"""Logits -> a trained run."""

from multiembed.training.progress import Observer, Progress
from multiembed.training.run import Run, load_run
from multiembed.training.start import train

__all__ = ["Observer", "Progress", "Run", "load_run", "train"]
