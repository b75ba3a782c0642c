"""Damaged checkpoints of every kind: tables, or one line; nothing runs, writes or takes long.

120 cases in all; MULTIEMBED_FUZZ=10000 tries as many (`make fuzz`).
"""

import gzip
import io
import os
import pickle
import struct
import time
import warnings

import numpy as np
import onnx
import polars as pl
import pytest
import torch
import torch.distributed.checkpoint as dcp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from safetensors.torch import save
from test_attacks import WATCH

from multiembed import diagnose
from multiembed.base.errors import InputError

CASES = settings(
    max_examples=max(1, int(os.environ.get("MULTIEMBED_FUZZ", "120")) // 5 * 4),
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TABLE = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
NAMED = {"user_emb.weight": torch.from_numpy(TABLE), "item_emb.weight": torch.ones(5, 3)}


def written(write, *content, **options):
    file = io.BytesIO()
    write(*content, file, **options)
    return file.getvalue()


def arrays(write, *content, **named):
    file = io.BytesIO()
    write(file, *content, **named)
    return file.getvalue()


def gather():
    held = helper.make_tensor("emb", TensorProto.FLOAT, TABLE.shape, TABLE.ravel())
    node = helper.make_node("Gather", ["emb", "ids"], ["out"])
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, [1])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph([node], "g", [ids], [out], [held])
    return helper.make_model(graph).SerializeToString()


def gguf():
    name, size = b"token_embd.weight", struct.pack("<I2Q", 2, 4, 6)
    head = b"GGUF" + struct.pack("<IQQQ", 3, 1, 0, len(name)) + name + size
    head += struct.pack("<IQ", 0, 0)
    return head + bytes(-len(head) % 32) + TABLE.tobytes()


FRAME = pl.DataFrame({"id": ["a", "b"] * 3, **{f"e{at}": TABLE[:, at] for at in range(4)}})
WORDS = b"".join(b"w%d " % at + row.tobytes() + b"\n" for at, row in enumerate(TABLE))
FILES = {
    "torch": written(torch.save, NAMED),
    "legacy": written(torch.save, NAMED, _use_new_zipfile_serialization=False),
    "optimizer": written(torch.save, {"model": NAMED, "optimizer": {"state": NAMED}, "epoch": 1}),
    "pickle": pickle.dumps({"user": TABLE, "item": [[1.0, 2.0], [3.0, 4.5]]}),
    "old pickle": pickle.dumps({"user": TABLE}, 0),
    "safetensors": save(NAMED),
    "npy": arrays(np.save, TABLE),
    "objects": arrays(np.save, {"user": TABLE}, allow_pickle=True),
    "npz": arrays(np.savez, user=TABLE, item=TABLE),
    "packed npz": arrays(np.savez_compressed, user=TABLE, item=TABLE),
    "gzip": gzip.compress(arrays(np.save, TABLE)),
    "onnx": gather(),
    "gguf": gguf(),
    "faiss": b"IxF2" + struct.pack("<iqqq?iQ", 4, 6, 0, 0, True, 1, 24) + TABLE.tobytes(),
    "word2vec": b"6 4\n" + WORDS,
    "words": b"".join(b"w%d 1.0 2.5 %d.0\n" % (at, at) for at in range(6)),
    "csv": FRAME.write_csv().encode(),
    "json": FRAME.write_json().encode(),
    "parquet": written(FRAME.write_parquet),
    "arrow": written(FRAME.write_ipc),
}
NUMBERS = [0, 1, 127, 255, 2**15, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1]


@st.composite
def damages(draw):
    """What happens to the bytes of a file, one to three times."""
    steps = draw(st.lists(st.tuples(*damage), min_size=1, max_size=3))

    def apply(content):
        for kind, place, length, number, noise in steps:
            at, end = int(place * len(content)), int((place + length) * len(content))
            size = 1 << number % 4
            content = {
                "cut": lambda c, a=at: c[:a],
                "lose": lambda c, a=at, e=end: c[:a] + c[e:],
                "repeat": lambda c, a=at, e=end: c[:e] + c[a:],
                "noise": lambda c, a=at, n=noise: c[:a] + n + c[a + len(n) :],
                "insert": lambda c, a=at, n=noise: c[:a] + n + c[a:],
                "number": lambda c, a=at, n=number, s=size: (
                    c[:a] + (NUMBERS[n] % 256**s).to_bytes(s, "little") + c[a + s :]
                ),
            }[kind](content)
        return content

    return apply


damage = (
    st.sampled_from(["cut", "lose", "repeat", "noise", "noise", "insert", "number", "number"]),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 0.2),
    st.integers(0, len(NUMBERS) - 1),
    st.binary(min_size=1, max_size=4),
)


def assert_read_or_refused(path):
    started = time.process_time()
    with WATCH:
        try:
            found = diagnose(path)
        except InputError as error:
            assert len(str(error).splitlines()) == 1
            assert len(str(error)) < 3000
        else:
            assert all(field.cardinality > 0 for field in found.fields)
    assert time.process_time() - started < 20
    assert [seen for seen in WATCH.seen if "/tmp/tmp" not in repr(seen) and seen[0] == "open"] == []


@given(st.sampled_from(sorted(FILES)), damages())
@CASES
def test_a_damaged_checkpoint_is_read_or_refused_in_one_line(tmp_path_factory, kind, damage):
    file = tmp_path_factory.getbasetemp() / "damaged"
    file.write_bytes(damage(FILES[kind]))

    assert_read_or_refused(file)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts") / "ck"
    with warnings.catch_warnings(action="ignore"):  # one process is what is meant
        dcp.save(NAMED, checkpoint_id=folder, no_dist=True)
    return folder


@given(st.data(), damages())
@settings(CASES, max_examples=max(1, CASES.max_examples // 8))
def test_a_damaged_distributed_checkpoint_too(parts, data, damage):
    name = data.draw(st.sampled_from(sorted(file.name for file in parts.iterdir())))
    whole = (parts / name).read_bytes()
    (parts / name).write_bytes(damage(whole))

    try:
        assert_read_or_refused(parts)
    finally:
        (parts / name).write_bytes(whole)


def test_whole_files_are_read(tmp_path):
    onnx.load_from_string(FILES["onnx"])
    for kind, content in FILES.items():
        (tmp_path / kind).write_bytes(content)
        assert diagnose(tmp_path / kind).fields, kind
