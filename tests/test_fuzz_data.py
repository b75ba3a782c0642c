"""Any rows, files and options: encoded as they should be, or refused in one line.

500 cases in all; MULTIEMBED_FUZZ=10000 tries as many (`make fuzz`).
"""

import bz2
import gzip
import lzma
import os
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multiembed.base.errors import InputError
from multiembed.data.encoding.vocabulary import Encoder
from multiembed.data.options import PrepareOptions
from multiembed.data.prepare import prepare
from multiembed.data.store.dataset import open_dataset

CASES = int(os.environ.get("MULTIEMBED_FUZZ", "500"))
PIECES = [
    *(b"1", b"0", b",", b"\n", b"\r\n", b'"', b"\t", b"a", b"\xff", b"\0", b"\xef\xbb\xbf"),
    *(b"\\", b"'", b"#", b"::", b"\x01"),
    *(b"NaN", b"1e999", b"-0", b"2024-01-01", b"9" * 40, b"{", b"}", b":", b"[", b"\\u0000", b"y"),
]
TEXTS = [".csv", ".tsv", ".jsonl", ".json", ".csv.gz", ".jsonl.zst", ".csv.bz2", ".xz"]
KINDS = [*TEXTS, ".parquet", ".arrow"]
HEADERS = {
    **{b"y,a\n": b"1,x\n", b"y\ta\n": b"0\t5.5\n", b'"y";"a"\n': b'1;"x;\n"\n'},
    **{b"a,y,b\n": b"x,0,y\n", b"\xef\xbb\xbfy,a\r\n": b"1,\r\n", b"": b"1,x\n"},
}
"""First lines, and a good row below each."""
NAMES = ["y", "a", "b", "y", "a/b", "", "\u00fc", " ", "n" * 200]


def cases(share):
    return settings(
        max_examples=max(1, CASES * share // 100),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


bodies = st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join)
headers = st.sampled_from(list(HEADERS))
good = st.integers(0, 40)
options = st.fixed_dictionaries(
    {
        "min_count": st.sampled_from([None, 1, 3]),
        "max_bad_rows": st.sampled_from([1000, 1000, 1000, 5, 0]),
    },
    optional={
        "numeric_rule": st.sampled_from(["log", "quantiles", "as_is"]),
        "vocabulary": st.sampled_from(["train", "all"]),
        "numeric_columns": st.sampled_from([(), ("a",), ("y",)]),
        "dates": st.sampled_from([{}, {"a": "iso"}, {"a": "s"}, {"a": "%y%m%d%H"}]),
        "multivalued": st.sampled_from([{}, {}, {"a": "a"}, {"a": "1"}, {"a": ", "}]),
        "max_cell_values": st.sampled_from([1, 3]),
        "hash_sizes": st.sampled_from([{}, {"a": 1}, {"a": 7}]),
        "max_values": st.sampled_from([None, 1, 4]),
        "split_by": st.sampled_from([None, None, None, "a", "y", "zz"]),
        "split_by_group": st.sampled_from([None, None, None, "a"]),
        "shard_rows": st.sampled_from([10, 64, 1 << 20]),
        "separator": st.sampled_from([None, None, ",", "::", "\t"]),
        "quote": st.sampled_from([None, None, "none", "'"]),
        "escape": st.sampled_from([None, None, "\\", "'"]),
        "comment": st.sampled_from([None, "#"]),
        "encoding": st.sampled_from([None, None, None, "latin-1", "utf-16", "gb18030"]),
        "drop": st.sampled_from([(), (), ("a",), ("zz",)]),
    },
)


def assert_encoded_or_refused(folder, source, chosen):
    """Prepare; what comes out is whole and agrees with itself, or nothing is there."""
    before = sorted(folder.iterdir())
    try:
        asked = PrepareOptions(format="table", label="y", **chosen)
        schema = prepare(source, folder / "dataset", asked)
    except InputError as error:
        assert str(error)
        assert "\n" not in str(error)
        assert sorted(folder.iterdir()) == before
        return
    dataset = open_dataset(folder / "dataset")
    assert dataset.schema == schema
    for name, size in schema.splits.items():
        split = dataset.split(name)
        assert (split.rows, split.positives) == (size.rows, size.positives)
        firsts = np.cumsum([0, *schema.slots])[:-1]
        assert (split.ids >= -1).all()
        assert (split.ids[:, firsts] >= 0).all()
        assert (split.ids < np.repeat(schema.cardinalities, schema.slots)).all()
    for field in schema.fields:
        found = dataset.vocabulary(field.name)
        assert found["id"].to_list() == list(range(1, field.cardinality))
    Encoder.load(folder / "dataset")


def written(folder, kind, header, body, rows):
    """Write bytes as they are, compressed where the name says so."""
    line = b'{"y": 1, "a": "x"}\n' if "json" in kind else HEADERS[header]
    content = (b"" if "json" in kind else header) + line * rows + body
    zstd = partial(pa.compress, codec="zstd", asbytes=True)
    pack = {".gz": gzip.compress, ".zst": zstd, ".bz2": bz2.compress, ".xz": lzma.compress}
    content = pack.get(Path(kind).suffix, lambda raw: raw)(content)
    file = folder / f"rows{kind}"
    file.write_bytes(content)
    return file


@cases(50)
@given(kind=st.sampled_from(TEXTS), header=headers, body=bodies, rows=good, chosen=options)
def test_any_bytes_in_any_file(kind, header, body, rows, chosen):
    with tempfile.TemporaryDirectory() as name:
        file = written(Path(name), kind, header, body, rows)

        assert_encoded_or_refused(Path(name), file, chosen)


cells = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(max_size=20),
    st.datetimes(),
    st.lists(st.integers(0, 9), max_size=2),
)
columns = st.dictionaries(
    st.sampled_from(NAMES), st.lists(cells, min_size=1, max_size=4), min_size=1, max_size=4
)


@cases(25)
@given(kind=st.sampled_from([".parquet", ".arrow", ".csv"]), columns=columns, chosen=options)
def test_any_table_of_any_types(kind, columns, chosen):
    try:
        frame = pl.DataFrame(
            {name: pl.Series(values * 15, strict=False)[:15] for name, values in columns.items()}
        )
    except (pl.exceptions.PolarsError, TypeError, OverflowError):
        return
    frame = frame.with_columns(pl.Series("y", [0, 1, 1] * 5)) if "y" not in frame.columns else frame
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / f"rows{kind}"
        write = {
            ".parquet": frame.write_parquet,
            ".arrow": frame.write_ipc,
            ".csv": frame.write_csv,
        }
        try:
            write[kind](file)
        except pl.exceptions.PolarsError:
            return

        assert_encoded_or_refused(Path(name), file, chosen)


@cases(15)
@given(cut=st.integers(0, 4000), kind=st.sampled_from(KINDS), flip=st.integers(0, 255))
def test_damaged_files(cut, kind, flip):
    frame = pl.DataFrame({"y": [0, 1] * 30, "a": [f"v{n}" for n in range(60)]})
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / f"rows{kind}"
        if "csv" in kind or "tsv" in kind:
            file.write_bytes(frame.write_csv().encode())
        elif "json" in kind:
            file.write_bytes(frame.write_ndjson().encode())
        else:
            (frame.write_parquet if kind == ".parquet" else frame.write_ipc)(file)
        raw = file.read_bytes()
        if kind.endswith((".gz", ".zst")):
            raw = (
                gzip.compress(raw)
                if kind.endswith(".gz")
                else pa.compress(raw, "zstd", asbytes=True)
            )
        place = cut % len(raw)
        damaged = raw[:place] if flip % 2 else raw[:place] + bytes([flip]) + raw[place + 1 :]
        file.write_bytes(damaged)

        assert_encoded_or_refused(Path(name), file, {"min_count": 1, "max_bad_rows": 5})


paths = st.sampled_from(
    ["schema.json", "vocabulary/a.parquet", "train/00000.arrow", "test/00000.arrow"]
)


@cases(10)
@given(path=paths, cut=st.integers(0, 5000), junk=st.binary(max_size=8))
def test_damaged_datasets_are_refused_or_whole(path, cut, junk):
    frame = pl.DataFrame({"y": [0, 1] * 30, "a": [f"v{n % 7}" for n in range(60)]})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frame.write_csv(folder / "rows.csv")
        prepare(folder / "rows.csv", folder / "dataset", PrepareOptions(format="table", label="y"))
        file = folder / "dataset" / path
        raw = file.read_bytes()
        file.write_bytes(raw[: cut % len(raw)] + junk)
        try:
            dataset = open_dataset(folder / "dataset")
            for split in ("train", "test"):
                assert dataset.split(split).rows == dataset.schema.splits[split].rows
            dataset.vocabulary("a")
            Encoder.load(folder / "dataset")
        except InputError as error:
            assert "\n" not in str(error)
