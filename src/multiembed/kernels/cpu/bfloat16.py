"""Float32 and bfloat16 numbers as bits, which compiled loops read and write alike.

A bfloat16 number is the upper half of a float32 one: widening is a shift, and narrowing one with
rounding to the nearest, ties to even. Compiled functions carry no annotations: numba sees the
types of each call, and all that depends on the width of a number is settled then.
"""

# ruff: noqa: ANN001, ANN201

from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float, UInt
from torch import Tensor

from multiembed.base.loops import compiled


def bits(tensor: Float[Tensor, "*shape"]) -> UInt[np.ndarray, "*shape"]:
    """View a tensor's numbers as bits, row after row in memory; a copy if they lie otherwise."""
    width = torch.uint16 if tensor.dtype == torch.bfloat16 else torch.uint32
    return tensor.detach().contiguous().view(width).numpy()


@compiled
@no_type_check
def widen(narrow_bits, wide_bits):
    """Write numbers of either width as bits of float32."""
    shift = np.uint32(32 - 8 * narrow_bits.itemsize)
    for j in range(len(wide_bits)):
        wide_bits[j] = np.uint32(narrow_bits[j]) << shift


@compiled
@no_type_check
def narrow(wide_bits, narrow_bits):
    """Round bits of float32 to the width of the result."""
    shift = np.uint32(32 - 8 * narrow_bits.itemsize)
    half = np.uint32(0x7FFF if shift else 0)
    last = np.uint32(1 if shift else 0)
    # What is no number stays none: a CPU's own have zeros where rounding could carry from.
    for j in range(len(narrow_bits)):
        number = wide_bits[j]
        narrow_bits[j] = (number + half + ((number >> shift) & last)) >> shift
