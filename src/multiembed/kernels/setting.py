"""Whether fast forms of operations may run: one setting for the whole process."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Kernels = Literal["auto", "torch"]
"""`auto`: the fastest form that serves; `torch`: plain torch for every operation."""

_kernels: Kernels = "auto"  # no context variable: threads that score rows must see it, too


@contextmanager
def using_kernels(kernels: Kernels) -> Iterator[None]:
    """Run a block in which all threads compute by fast forms, or by plain torch alone."""
    global _kernels
    before, _kernels = _kernels, kernels
    try:
        yield
    finally:
        _kernels = before


def chosen_kernels() -> Kernels:
    """Return what holds now."""
    return _kernels
