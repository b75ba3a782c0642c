"""Shapes in annotations are checked while the tests run; real data is found beside the checkout."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is first imported, which torch may do

install_import_hook("multiembed", "beartype.beartype")

# Every run of the tests tries the same cases; `make fuzz` draws new ones.
settings.register_profile("same", derandomize="MULTIEMBED_FUZZ" not in os.environ)
settings.load_profile("same")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def golden() -> Path:
    """Numbers written by the paper's reference code."""
    return _present(SHARED / "golden")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real Criteo and Avazu rows."""
    return _present(SHARED / "data")


def _present(folder: Path) -> Path:
    if not folder.is_dir():
        pytest.skip(f"{folder.name} is no part of the product: it lies beside a checkout")
    return folder
