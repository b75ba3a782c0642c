"""Kinds of files: told by their first bytes, read to the same numbers, and nothing in them runs."""

import gzip
import json
import os
import pickle
import struct
from pathlib import Path

import joblib
import numpy as np
import onnx
import pandas as pd
import polars as pl
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from multiembed import diagnose
from multiembed.base.errors import DataError
from multiembed.diagnosis.readers.checkpoint import read_checkpoint

ROWS = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
WORDS = [f"w{number}" for number in range(50)]


def numbers(path):
    return {
        table.name: np.concatenate([chunk for _, chunk in table.chunks()])
        for table in read_checkpoint(path).tables
    }


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.user_emb = nn.Embedding.from_pretrained(torch.from_numpy(ROWS.copy()))
        self.fc = nn.Linear(4, 1)

    def forward(self, ids):
        return self.fc(self.user_emb(ids))


def lines_of_words(separator=" ", end="\n"):
    return "".join(
        word + separator + separator.join(map(repr, map(float, row))) + end
        for word, row in zip(WORDS, ROWS, strict=True)
    )


def word2vec(path):
    with path.open("wb") as file:
        file.write(b"50 4\n")
        for word, row in zip(WORDS, ROWS, strict=True):
            file.write(word.encode() + b" " + row.tobytes() + b"\n")


def fasttext(path):
    """Write a model by its format: magic, arguments, dictionary, matrix of words and n-grams."""
    with path.open("wb") as file:
        file.write(struct.pack("<ii", 793712314, 12) + struct.pack("<12id", *[4] * 12, 1e-4))
        file.write(struct.pack("<iiiqq", 50, 50, 0, 500, -1))
        for word in WORDS:
            file.write(word.encode() + b"\0" + struct.pack("<qb", 10, 0))
        file.write(b"\0" + struct.pack("<qq", 60, 4) + ROWS.tobytes() + ROWS[:10].tobytes())


def faiss(path):
    """Write a flat index by its format."""
    header = struct.pack("<iqqq?i", 4, 50, 1 << 20, 1 << 20, True, 1)
    path.write_bytes(b"IxF2" + header + struct.pack("<Q", 200) + ROWS.tobytes())


def gguf(path):
    name = b"token_embd.weight"
    head = struct.pack("<4sIQQ", b"GGUF", 3, 1, 0) + struct.pack("<Q", len(name)) + name
    head += struct.pack("<IQQIQ", 2, 4, 50, 0, 0)
    path.write_bytes(head + b"\0" * (-len(head) % 32) + ROWS.tobytes())


def onnx_model(path):
    table = numpy_helper.from_array(ROWS, "table")
    weight = numpy_helper.from_array(np.ones((4, 60), np.float32), "weight")
    nodes = [
        helper.make_node("Identity", ["table"], ["same"]),
        helper.make_node("Gather", ["same", "ids"], ["rows"]),
        helper.make_node("MatMul", ["rows", "weight"], ["out"]),
    ]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 60])
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [ids], [out], [table, weight])), path)


def exported(path):
    torch.export.save(torch.export.export(Net(), (torch.zeros(4, dtype=torch.int64),)), path)


def packaged(path):
    with torch.package.PackageExporter(path) as package:
        package.extern("**")
        package.save_pickle("model", "model.pkl", Net())


def scripted(path):
    torch.jit.script(Net()).save(path)


WRITERS = {
    "big-endian NumPy": lambda path: np.save(path.open("wb"), ROWS.astype(">f4")),
    "columns first": lambda path: np.save(path.open("wb"), np.asfortranarray(ROWS)),
    "float64 archive": lambda path: np.savez(path.open("wb"), item_emb=ROWS.astype(np.float64)),
    "CSV": lambda path: pd.DataFrame(ROWS).rename(columns="e{}".format).to_csv(path),
    "CSV as pandas writes it": lambda path: pd.DataFrame(ROWS).to_csv(path),
    "CSV of counted columns": lambda path: pd.DataFrame(ROWS).to_csv(path, index=False),
    "CSV of rows by name": lambda path: pd.DataFrame(ROWS, WORDS).to_csv(path, header=False),
    "CSV of named rows and counted columns": lambda path: pd.DataFrame(ROWS, WORDS).to_csv(
        path, index_label="word", encoding="utf-8-sig"
    ),
    "CSV of numbers alone": lambda path: pd.DataFrame(ROWS).to_csv(path, header=False, index=False),
    "CSV of lists": lambda path: pd.DataFrame({"v": ROWS.tolist()}).to_csv(path),
    "TSV without a heading": lambda path: path.write_text(lines_of_words("\t")),
    "Parquet": lambda path: pl.DataFrame({"id": range(50), "v": ROWS.tolist()}).write_parquet(path),
    "Parquet of columns": lambda path: pd.DataFrame(ROWS, columns=[*"abcd"]).to_parquet(path),
    "Arrow": lambda path: pl.DataFrame({"v": ROWS.tolist()}).write_ipc(path),
    "Arrow stream": lambda path: pl.DataFrame({"v": ROWS.tolist()}).write_ipc_stream(path),
    "JSON lines": lambda path: path.write_text(
        "".join(json.dumps({"id": i, "v": row}) + "\n" for i, row in enumerate(ROWS.tolist()))
    ),
    "JSON by word": lambda path: path.write_text(
        json.dumps(dict(zip(WORDS, ROWS.tolist(), strict=True)))
    ),
    "GloVe": lambda path: path.write_text(lines_of_words()),
    "word2vec text": lambda path: path.write_text("50 4\n" + lines_of_words(end=" \n")),
    "compressed words": lambda path: path.write_bytes(gzip.compress(lines_of_words().encode())),
    "word2vec": word2vec,
    "NumPy text": lambda path: np.savetxt(path, ROWS),
    "FAISS": faiss,
    "GGUF": gguf,
    "ONNX": onnx_model,
    "pickle": lambda path: path.write_bytes(pickle.dumps({"user_factors": ROWS})),
    "pickle of protocol 0": lambda path: path.write_bytes(pickle.dumps({"emb": ROWS}, 0)),
    "pickle of words": lambda path: path.write_bytes(
        pickle.dumps(dict(zip(WORDS, ROWS, strict=True)))
    ),
    "pickle of tensors": lambda path: path.write_bytes(pickle.dumps(Net().state_dict())),
    "joblib": lambda path: joblib.dump({"item_emb": np.asfortranarray(ROWS), "n": [1]}, path),
    "compressed joblib": lambda path: joblib.dump({"item_emb": ROWS}, path, compress=3),
    "whole module": lambda path: torch.save(Net(), path),
    "legacy module": lambda path: torch.save(Net(), path, _use_new_zipfile_serialization=False),
    "TorchScript": scripted,
    "torch.export": exported,
    "torch.package": packaged,
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.filterwarnings("ignore")
def test_every_kind_of_file_gives_the_numbers_that_were_written(tmp_path, kind):
    path = tmp_path / "some.file"  # no suffix tells
    WRITERS[kind](path)

    [found] = numbers(path).values()

    np.testing.assert_allclose(found, ROWS, rtol=1e-6)


CHECKPOINTS = Path(__file__).parent / "checkpoints"
ELSEWHERE = dict(np.load(CHECKPOINTS / "elsewhere.npz"))
NEEDS = {
    "keras.keras": "h5py",
    "keras.h5": "h5py",
    "packed.gguf": "gguf",
    "tensorflow": "tensorflow",
}


@pytest.mark.parametrize("file", dict.fromkeys(name.split(":")[0] for name in ELSEWHERE))
def test_tables_of_other_libraries_are_those_that_they_hold_themselves(file):
    if file in NEEDS:
        pytest.importorskip(NEEDS[file], reason=f"{NEEDS[file]} is not installed")
    tables = {n.split(":")[1]: of for n, of in ELSEWHERE.items() if n.startswith(f"{file}:")}

    checkpoint = read_checkpoint(CHECKPOINTS / "elsewhere" / file)

    found = numbers(CHECKPOINTS / "elsewhere" / file)
    named = {name.removeprefix("layers/").removeprefix("root/"): of for name, of in found.items()}
    assert named.keys() == tables.keys()
    assert {table.name for table in checkpoint.unknown_role} <= {"constants.2"}  # of no name
    for name, table in tables.items():
        np.testing.assert_array_equal(named[name], table, err_msg=name)


def test_words_and_ngrams_of_fasttext_are_two_tables(tmp_path):
    fasttext(tmp_path / "model.bin")

    found = numbers(tmp_path / "model.bin")

    np.testing.assert_array_equal(found["words"], ROWS)
    np.testing.assert_array_equal(found["ngrams"], ROWS[:10])


def test_codes_are_scaled_by_what_lies_beside_them(tmp_path):
    codes = np.random.default_rng(1).integers(-127, 127, size=(50, 4)).astype(np.int8)
    scale, zero = np.linspace(0.1, 2, 50), np.arange(50)
    np.savez(tmp_path / "q.npz", emb=codes, emb_scale=scale, emb_zero_point=zero)
    np.save(tmp_path / "alone.npy", codes)

    [found] = numbers(tmp_path / "q.npz").values()
    [alone] = numbers(tmp_path / "alone.npy").values()

    np.testing.assert_allclose(found, (codes - zero[:, None].astype(float)) * scale[:, None])
    np.testing.assert_array_equal(alone, codes)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"SQLite format 3\0" + bytes(90), "an SQLite database"),
        (b"\x28\xb5\x2f\xfd" + bytes(90), "compressed by zstd"),
        (b"\x1c\0\0\0TFL3" + bytes(90), "a TensorFlow Lite model"),
        (b"#Parameter# /lstm/_0 {200,200} 9 ZERO_GRAD\n", "a model of DyNet"),
        (b"IxPq" + bytes(90), "a flat FAISS index, got one of kind"),
        (b"\x01\x02nothing known\xff\xfe", "a file of no known kind"),
    ],
)
def test_what_is_not_read_is_named(tmp_path, content, what):
    (tmp_path / "some.file").write_bytes(content)

    with pytest.raises(DataError, match=what):
        diagnose(tmp_path / "some.file")


def test_a_saved_model_of_tensorflow_is_named_with_its_conversion(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01")

    with pytest.raises(DataError, match=r"a TensorFlow SavedModel: write its tables by numpy"):
        diagnose(tmp_path)


def test_arrays_of_objects_are_named_and_the_others_measured(tmp_path):
    np.savez(tmp_path / "m.npz", emb=ROWS, words=np.array([*WORDS, None], dtype=object))

    found = diagnose(tmp_path / "m.npz")

    assert [field.name for field in found.fields] == ["emb"]
    assert ("words", "an array of Python objects") in [(s.name, s.reason) for s in found.skipped]


class Runs:
    """Runs a command when unpickled by anything that obeys it."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("write", ["pickle", "protocol 0", "joblib", "torch", "legacy"])
def test_nothing_in_a_pickle_runs(tmp_path, write):
    witness, path = tmp_path / "it_ran", tmp_path / "some.file"
    content = {"evil": Runs(f"touch {witness}"), "user_emb": ROWS}
    if write == "joblib":
        joblib.dump(content, path)
    elif write in ("torch", "legacy"):
        content["user_emb"] = torch.from_numpy(ROWS)
        torch.save(content, path, _use_new_zipfile_serialization=write == "torch")
    else:
        path.write_bytes(pickle.dumps(content, 0 if write == "protocol 0" else None))

    found = numbers(path)

    assert not witness.exists()
    np.testing.assert_array_equal(found["user_emb"], ROWS)


def array_of_shape(shape, data):
    """Return a pickle of an array whose shape and bytes are what an attacker says."""

    class Lies:
        def __reduce__(self):
            rebuild = np.zeros(1).__reduce__()[0]
            return rebuild, (np.ndarray, (0,), b"b"), (1, shape, np.dtype("f8"), False, data)

    return pickle.dumps({"emb": Lies()})


@pytest.mark.parametrize("shape", [(10**9, 10), (-1, 4), (2, 2)])
def test_an_array_must_have_the_bytes_that_its_shape_needs(tmp_path, shape):
    (tmp_path / "m.pkl").write_bytes(array_of_shape(shape, bytes(8)))

    with pytest.raises(DataError, match=r"m\.pkl: must be a whole pickle, got an array must have"):
        diagnose(tmp_path / "m.pkl")


def test_a_pickle_may_not_change_what_it_names(tmp_path):
    state = pickle.dumps({"__call__": 1})[2:-1]
    attack = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + state.replace(b"\x94", b"") + b"b."
    (tmp_path / "m.pkl").write_bytes(attack)

    with pytest.raises(DataError, match=r"m\.pkl: must be a whole pickle"):
        diagnose(tmp_path / "m.pkl")


def test_a_tensor_must_lie_within_its_storage_and_use_it_once(tmp_path):
    huge = torch.zeros(1, 1).expand(10**9, 10)
    torch.save({"a": Runs("true"), "emb.weight": huge}, tmp_path / "m.pt")

    with pytest.raises(DataError, match="must not use its numbers twice"):
        diagnose(tmp_path / "m.pt")
