"""Broken files of runs and bundles: one line that says so, or the numbers of the whole ones.

500 cases in all; MULTIEMBED_FUZZ=10000 tries as many (`make fuzz`).
"""

import os
import shutil

import numpy as np
import polars as pl
import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multiembed.base.errors import InputError
from multiembed.config import ModelConfig, RunConfig, TrainingConfig, read_config
from multiembed.data.options import PrepareOptions
from multiembed.data.prepare import prepare
from multiembed.runs.calibrate import calibrate
from multiembed.runs.run import load_run
from multiembed.serving import bundle
from multiembed.serving.card import write_card
from multiembed.serving.export import export, write_embeddings
from multiembed.serving.predict import predict
from multiembed.training.start import train

CASES = settings(
    max_examples=max(1, int(os.environ.get("MULTIEMBED_FUZZ", "500")) // 5),
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
ROWS = pl.DataFrame({"city": ["Lima", None, "Bonn"], "price": [1.0, None, 700.0], "n": [1, 2, 3]})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    random = np.random.default_rng(0)
    rows = pl.DataFrame(
        {
            "city": random.choice(["Lima", "Oslo", "Bonn"], 1000),
            "price": random.gamma(2, 30, 1000).round(2),
            "n": random.poisson(2, 1000),
            "y": random.integers(0, 2, 1000),
        }
    )
    rows.write_csv(folder / "rows.csv")
    options = PrepareOptions(format="table", label="y", numeric_rule="quantiles")
    prepare(folder / "rows.csv", folder / "dataset", options)
    model = ModelConfig(architecture="dcnv2", dim=3, sets=2, options={"hidden": [6, 4]})
    config = RunConfig(model=model, training=TrainingConfig(max_epochs=1, threads=1))
    run = train(config, dataset=folder / "dataset", run=folder / "run")
    calibrate(run, "isotonic")
    write_card(run)
    export(run, folder / "bundle", format="torch")
    return folder


def files_of(path):
    found = (file.relative_to(path) for file in path.rglob("*") if file.is_file())
    return sorted(str(file) for file in found if file.name not in (".lock", "README.md"))


@st.composite
def damage(draw):
    """What happens to the bytes of a file."""
    kind = draw(st.sampled_from(["cut", "flip", "flip", "overwrite", "empty", "double"]))
    place = draw(st.floats(0, 1, exclude_max=True))
    bit = draw(st.integers(0, 7))
    noise = draw(st.binary(min_size=1, max_size=8))

    def apply(content):
        at = int(place * len(content))
        if kind == "cut":
            return content[:at]
        if kind == "empty":
            return b""
        if kind == "double":
            return content + content
        new = bytearray(content)
        if kind == "flip":
            new[at] ^= 1 << bit
        else:
            new[at : at + len(noise)] = noise
        return bytes(new)

    return apply


@pytest.fixture(scope="module")
def broken_run(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("broken") / "run"
    shutil.copytree(folder / "run", path)
    return path


@given(st.data(), damage())
@CASES
def test_a_damaged_run_is_refused_in_one_line_or_scores_all_rows(
    folder, broken_run, tmp_path_factory, data, damage
):
    name = data.draw(st.sampled_from(files_of(folder / "run")))
    whole = (folder / "run" / name).read_bytes()
    (broken_run / name).write_bytes(damage(whole))
    out = broken_run.parent / "out.csv"
    out.unlink(missing_ok=True)

    try:
        run = load_run(broken_run)
        found = run.predict_proba(ROWS)
        assert len(found) == 3
        assert ((found >= 0) & (found <= 1)).all()
        assert all(isinstance(record, dict) for record in run.records)
        assert predict(run, folder / "rows.csv", out) == 1000
        assert pl.read_csv(out).height == 1000
    except InputError as error:
        assert 0 < len(str(error)) < 2000
        assert not out.exists()
    finally:
        (broken_run / name).write_bytes(whole)
    assert not list(broken_run.parent.glob(".multiembed*"))


@given(damage())
@CASES
def test_damaged_counts_and_vocabularies_give_whole_tables_or_none(folder, broken_run, damage):
    out = broken_run.parent / "tables"
    for name in ("row_counts.npy", "vocabulary/city.parquet"):
        whole = (folder / "run" / name).read_bytes()
        (broken_run / name).write_bytes(damage(whole))
        shutil.rmtree(out, ignore_errors=True)
        try:
            names = write_embeddings(load_run(broken_run), out)
            heights = [pl.read_parquet(out / name).height for name in names]
            assert heights == list(load_run(folder / "run").schema.cardinalities)
        except InputError as error:
            assert len(str(error)) < 2000
            assert not out.exists()
        finally:
            (broken_run / name).write_bytes(whole)


@given(st.data(), damage())
@CASES
def test_a_damaged_bundle_never_scores(folder, tmp_path_factory, data, damage):
    copy = folder / "copy"
    if not copy.exists():
        shutil.copytree(folder / "bundle", copy)
    name = data.draw(st.sampled_from([n for n in files_of(folder / "bundle") if n != "loader.py"]))
    whole = (folder / "bundle" / name).read_bytes()
    changed = damage(whole)
    (copy / name).write_bytes(changed)

    try:
        found = bundle.score(copy, ROWS)
    except InputError as error:
        assert len(str(error).splitlines()) == 1
    else:
        expected = load_run(folder / "run").predict_proba(ROWS)
        np.testing.assert_allclose(found.to_numpy(), expected, atol=1e-5)
        assert changed == whole or name == "SHA256SUMS"
    finally:
        (copy / name).write_bytes(whole)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@CASES
def test_any_bytes_as_a_configuration(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "config.toml"
    file.write_bytes(content)

    try:
        read_config(file).resolved()
    except InputError as error:
        assert str(error)


KEYS = st.sampled_from(
    ["architecture", "dim", "sets", "size", "options", "seed", "batch_size", "regularizers", "x"]
)
VALUES = st.recursive(
    st.integers(-3, 10**30) | st.floats() | st.booleans() | st.sampled_from(["dnn", "dcnv2:2", ""]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=4,
)


@given(st.dictionaries(KEYS, VALUES, max_size=3), st.dictionaries(KEYS, VALUES, max_size=3))
@CASES
def test_any_values_as_a_configuration(tmp_path_factory, model, training):
    file = tmp_path_factory.getbasetemp() / "values.toml"
    file.write_text(tomli_w.dumps({"model": model, "training": training}), encoding="utf-8")

    try:
        read_config(file).resolved()
    except InputError as error:
        assert str(error)
