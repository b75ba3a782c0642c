"""Raw Criteo rows to a diagnosed model, by the commands that the README shows."""

import json
import sys

import pytest

from multiembed.__main__ import main


@pytest.fixture
def multiembed(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["multiembed", *map(str, arguments)])
        code, said = main(), capsys.readouterr()
        assert code == 0, said.err
        return said.out

    return run


def test_criteo_rows_become_a_diagnosed_model(multiembed, real_data, tmp_path):
    raw = real_data / "criteo_80k" / "criteo_80k_decoded.txt"
    multiembed("prepare", raw, tmp_path / "dataset", "--format", "criteo")
    multiembed(
        *("train", tmp_path / "dataset", tmp_path / "run", "--dim", 4, "--sets", 2),
        *("--set", "training.max_epochs=1", "--set", "model.options.hidden=[32, 16]"),
        *("--set", "training.learning_rate=0.005"),
    )
    measured = json.loads(multiembed("evaluate", tmp_path / "run", "--json", "-"))
    diagnosis = json.loads(multiembed("diagnose", tmp_path / "run", "--json", "-"))

    assert measured["rows"] == 8000
    assert measured["auc"] > 0.70  # the reference's DCNv2 reaches about 0.76 in full training
    assert len(diagnosis["fields"]) == 39
    for field in diagnosis["fields"]:
        assert 1 <= field["information_abundance"] <= min(field["cardinality"], 8) + 1e-9
