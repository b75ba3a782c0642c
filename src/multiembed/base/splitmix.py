"""SplitMix64: well mixed bits of a number's place in a stream, for arrays and compiled loops."""

from typing import no_type_check

import numpy as np
from numba.extending import register_jitable

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""Distance of neighbours in a stream: number n of the stream of a seed is
`mix64(seed + (n + 1) * GOLDEN)`."""


@register_jitable
@no_type_check
def mix64(z):  # noqa: ANN001, ANN201  (Numba sees the types of each call)
    """Return 64 bits that each depend on all bits of `z` (Steele, Lea and Flood, OOPSLA 2014).

    Args:
        z: An array of uint64; in a compiled loop also one number.
    """
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
