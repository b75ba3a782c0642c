"""A short form of `make chaos`: a few kills and a few pairs at once of the quicker commands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHAOS = Path(__file__).parent / "chaos"
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked to be killed")


SHORT = {
    "kills.py": ["--moments", "2", "--only", "prepare --overwrite", "train --overwrite", "predict"],
    "two_at_once.py": ["--tries", "2", "--only", "compress", "predict", "calibrate"],
}


@pytest.mark.parametrize("script", SHORT)
def test_nothing_is_lost_or_mixed(script):
    call = [sys.executable, str(CHAOS / script), *SHORT[script]]
    ran = subprocess.run(call, capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stdout + ran.stderr[-2000:]
    assert len(ran.stdout.splitlines()) == 3  # one line each
