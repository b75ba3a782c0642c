"""Memory of this process: how much it held, and an allocator that keeps it for what comes next."""

import ctypes
import sys

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_MAX = -4
TOP_PAD = 1 << 26
"""Bytes by which the heap grows at least."""


def keep_freed_memory() -> bool:
    """Let this process reuse freed memory instead of returning it to the system.

    A training step frees and asks for the same large blocks again; by default every one of them
    is mapped anew and its pages are zeroed. Only glibc knows how; elsewhere nothing changes. The
    process holds its peak from then on. The command line does this; a program of your own may.

    Returns:
        Whether the allocator took the settings.
    """
    if not sys.platform.startswith("linux"):
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:
        return False
    # Of a block's two ways back to the system, one is closed each: mapping apart, and trimming.
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, TOP_PAD))
    return all([set_option(option, value) == 1 for option, value in settings])


def fitting(*shape: int, dtype: torch.dtype = torch.float32) -> Float[Tensor, "*shape"]:
    """Return an uninitialised tensor on the CPU that fits where one of its size was freed.

    Torch asks for aligned memory. Of it, glibc cuts a sliver off a free block; where a small object
    takes the sliver, the block is too small for its like for ever, and the heap grows.
    """
    memory = np.empty(shape, dtype=f"u{torch.finfo(dtype).bits // 8}")
    return torch.from_numpy(memory).view(dtype)


def peak_memory() -> int:
    """Return the most memory that this process has held, in bytes; 0 where no one counts it."""
    try:
        import resource  # Windows has none
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
