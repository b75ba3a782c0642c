"""What docs/compare.md prints runs as it stands there, and its numbers are those of the code."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from multiembed.experiments.compare import worth
from multiembed.experiments.compare.contenders import CONTENDERS
from multiembed.experiments.compare.linear import PENALTIES
from multiembed.runs.recipe import RECIPES

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "compare.md").read_text(encoding="utf-8")
COMMANDS = "\n".join(re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)).splitlines()
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def ads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    drawn = np.random.default_rng(0)
    rows = {"click": drawn.integers(0, 2, 400), "user": drawn.integers(0, 30, 400)}
    rows |= {"price": drawn.normal(size=400)}
    frame = pl.DataFrame(rows).with_columns(user="u" + pl.col("user").cast(str))
    frame.write_csv("ads.csv")


def test_all_that_is_printed_runs(ads, call, capsys):
    for command in COMMANDS:
        _, *arguments = shlex.split(command, comments=True)
        code, said, error = call(*arguments)
        assert code == 0, error
    found = json.loads(said)
    assert [one["name"] for one in found["standings"]] == [*CONTENDERS, *RECIPES]

    exec(PYTHON[0], {})
    assert "LightGBM 0." in capsys.readouterr().out
    below = {path.name for path in Path("compared").iterdir()}
    assert below == {"report.html", "results.json", "contenders", "runs", ".lock"}


def test_the_table_says_what_contenders_are_told():
    table = TEXT.split("| `--only` |")[1].split("\n\n")[0]
    rows = {re.findall(r"`(\w+)`", row)[0]: row for row in table.splitlines()[2:]}

    assert list(rows) == [*CONTENDERS, "multiembed"]
    assert f"`C` of {', '.join(f'{of:g}' for of in PENALTIES)}:" in rows["logistic_regression"]
    for name in ("lightgbm", "catboost"):
        settings = CONTENDERS[name].settings
        assert f"`learning_rate` {settings['learning_rate']}" in rows[name]
        assert f"at most {settings['most_rounds']} rounds" in rows[name]
        assert f"after {settings['patience']} without" in rows[name]


def test_the_help_names_everybody(call):
    _, said, _ = call("compare", "--help")

    assert all(name in said for name in [*CONTENDERS, "multiembed"])


def test_the_reasons_begin_where_the_page_says():
    assert worth.MANY_NUMBERS == 1 / 5
    assert f"fewer than {worth.FEW_ROWS_PER_ID} training rows" in TEXT
    assert f"fewer than {worth.FEW_POSITIVES} positives" in TEXT
    assert f"fewer than {worth.FEW_ROWS:,} training rows" in TEXT
