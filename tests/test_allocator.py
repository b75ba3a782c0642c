"""Telling the C library's allocator to keep memory."""

import subprocess
import sys

import pytest
import torch

from multiembed.kernels.cpu.cpu_memory import fitting

STEP = """
import resource, sys
from multiembed.base.memory import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    sys.exit(3)
import numpy as np
np.ones(1 << 24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    np.ones(1 << 24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(way):
    done = subprocess.run([sys.executable, "-c", STEP, way], capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip("this system's C library is not glibc")
    return int(done.stdout)


def test_kept_memory_is_not_mapped_anew():
    """Eight arrays of 128 MiB, one after the other: by default each maps its pages again."""
    assert page_faults("kept") < page_faults("returned") / 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_fitting_block_is_a_tensor_like_any_other(dtype):
    block = fitting(3, 5, dtype=dtype)

    block.copy_(torch.arange(15.0).view(3, 5))

    assert block.dtype == dtype
    assert block.is_contiguous()
    assert block.sum().item() == 105
    assert fitting(0, 4).shape == (0, 4)
