"""What docs/importance.md and docs/calibration.md print runs, and their numbers are the code's."""

import re
import shlex
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import multiembed as me
from multiembed.data.remarks import RARE_ROWS, RARE_SHARE
from multiembed.runs.calibrate import FOR_ISOTONIC, FOR_SLOPE
from multiembed.runs.calibration import CALIBRATED_FROM, CALIBRATED_TO
from multiembed.runs.importance import MOST_PERMUTED

DOCS = Path(__file__).resolve().parents[1] / "docs"
IMPORTANCE, CALIBRATION = ((DOCS / f"{of}.md").read_text() for of in ("importance", "calibration"))


@pytest.fixture
def ads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    site = np.random.default_rng(0).integers(0, 5, 400)
    rows = {"click": np.random.default_rng(1).random(400) < site / 5, "site": site}
    pl.DataFrame({name: of * 1 for name, of in rows.items()}).write_csv("ads.csv")
    options = me.PrepareOptions(format="table", label="click")
    me.prepare("ads.csv", "ads", options)


def test_all_that_is_printed_runs(ads, call, capsys):
    fast = ["--set", "training.max_epochs=1", "--set", "model.options.hidden=[4]"]
    printed = [*re.findall(r"```sh\n(.*?)```", CALIBRATION + IMPORTANCE, re.DOTALL)]
    for command in "".join(printed).splitlines():
        _, *arguments = shlex.split(command)
        code, _, error = call(*arguments, *(fast if arguments[0] == "train" else []))
        assert code == 0, error

    (block,) = re.findall(r"```python\n(.*?)```", IMPORTANCE, re.DOTALL)
    exec(block, {"me": me})
    assert capsys.readouterr().out.startswith("site ")
    assert "<html" in Path("importance.html").read_text()


def test_the_numbers_are_those_of_the_code():
    assert f"{MOST_PERMUTED:,} of the split" in IMPORTANCE
    assert f"from {CALIBRATED_FROM} to {CALIBRATED_TO}" in CALIBRATION
    assert f"{FOR_ISOTONIC:,} validation rows or more" in CALIBRATION
    assert f"below {FOR_SLOPE} rows of a class its slope is 1" in CALIBRATION
    assert f"fewer than {RARE_ROWS:,}, or than {RARE_SHARE:.0%} of the rows" in CALIBRATION
