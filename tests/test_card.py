"""What a run tells about itself elsewhere: its model card, and its tables with their values."""

import shutil
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

from multiembed.__main__ import main
from multiembed.base.errors import DataError
from multiembed.config import ModelConfig, RunConfig, TrainingConfig
from multiembed.data.encoding.counting import split_codes
from multiembed.data.options import PrepareOptions
from multiembed.data.prepare import prepare
from multiembed.runs.compress import compress_run
from multiembed.runs.run import load_run
from multiembed.serving.card import write_card
from multiembed.serving.export import write_embeddings
from multiembed.training.start import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    random = np.random.default_rng(0)
    rows = pd.DataFrame(
        {
            "city": random.choice(
                ["Zürich", "a,b", "", "rare/one"], 2000, p=[0.5, 0.3, 0.19, 0.01]
            ),
            "size": random.poisson(3, 2000),
            "y": random.integers(0, 2, 2000),
        }
    )
    rows.to_csv(folder / "rows.csv", index=False)
    prepare(folder / "rows.csv", folder / "dataset", PrepareOptions(format="table", label="y"))
    model = ModelConfig(architecture="dcnv2", dim=3, sets=2, options={"hidden": [8, 4]})
    config = RunConfig(model=model, training=TrainingConfig(max_epochs=1, threads=1))
    train(config, dataset=folder / "dataset", run=folder / "run")
    return folder


def test_a_card_says_data_protocol_quality_collapse_and_use(folder):
    run = load_run(folder / "run")

    card = write_card(run).read_text(encoding="utf-8")

    for heading in ("# run", "## Data", "## Protocol", "## Quality", "## Collapse", "## Use"):
        assert heading in card
    assert "`dcnv2` with 2 embedding sets of size 3" in card
    assert f"{run.evaluate('test')['auc']:.6f}" in card
    assert f"{run.best_state['auc']:.6f}" in card
    assert "| train | 1,600 |" in card
    assert "`city`" in card
    error = run.evaluate("valid")["expected_calibration_error"]
    assert f"| expected calibration error | {error:.6f} |" in card
    assert "at most 1 epoch, until" in card
    assert not list((folder / "run").glob("*.tmp"))


def test_the_code_in_a_card_runs(folder):
    card = write_card(load_run(folder / "run")).read_text(encoding="utf-8")
    code = card.split("```python\n")[1].split("```")[0]
    names = {}

    exec(compile(code, "README.md", "exec"), names)

    rows = pd.read_csv(folder / "rows.csv", dtype=str)[split_codes(np.arange(2000), 0) == 0]
    expected = {name: [rows[name].mode()[0]] for name in ("city", "size")}
    assert names["rows"].to_dict(as_series=False) == expected
    assert names["run"].predict_proba(names["rows"]).shape == (1,)


def test_a_card_without_its_dataset_says_so(folder, tmp_path):
    shutil.copytree(folder / "run", tmp_path / "run")
    config = (tmp_path / "run" / "config.toml").read_text()
    (tmp_path / "run" / "config.toml").write_text(config.replace("card0/dataset", "card0/gone"))

    card = write_card(load_run(tmp_path / "run")).read_text(encoding="utf-8")

    assert "The test split was not measured: " in card
    assert "| not measured |" in card


def test_training_on_the_command_line_writes_the_card(folder, tmp_path, monkeypatch, capsys):
    command = ["train", folder / "dataset", tmp_path / "run", "--dim", "2"]
    options = ["--set", "training.max_epochs=1", "--set", "model.options.hidden=[4]"]
    monkeypatch.setattr(sys, "argv", ["multiembed", *map(str, [*command, *options])])

    assert main() == 0

    assert "## Collapse" in (tmp_path / "run" / "README.md").read_text(encoding="utf-8")


def test_tables_come_with_their_values_and_counts(folder, tmp_path, monkeypatch, capsys):
    command = ["multiembed", "embeddings", folder / "run", tmp_path / "out"]
    monkeypatch.setattr(sys, "argv", list(map(str, command)))

    assert main() == 0

    run = load_run(folder / "run")
    table = pl.read_parquet(tmp_path / "out" / "000_city.parquet")
    weight = run.model.embedding.weight.detach().numpy()
    assert table["id"].to_list() == list(range(table.height))
    assert set(table["value"][1:].to_list()) == {"Zürich", "a,b", None, "rare/one"}
    for m in range(2):
        expected = weight[: table.height, 3 * m : 3 * m + 3]
        np.testing.assert_array_equal(np.stack(table[f"set_{m}"].to_list()), expected)
        assert table.schema[f"set_{m}"] == pl.Array(pl.Float32, 3)
    ids = run.dataset().split("train").ids[:, 0]
    assert table["training_count"].to_list() == np.bincount(ids, minlength=table.height).tolist()
    assert table["count"].to_list()[1:] == table["training_count"].to_list()[1:]
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_tables_of_a_compressed_run_are_what_its_codes_stand_for(folder, tmp_path):
    compress_run(folder / "run", tmp_path / "small", keep=0.5)
    small = load_run(tmp_path / "small")

    names = write_embeddings(small, tmp_path / "out")

    tables = [pl.read_parquet(tmp_path / "out" / name) for name in names]
    found = np.vstack([np.hstack([t["set_0"].to_numpy(), t["set_1"].to_numpy()]) for t in tables])
    table = small.model.embedding.tables[0]
    codes, basis, mean = (part.detach().double().numpy() for part in table.parameters())
    assert codes.shape[1] < 6
    np.testing.assert_allclose(found[: len(codes)], codes @ basis + mean, atol=1e-6)
    assert len(found) == sum(small.schema.cardinalities)
    metadata = pq.read_metadata(tmp_path / "out" / names[0]).metadata
    assert metadata[b"field"] == b"city"


def test_broken_counts_leave_nothing(folder, tmp_path):
    shutil.copytree(folder / "run", tmp_path / "run")
    file = tmp_path / "run" / "row_counts.npy"
    for content in (b"", file.read_bytes()[:-9], b"\x93NUMPY", b"PK\x03\x04"):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"row_counts\.npy must hold"):
            write_embeddings(load_run(tmp_path / "run"), tmp_path / "out")
        assert not (tmp_path / "out").exists()
