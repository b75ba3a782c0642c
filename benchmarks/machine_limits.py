"""What this machine can do at most: products of matrices, and copies in memory."""

import torch
from turns import CLOCKS

SIDE = 2048
COPIED = 1 << 26


def fastest(work, clock, runs=20):
    """Return the time of the fastest of some runs."""
    work()
    times = []
    for _ in range(runs):
        start = CLOCKS[clock]()
        work()
        times.append(CLOCKS[clock]() - start)
    return min(times)


def gemm_rates(clock):
    """Floating-point operations per second of the libraries that torch brings, by name."""
    a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    rates = {"float32, torch.mm": 2 * SIDE**3 / fastest(lambda: a @ b, clock)}
    if torch.backends.mkldnn.is_available():
        bias = torch.zeros(SIDE)
        linear = torch.ops.mkldnn._linear_pointwise
        seconds = fastest(lambda: linear(a, b, bias, "none", [], ""), clock)
        rates["float32, oneDNN"] = 2 * SIDE**3 / seconds
    a, b = a.bfloat16(), b.bfloat16()
    rates["bfloat16"] = 2 * SIDE**3 / fastest(lambda: a @ b, clock)
    return rates


def copy_rate(clock):
    """Bytes per second read and written together, by a copy that no cache holds."""
    source, target = torch.zeros(COPIED), torch.zeros(COPIED)
    return 2 * source.nbytes / fastest(lambda: target.copy_(source), clock)
