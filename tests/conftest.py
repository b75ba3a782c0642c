"""Shapes in annotations are checked while the tests run; real data is found beside the checkout."""

from pathlib import Path

import pytest
from jaxtyping import install_import_hook

install_import_hook("multiembed", "beartype.beartype")

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
