"""Memory of this process: how much it held, and an allocator that keeps it for what comes next."""

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

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


def available_memory() -> int:
    """Return the most memory that this process can still get, in bytes, as far as anyone says."""
    found = [sys.maxsize]
    with suppress(OSError, ValueError, KeyError):  # Linux: what is free, or can be freed
        lines = Path("/proc/meminfo").read_text().splitlines()
        kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
        found.append(1024 * (kilobytes["MemAvailable"] + kilobytes["SwapFree"]))
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):  # of a container
        with suppress(OSError, ValueError):
            found.append(int((Path("/sys/fs/cgroup") / limit).read_text()))
    with suppress(AttributeError, OSError, ValueError):  # Windows has no such function
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(found)


def peak_memory() -> int:
    """Return the most memory that this process has held, in bytes; 0 where no one counts it."""
    try:
        import resource  # Windows has none
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
