"""Bundles: raw values to probabilities without this library, equal to the run they were made of."""

import ast
import importlib.util
import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from multiembed.__main__ import main
from multiembed.base.errors import ConfigError, DataError
from multiembed.config import ModelConfig, RunConfig, TrainingConfig
from multiembed.data.encoding import canonical
from multiembed.data.encoding.values import read_values
from multiembed.data.encoding.vocabulary import Encoder
from multiembed.data.options import PrepareOptions
from multiembed.data.prepare import prepare
from multiembed.data.store.schema import Field, NumericRule
from multiembed.runs.calibrate import calibrate
from multiembed.runs.run import load_run
from multiembed.serving import bundle, export
from multiembed.serving.bundle import compile_field
from multiembed.training.start import train

LOADER = Path(bundle.__file__).with_name("loader.py")
CANONICAL = Path(canonical.__file__)


def loader():
    spec = importlib.util.spec_from_file_location("loader", LOADER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def table(rows):
    random = np.random.default_rng(0)
    city = random.choice(["Zürich", "a,b", "007", "7", "nan", "x"], rows)
    price = np.where(random.random(rows) < 0.1, np.nan, np.round(random.gamma(2, 300, rows), 1))
    click = random.random(rows) < 1 / (1 + np.exp(1 + (city == "7") - np.nan_to_num(price) / 300))
    return pd.DataFrame(
        {"city": city, "click": click.astype(int), "price": price, "n": random.poisson(2, rows)}
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    table(4000).to_csv(folder / "rows.csv", index=False)
    options = PrepareOptions(
        format="table", label="click", numeric_columns=("price",), numeric_rule="quantiles"
    )
    prepare(folder / "rows.csv", folder / "dataset", options)
    model = ModelConfig(architecture="dnn", dim=3, sets=2, options={"hidden": [8]})
    training = TrainingConfig(max_epochs=1, threads=1, negative_rate=0.5, batch_size=256)
    config = RunConfig(model=model, training=training)
    run = train(config, dataset=folder / "dataset", run=folder / "run")
    export.export(run, folder / "torch", format="torch")
    calibrate(run, "platt")
    export.export(run, folder / "onnx", format="onnx", rows=folder / "rows.csv")
    return folder


@cache
def load_run_once(folder):
    return load_run(folder / "run")


@cache
def bundle_once(folder):
    return loader().Bundle(folder / "torch")


@pytest.mark.parametrize("format", ["onnx", "torch"])
def test_a_bundle_scores_raw_values_without_this_library(folder, tmp_path, format):
    rows = table(300).drop(columns="click")
    rows.loc[0, "city"], rows.loc[1, "price"] = "Atlantis", np.nan
    rows.to_parquet(tmp_path / "rows.parquet")
    absent = ["multiembed", "polars", *(["torch"] if format == "onnx" else [])]
    script = f"""
import sys
for name in {absent}:
    sys.modules[name] = None
sys.path.insert(0, {str(folder / format)!r})
import loader, numpy, pyarrow.parquet
rows = pyarrow.parquet.read_table({str(tmp_path / "rows.parquet")!r})
numpy.save({str(tmp_path / "found.npy")!r}, loader.Bundle().predict(rows))
"""
    subprocess.run([sys.executable, "-I", "-c", script], check=True)

    run = load_run(folder / "run")
    expected = run.predict_proba(rows)
    if format == "torch":  # exported before the run was calibrated
        expected = run.predict(run.encoder.encode(pl.DataFrame(rows)))
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected, atol=1e-5)


def test_the_manifest_says_what_was_checked_and_checksums_cover_everything(folder):
    manifest = json.loads((folder / "onnx" / "manifest.json").read_text())
    lines = (folder / "onnx" / "SHA256SUMS").read_text().splitlines()
    names = {line.split("  ")[1] for line in lines} | {"SHA256SUMS"}
    files = (file for file in (folder / "onnx").rglob("*") if file.is_file())
    files = {str(file.relative_to(folder / "onnx")) for file in files}

    assert manifest["parity"]["rows"] == 1000
    assert 0 <= manifest["parity"]["largest_difference"] <= 1e-5
    assert manifest["parity"]["of"] == str(folder / "rows.csv")
    assert manifest["calibration"]["method"] == "platt"
    assert {name for name in files if "__pycache__" not in name} == names


@pytest.mark.parametrize(
    "rows",
    [
        {"city": ["7", None, "x"], "price": [1.5, None, 1e9], "n": [1, 2, 3]},
        {"city": [7, 8, None], "price": ["12.5", "", "dear"], "n": ["1", "2", "x"]},
        {"city": [7.0, 0.5, float("nan")], "price": [1, 2, 3], "n": [True, False, None]},
        {"city": pa.array(["7", None, "x"]).dictionary_encode(), "price": [1.0] * 3, "n": [0] * 3},
        {"city": [], "price": [], "n": []},
    ],
)
def test_values_of_any_type_get_the_ids_of_the_run(folder, rows):
    run = load_run(folder / "run")
    frame = pl.DataFrame(pa.table(rows))

    found = loader().Bundle(folder / "torch").encode(pa.table(rows))

    np.testing.assert_array_equal(found, run.encoder.encode(frame))


@pytest.mark.parametrize("of", [pd.DataFrame, pl.DataFrame, pa.table, dict])
def test_a_bundle_takes_tables_of_every_library(folder, of):
    rows = {"city": ["7", "x"], "price": [3.5, 7.0], "n": [1, 2]}
    expected = load_run(folder / "run").predict_proba(pl.DataFrame(rows))

    found = loader().Bundle(folder / "onnx").predict(of(rows))

    np.testing.assert_allclose(found, expected, atol=1e-5)


numbers = (
    st.none()
    | st.floats(width=64)
    | st.integers(-(2**60), 2**60).map(float)
    | st.floats(-100, 1000).map(lambda x: round(x, 2))
)


@given(
    st.lists(numbers, min_size=1, max_size=40),
    st.sets(st.floats(-1e6, 1e6).map(lambda x: float(f"{x:.4g}"))) | st.none(),
    st.sets(st.none() | st.integers(-200, 300), min_size=1),
)
@example([float("nan"), float("-inf"), -1e300, 1e300, 0.0, 2.0, 2.5], None, {None, 0, -3})
@settings(max_examples=60, deadline=None)
def test_intervals_give_every_number_the_id_of_its_bucket(values, edges, kept):
    if edges is None:
        rule = NumericRule(rule="log")
    else:
        rule = NumericRule(rule="quantiles", edges=tuple(sorted(edges)))
        kept = {k if k is None else k % (len(edges) + 1) for k in kept}
    texts = [None if k is None else str(k) for k in sorted(kept, key=str)]
    ids = np.arange(1, len(texts) + 1, dtype=np.int32)
    vocabulary = pl.DataFrame({"value": pl.Series(texts, dtype=pl.String), "count": 1, "id": ids})
    field = Field(name="x", kind="numeric", cardinality=len(texts) + 1, min_count=1, numeric=rule)
    encoder = Encoder([field], {"x": vocabulary})

    compiled = compile_field(encoder, field, vocabulary)

    of = object.__new__(loader().Bundle)
    of.rules, of.fields = loader().Rules(CANONICAL), [compiled.model_dump()]
    every = pl.DataFrame({"x": pl.Series(values, dtype=pl.Float64)})
    np.testing.assert_array_equal(of.encode(every.to_arrow()), encoder.encode(every))


@given(st.lists(st.floats() | st.floats(1e-7, 1e-2) | st.floats(1e14, 1e18)))
@example([1e-5, 9.9e-5, 1e-4, 2.0**53, 2.0**53 + 2, 1e16, 1e-10, float("inf"), -0.0, 5.0])
@settings(max_examples=60, deadline=None)
def test_numbers_as_categories_are_the_same_text(floats):
    column = pl.Series("x", floats, dtype=pl.Float64)
    field = Field(name="x", kind="categorical", cardinality=1, min_count=1)
    ours = read_values(column.to_frame(), [field]).columns["x"].to_list()

    rules, known = loader().Rules(CANONICAL), {"absent": (), "hash_size": None, "date": None}
    known |= {"kind": "categorical", "slots": 1}
    texts = sorted(set(ours) - {""})
    rules.learn(known, texts)
    found = rules.ids(known, pa.array(floats, pa.float64()))[:, 0]
    places = {text: place for place, text in enumerate(texts, 1)}
    assert found.tolist() == [places.get(text, 0) for text in ours]


@given(st.lists(st.text("0123456789+-.eEinfatyINF _,x\u0663", max_size=8), min_size=1))
@example(["+5", ".5", "5.", "1e5", "-Infinity", "NaN", "", " 5", "1_0", "1e", ".", "1e999", "iNf"])
@settings(max_examples=100, deadline=None)
def test_text_is_a_number_where_it_is_one_for_the_run(folder, texts):
    run = load_run_once(folder)
    rows = {"city": ["7"] * len(texts), "price": texts, "n": ["1"] * len(texts)}

    found = bundle_once(folder).encode(pa.table(rows))

    np.testing.assert_array_equal(found, run.encoder.encode(pl.DataFrame(rows)))


def test_the_loader_is_short():
    tree = ast.parse(LOADER.read_text())
    lines = {node.lineno for node in ast.walk(tree) if isinstance(node, ast.stmt)}
    lines |= {node.lineno for node in ast.walk(tree) if isinstance(node, ast.expr)}
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    texts = [node.body[0] for node in ast.walk(tree) if isinstance(node, documented)]
    texts = [of for of in texts if isinstance(of, ast.Expr) and isinstance(of.value, ast.Constant)]

    assert len(lines - {of.lineno for of in texts}) < 152


def test_a_changed_or_missing_file_is_refused(folder, tmp_path):
    for name in ("model.onnx", "manifest.json", "vocabulary/0.parquet", "SHA256SUMS"):
        copy = tmp_path / name.replace("/", "_")
        shutil.copytree(folder / "onnx", copy)
        content = bytearray((copy / name).read_bytes())
        content[len(content) // 2] ^= 1
        (copy / name).write_bytes(content)
        with pytest.raises(DataError, match=r"got other bytes|whole bundle"):
            bundle.score(copy, pl.DataFrame({"city": ["7"], "price": [1.0], "n": [1]}))
        (copy / name).unlink()
        with pytest.raises(DataError, match="must be a whole bundle"):
            bundle.score(copy, pl.DataFrame({"city": ["7"], "price": [1.0], "n": [1]}))


def test_a_bundle_that_disagrees_is_not_kept(folder, tmp_path, monkeypatch):
    run = load_run(folder / "run")
    monkeypatch.setattr(export, "score", lambda _, rows: pl.Series([0.5] * rows.height))

    with pytest.raises(DataError, match="must agree with the run within 1e-05, got"):
        export.export(run, tmp_path / "out", format="torch")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["taken"], "must be a new directory"),
        (["out", "--rows", "none.csv"], "none.csv must be a file"),
        (["out", "--format", "pickle"], "pickle"),
    ],
)
def test_mistakes_are_one_line(folder, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("keep me")
    command = ["multiembed", "export", str(folder / "run"), *arguments]
    monkeypatch.setattr(sys, "argv", command)

    assert main() == 2

    err = capsys.readouterr().err
    assert len(err.strip().splitlines()) == 1
    assert message in err
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_named(folder, tmp_path, monkeypatch):
    run = load_run(folder / "run")
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(ConfigError, match=r"needs the package onnx: pip install"):
        export.export(run, tmp_path / "out")


def test_one_more_entry_is_one_more_output_format(folder, tmp_path, monkeypatch):
    archive = export.ExportFormat(
        "archive.pt2", export.EXPORT_FORMATS["torch"].write, runs_on=("polars",)
    )
    monkeypatch.setitem(export.EXPORT_FORMATS, "archive", archive)

    out = tmp_path / "out"
    line = ["multiembed", "export", str(folder / "run"), str(out), "--format", "archive"]
    monkeypatch.setattr(sys, "argv", line)
    assert main() == 0

    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["format"], manifest["model"]) == ("archive", "archive.pt2")
    assert "polars" in manifest["versions"]
    assert manifest["parity"]["largest_difference"] <= export.TOLERANCE


def test_an_unknown_format_is_refused(folder, tmp_path):
    with pytest.raises(ConfigError, match="format must be one of onnx, torch, got 'onx'"):
        export.export(load_run_once(folder), tmp_path / "out", format="onx")
