"""Memory of the CPU for results of kernels, in pieces that serve again."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def fitting(*shape: int, dtype: torch.dtype = torch.float32) -> Float[Tensor, "*shape"]:
    """Return an uninitialised tensor on the CPU that fits where one of its size was freed.

    Torch asks for aligned memory. Of it, glibc cuts a sliver off a free block; where a small object
    takes the sliver, the block is too small for its like for ever, and the heap grows.
    """
    memory = np.empty(shape, dtype=f"u{torch.finfo(dtype).bits // 8}")
    return torch.from_numpy(memory).view(dtype)
