"""Our own files, changed by somebody: one line that names the file, whatever it holds now."""

import json
import shutil

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

import multiembed as me
from multiembed import diagnose
from multiembed.base.errors import InputError
from multiembed.diagnosis.readers.asked import Asked
from multiembed.diagnosis.readers.cardinalities import parse_cardinalities
from multiembed.diagnosis.readers.checkpoint import read_source
from multiembed.testing.planted_clicks import PlantedClicks, write_planted

NONSENSE = {
    "brackets": b"[" * 100_000,
    "braces": b'{"a":' * 100_000,
    "no text": b"\xff\xfe\x00",
    "empty": b"",
    "cut": b'{"method": "plat',
    "a list": b"[1, 2]",
    "null": b"null",
    "text": b'"a"',
    "infinite": b"1e400",
    "NaN": b"NaN",
    "digits": b"9" * 9999,
    "other keys": b'{"a": NaN, "b": 1e400}',
    "a pickle": b"\x80\x04cos\nsystem\n(X\x04\0\0\0exittR.",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    write_planted(folder / "clicks", PlantedClicks(cardinalities=(9, 4), ranks=2, rows=400))
    model = me.ModelConfig(architecture="dnn", dim=2, options={"hidden": [4]})
    config = me.RunConfig(model=model, training=me.TrainingConfig(max_epochs=1, threads=1))
    me.train(config, dataset=folder / "clicks", run=folder / "run")
    return folder / "run"


def uses(path):
    """Read every file of a run that anything reads."""
    run = me.load_run(path)
    assert run.records is not None
    run.predict_proba(pl.DataFrame({"f0": ["1"], "f1": ["2"]}))
    read_source(path, Asked())


FILES = ("config.toml", "schema.json", "reliability.json", "metrics.jsonl", "calibration.json")
FILES = (*FILES, "row_counts.npy", "best.safetensors", "vocabulary/f0.parquet")


FINE = {("empty", "metrics.jsonl"), ("empty", "config.toml"), ("other keys", "metrics.jsonl")}
"""No evaluations, every setting as it is by default, an evaluation of other measures."""


@pytest.mark.parametrize("said", NONSENSE)
def test_nonsense_in_a_file_of_a_run_is_one_line_that_names_it(run, tmp_path, said):
    for name in FILES:
        copy = tmp_path / name.replace("/", ".") / "run"
        shutil.copytree(run, copy)
        (copy / name).write_bytes(NONSENSE[said])
        if (said, name) in FINE:
            continue

        with pytest.raises(InputError) as refused:
            uses(copy)

        assert len(str(refused.value).splitlines()) == 1
        assert len(str(refused.value)) < 1000
        assert name in str(refused.value) or "vocabulary of 'f0'" in str(refused.value)


def test_a_dataset_whose_values_are_broken_is_refused_before_it_is_trained_on(run, tmp_path):
    shutil.copytree(run.parent / "clicks", tmp_path / "clicks")
    (tmp_path / "clicks" / "vocabulary" / "f1.parquet").write_bytes(b"PAR1")

    with pytest.raises(InputError, match=r"^\S*clicks/vocabulary/f1\.parquet must be"):
        me.train(me.RunConfig(), dataset=tmp_path / "clicks", run=tmp_path / "run")

    assert [file.name for file in tmp_path.iterdir()] == ["clicks"]


def changed(file, change):
    tensors = load_file(file)
    with open(file, "rb") as held:
        header = held.read(int.from_bytes(held.read(8), "little"))
    state = json.loads(header)["__metadata__"]
    change(tensors)
    save_file(tensors, file, metadata=state)


WEIGHTS = {
    "NaN": (lambda t: t["embedding.weight"].fill_(torch.nan), "NaN"),
    "a row less": (lambda t: t.update({"embedding.weight": t["embedding.weight"][1:].clone()}), ""),
    "another tensor": (lambda t: t.update(more=torch.ones(2)), "more must be absent"),
    "one less": (lambda t: t.pop(sorted(t)[-1]), "got absent"),
    "other numbers": (lambda t: t.update({n: v.double() for n, v in t.items()}), "float64"),
}


@pytest.mark.parametrize("said", WEIGHTS)
def test_other_weights_are_refused(run, tmp_path, said):
    shutil.copytree(run, tmp_path / "run")
    change, words = WEIGHTS[said]
    changed(tmp_path / "run" / "best.safetensors", change)

    with pytest.raises(InputError, match=rf"best\.safetensors.*{words}"):
        me.load_run(tmp_path / "run").evaluate("test")


@pytest.mark.parametrize(
    "text",
    ["²", "1,²", "-1", "1.5", "9" * 30, "9" * 5000, "a\0b", "n" * 300, "0", "", "[1]", "\u0661"],
)
def test_cardinalities_that_are_no_sizes(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^cardinalities|must be"):
        parse_cardinalities(text)
    if "\0" not in text:
        (tmp_path / "sizes.txt").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=r"^sizes\.txt"):
            parse_cardinalities("sizes.txt")


JSON = ["²", '["²"]', "[[1]]", "[1.5]", "[true, null]", "[-1]", "[9" + "9" * 30 + "]", '{"a": {}}']
JSON = [*JSON, '{"fields": [1]}', '{"fields": [{"name": []}]}', "[" * 10**5, "NaN", "[1e400]", "[]"]


@pytest.mark.parametrize("text", JSON)
def test_json_that_holds_no_sizes(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sizes.json").write_text(text, encoding="utf-8")

    with pytest.raises(InputError, match=r"^sizes\.json.{,500}$"):
        parse_cardinalities("sizes.json")


@pytest.mark.parametrize(
    "content",
    [
        b"\x93NUMPY\1\0\xff\xff(",
        b"PK\3\4nonsense",
        b"PAR1nonsense",
        b"field,id,count\na,-1,2\n",
        b"\xff",
    ],
)
def test_counts_that_are_none(tmp_path, content):
    np.save(tmp_path / "table.npy", np.random.default_rng(0).normal(size=(5, 3)))
    (tmp_path / "counts").write_bytes(content)

    with pytest.raises(InputError, match="counts"):
        diagnose(tmp_path / "table.npy", counts=tmp_path / "counts")
