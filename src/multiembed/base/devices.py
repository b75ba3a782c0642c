"""What this machine computes on, and in which precisions."""

import os
import shutil
from functools import cache
from importlib.util import find_spec

import torch

from multiembed.base.errors import ConfigError


def chosen_device(name: str) -> torch.device:
    """Return the device that `auto`, `cpu` or `cuda` means here; auto is a GPU where one is there.

    Raises:
        ConfigError: If it is cuda, and no GPU can be used.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError("device must be there, got cuda on a machine without a usable GPU")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def has_bfloat16_products(device: torch.device) -> bool:
    """Say whether the device's instructions include products of bfloat16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()  # avx512_bf16, amx_bf16, …
    return any(there for name, there in capabilities.items() if name.endswith("bf16"))


@cache
def has_triton() -> bool:
    """Say whether kernels in Triton can be made here: at first use it asks for a C compiler."""
    named = os.environ.get("CC")  # where it is set, Triton tries no other
    compilers = ("gcc", "clang") if named is None else (named,)
    return find_spec("triton") is not None and any(map(shutil.which, compilers))
