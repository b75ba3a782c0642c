"""Compiled CPU loops, and several threads for them.

Numba's own threads are not used: their waiting spins, which on a busy machine costs milliseconds
each time, and beside torch's threads every machine is busy.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from numba import njit

GRAIN = 1 << 14
"""Numbers that are worth waking a thread for."""


def compiled(function: Callable) -> Callable:
    """Compile a function; its machine code is kept on disk where that is possible."""
    # Division by zero gives infinity as in NumPy: a check for it would keep loops from being
    # vectorised.
    try:
        return njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # neither the package nor the user has a directory we may write to
        return njit(nogil=True, error_model="numpy")(function)


def run_shares(function: Callable, *arguments: object, work: int) -> None:
    """Call `function(share, shares, *arguments)` for every share, each on a thread of its own.

    Args:
        function: Compiled. Its shares must not depend on each other.
        arguments: The same for every share.
        work: How many numbers are touched in all; few are not worth several threads.
    """
    import torch  # not for the loops that prepare data, which need only `compiled`

    shares = max(1, min(torch.get_num_threads(), work // GRAIN))
    if shares == 1:
        function(0, 1, *arguments)
        return
    pool = _threads(os.getpid(), shares - 1)
    others = [pool.submit(function, share, shares, *arguments) for share in range(1, shares)]
    function(0, shares, *arguments)
    for other in others:
        other.result()


@lru_cache(maxsize=1)
def _threads(_process: int, count: int) -> ThreadPoolExecutor:
    """Threads of this process: those of a parent are not there after a fork."""
    return ThreadPoolExecutor(count, thread_name_prefix="multiembed")
