"""The day of an ads team in docs/tomorrow.md, as printed, on two small days."""

import re
import shlex
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import multiembed as me

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "tomorrow.md").read_text(encoding="utf-8")
COMMANDS = "\n".join(re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)).split("\n")
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def days(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("monday", "tuesday")):
        drawn = np.random.default_rng(seed)
        frame = {"click": drawn.integers(0, 2, 400), "site": drawn.integers(0, 5 + seed, 400)}
        frame |= {"user": drawn.integers(100, 130, 400), "day": [name] * 400}
        pl.DataFrame(frame).with_columns(site="s" + pl.col("site").cast(str)).write_csv(
            f"{name}.csv"
        )
    for name in ("data", "runs", "bundles"):
        Path(name).mkdir()


def test_the_day_of_an_ads_team_runs_as_printed(days, call):
    for command in filter(None, COMMANDS):
        _, *arguments = shlex.split(command)
        code, said, error = call(*arguments)
        assert code == 0, error
        if "--on" in command:
            assert "by day" in said and "tuesday" in said
    by_hand = me.load_run("runs/tuesday")
    assert by_hand.schema.fields[0].cardinality == 7  # s5 is new on Tuesday
    assert (Path("bundles/tuesday") / "loader.py").is_file()

    # The same in Python comes to the same weights.
    code = PYTHON[0].replace("/tuesday", "/again")
    named = {"me": me}
    exec(code, named)
    tensors = (run.model.state_dict() for run in (by_hand, named["run"]))
    for one, other in zip(*(of.values() for of in tensors), strict=True):
        assert one.equal(other)
    assert [of.value for of in named["days"]] == ["tuesday"]
