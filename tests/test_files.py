"""What a file is, how it is packed and what its directories say: the same rows come out."""

import bz2
import gzip
import http.server
import io
import json
import lzma
import pickle
import threading
import tracemalloc
import zipfile
from functools import partial

import fsspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from multiembed.base.errors import ConfigError, DataError
from multiembed.base.validation import checked
from multiembed.config import RunConfig
from multiembed.data.options import PrepareOptions
from multiembed.data.prepare import prepare, preview
from multiembed.data.sources import columnar, records
from multiembed.data.sources.formats import FORMATS
from multiembed.data.sources.source import START
from multiembed.data.store.dataset import open_dataset
from multiembed.serving.predict import predict
from multiembed.serving.rows_out import writing
from multiembed.training.start import train

ROWS = 300


@pytest.fixture
def frame():
    """Rows of text, as pandas has them."""
    random = np.random.default_rng(5)
    return pd.DataFrame(
        {
            "y": random.integers(0, 2, ROWS).astype(str),
            "a": random.choice(["x", "so, so", 'a "b" c', "ü", "two\nlines"], ROWS),
            "n": random.integers(0, 99, ROWS).astype(str),
        }
    )


def opened(source, folder, **options):
    asked = PrepareOptions(format="table", **({"label": "y"} | options))
    return FORMATS["table"].open_all(source, folder / "downloads", asked)


def rows_of(reader, start=START):
    return pl.concat(block.rows for block in reader.blocks(reader.names, start))


def assert_holds(reader, frame):
    """The reader gives the rows of a frame of text, and goes on from each of its marks."""
    expected = pl.from_pandas(frame.reset_index(drop=True))
    assert rows_of(reader).equals(expected)
    for block in reader.blocks(reader.names):
        if block.after.number < ROWS:
            assert rows_of(reader, block.after).equals(expected[block.after.number :])


def stream_of(table):
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=70):
            writer.write(batch)
    return out.getvalue()


def written_as(frame, kind):
    """The bytes of a frame in one kind of file, written by pandas and pyarrow."""
    text = frame.to_csv(index=False).encode()
    table = pa.Table.from_pandas(frame)
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("__MACOSX/._rows.csv", "junk")
            archive.writestr("rows.csv", text)
    elif kind == "parquet":
        frame.to_parquet(out, row_group_size=70)
    elif kind == "feather":
        frame.to_feather(out)
    packed = {
        "gzip": lambda: gzip.compress(text[:500]) + gzip.compress(text[500:]),
        "bz2": lambda: bz2.compress(text[:500]) + bz2.compress(text[500:]),
        "xz": lambda: lzma.compress(text),
        "zstd": lambda: pa.compress(text, "zstd", asbytes=True),
        "lz4": lambda: pa.compress(text, "lz4", asbytes=True),
        "tabs": lambda: frame.to_csv(index=False, sep="\t").encode(),
        "stream": lambda: stream_of(table),
        "array": lambda: frame.to_json(orient="records", indent=2).encode(),
        "one_line": lambda: b"\xef\xbb\xbf" + frame.to_json(orient="records").encode(),
        "lines": lambda: frame.to_json(orient="records", lines=True).encode(),
    }
    return packed[kind]() if kind in packed else out.getvalue()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("gzip", "rows"),
        ("bz2", "rows.csv.gz"),
        ("xz", "rows.TXT"),
        ("zstd", "rows.parquet"),
        ("lz4", "rows.csv.lz4"),
        ("tabs", "rows.TSV"),
        ("tabs", "rows.tab"),
        ("zip", "rows.zip"),
        ("parquet", "ROWS.PARQUET"),
        ("parquet", "df.parquet.gzip"),
        ("parquet", "rows"),
        ("parquet", "rows.csv"),
        ("feather", "rows[1].arrow"),
        ("feather", "part-*.bin"),
        ("stream", "rows.arrows"),
        ("stream", "rows.arrow"),
        ("array", "rows.json"),
        ("one_line", "ROWS.JSON"),
        ("lines", "rows.NDJSON"),
        ("lines", "part-0"),
        ("array", "rows.txt"),
    ],
)
def test_first_bytes_decide_what_a_file_is(kind, name, frame, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "BYTES_PER_READ", 700)
    monkeypatch.setattr(columnar, "ROWS_PER_BLOCK", 64)
    (tmp_path / name).write_bytes(written_as(frame, kind))

    assert_holds(opened(tmp_path / name, tmp_path), frame)


def encrypted():
    """An archive that says of its file that it is encrypted."""
    content = bytearray(written_as(pd.DataFrame({"y": ["1"]}), "zip"))
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (written_as(pd.DataFrame({"y": ["1"]}), "zip")[:40], "must be readable, got: "),
        (bz2.compress(b"y,a\n" * 99)[:-9], "must be readable, got: "),
        (lzma.compress(b"y,a\n" * 99)[:-9], "must be readable, got: "),
        (gzip.compress(b"y,a\n1,x\n")[:-3], "must be readable, got: "),
        (gzip.compress(b"PAR1 and more"), "must be unpacked first, got parquet inside"),
        (gzip.compress(b"a" * 257 + b"ustar"), "must be unpacked first, got a tar archive"),
        (b"ORC\x08\x03", "must be text, JSON, Parquet or Arrow, plain or compressed, got ORC"),
        (b"Obj\x01\x04", "got Avro"),
        (b"\x89HDF\r\n", "got HDF5"),
        (pickle.dumps([1]), "got pickle"),
        (pickle.dumps([1], 2), "got pickle"),
        (lzma.compress(b"y,a\n", lzma.FORMAT_ALONE), "got LZMA"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "got Excel"),
        (b"version https://git-lfs.github.com/spec/v1\n", "got a pointer of Git LFS"),
        (b"<!DOCTYPE html>\n", "got HTML"),
        (gzip.compress(gzip.compress(b"y,a\n1,x\n")), "unpacked first, got gzip inside"),
        (b"\x89PNG\r\n\x1a\n", r"line 1: text must be UTF-8, got byte 0x89"),
        (encrypted(), r"must be unpacked first, got an encrypted rows\.csv"),
        (b"y\0,\0a\0\n\0", r"line 1: text must hold no NUL, got one \(encoding may be utf-16-le\)"),
        (b"y::a::b\n1::2::3\n", r"line 1: columns must be separated by tab, .* got 'y::a::b'"),
    ],
    ids=map(str, range(20)),  # some bytes hold the time
)
def test_what_is_not_read_is_named(content, message, tmp_path):
    (tmp_path / "rows").write_bytes(content)

    with pytest.raises(DataError, match=message):
        rows_of(opened(tmp_path / "rows", tmp_path))


def test_a_workbook_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "rows.xlsx", "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.xml", "<workbook/>")

    with pytest.raises(DataError, match="must be text, JSON, Parquet or Arrow, got a spreadsheet"):
        opened(tmp_path / "rows.xlsx", tmp_path)


def test_an_archive_of_several_files_is_refused_by_their_names(tmp_path):
    with zipfile.ZipFile(tmp_path / "rows.zip", "w") as archive:
        archive.writestr("one.csv", "y,a\n1,x\n")
        archive.writestr("two.csv", "y,a\n1,x\n")

    with pytest.raises(DataError, match=r"must hold one file or be unpacked, got 2: one\.csv, two"):
        opened(tmp_path / "rows.zip", tmp_path)


@pytest.mark.parametrize("pack", [bz2.compress, partial(lzma.compress, preset=0)])
def test_compressed_text_is_read_in_flat_memory(pack, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "BYTES_PER_READ", 1 << 16)
    (tmp_path / "rows.csv").write_bytes(pack(b"y,a\n" + b"1,some text\n" * 400_000))
    reader = opened(tmp_path / "rows.csv", tmp_path)

    tracemalloc.start()
    count = sum(block.rows.height for block in reader.blocks(["y"]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert count == 400_000
    assert peak < 2_000_000  # 4.8 MB of text


def test_empty_files_among_others_are_skipped_and_counted(frame, tmp_path):
    (tmp_path / "logs").mkdir()
    for place, content in enumerate([b"", frame.to_csv(index=False).encode(), b"\n", b""]):
        (tmp_path / "logs" / f"part-{place}.csv").write_bytes(content)
    (tmp_path / "logs" / "part-4.csv.gz").write_bytes(gzip.compress(b""))

    reader = opened(tmp_path / "logs", tmp_path)

    assert_holds(reader, frame)
    first = tmp_path / "logs" / "part-0.csv"
    assert reader.remarks == (f"4 empty files were skipped, first {first}",)
    (tmp_path / "logs" / "part-1.csv").write_bytes(b"")
    with pytest.raises(DataError, match="must hold column names and rows, got an empty file"):
        opened(tmp_path / "logs", tmp_path)


def hive(frame, folder):
    """Write rows as Hive does: a directory for each country and day."""
    parts = []
    for place, (country, day) in enumerate(
        [("de", "1"), ("fr", "2"), ("a%2Fb", None), ("de", "2")]
    ):
        part = frame[place * 75 : place * 75 + 75]
        name = "__HIVE_DEFAULT_PARTITION__" if day is None else day
        below = folder / f"country={country}" / f"day={name}"
        below.mkdir(parents=True)
        part.to_csv(below / "part-0.csv", index=False)
        parts.append((country, name, part.assign(country=country.replace("%2F", "/"), day=day)))
    (folder / "_SUCCESS").touch()
    (folder / "_delta_log").mkdir()
    (folder / "_delta_log" / "0.json").write_text("{}")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "part.csv").write_text("nothing")
    return pd.concat(part for _, _, part in sorted(parts, key=lambda one: one[:2]))


def test_directories_are_walked_and_their_names_are_columns(frame, tmp_path):
    expected = hive(frame, tmp_path / "run=5" / "logs")

    for source in ("run=5/logs", "run=5/logs/*/*/*.csv", "run=5/logs/country=*"):
        reader = opened(str(tmp_path / source), tmp_path)

        assert_holds(reader, expected)
        assert set(reader.sample(40)["country"]) <= {"de", "fr", "a/b"}


def test_a_directory_above_names_a_column_that_somebody_asks_for(frame, tmp_path):
    hive(frame, tmp_path / "logs")
    part = tmp_path / "logs" / "country=fr" / "day=2" / "part-0.csv"

    assert opened(part, tmp_path).names == ("y", "a", "n")
    asked = opened(part, tmp_path, categorical_columns=("country",))

    assert rows_of(asked)["country"].to_list() == ["fr"] * 75


def test_directories_of_a_list_are_told_apart_and_patterns_pass_over_what_is_hidden(
    frame, tmp_path, monkeypatch
):
    expected = hive(frame, tmp_path / "logs")
    for step in ("country=de", "_temporary"):
        (tmp_path / "logs" / step / "day=1").mkdir(parents=True, exist_ok=True)
        (tmp_path / "logs" / step / "day=1" / "_metadata.csv").write_text("nothing")
    monkeypatch.chdir(tmp_path)
    listed = [f"logs/country={name}" for name in ("a%2Fb", "de", "fr")]

    for source in (listed, "logs/*/*/*.csv", "logs/**/part*.csv"):
        names = ["y", "a", "n", "country", "day"]
        assert_holds(opened(source, tmp_path), expected[names])
    by_split = {"train": listed[1], "valid": listed[2], "test": listed[0]}
    assert opened(by_split, tmp_path).names == ("y", "a", "n", "day")
    with pytest.raises(DataError, match=r"part-0.csv must be given once .*, got it twice"):
        opened([listed[0], "logs/*/*/part-0.csv"], tmp_path)


def test_only_partitions_may_be_read(frame, tmp_path):
    hive(frame, tmp_path / "logs")
    reader = opened(tmp_path / "logs", tmp_path)

    blocks = [block.rows for block in reader.blocks(["day", "country"])]

    assert pl.concat(blocks).columns == ["day", "country"]
    assert sum(block.height for block in blocks) == ROWS


def test_the_index_of_pandas_is_left_out_unless_asked_for(frame, tmp_path):
    shuffled = frame.sample(frac=1, random_state=0)
    shuffled.to_parquet(tmp_path / "shuffled.parquet")
    shuffled.rename_axis("user").to_parquet(tmp_path / "named.parquet")
    shuffled.to_csv(tmp_path / "shuffled.csv")
    pd.read_csv(tmp_path / "shuffled.csv", dtype=str).to_csv(tmp_path / "twice.csv")
    (tmp_path / "stream").write_bytes(stream_of(pa.Table.from_pandas(shuffled)))
    plain = pl.read_parquet(tmp_path / "shuffled.parquet")
    pq.write_table(plain.to_arrow(), tmp_path / "again.parquet")  # without what pandas said
    plain.write_csv(tmp_path / "again.csv")

    for name, column in {
        "again.parquet": "'__index_level_0__' is the index of a frame of pandas",
        "again.csv": "'__index_level_0__' is the index of a frame of pandas",
        "shuffled.parquet": "'__index_level_0__' is the index of a frame of pandas",
        "named.parquet": "'user' is the index of a frame of pandas",
        "stream": "'__index_level_0__' is the index of a frame of pandas",
        "shuffled.csv": "'' has no name",
        "twice.csv": "'Unnamed: 0' is the index of a frame of pandas",
    }.items():
        reader = opened(tmp_path / name, tmp_path)
        assert_holds(reader, shuffled)
        assert reader.remarks[0] == f"{tmp_path / name}: column {column} and is left out"

    asked = opened(tmp_path / "named.parquet", tmp_path, categorical_columns=("user",))
    assert rows_of(asked)["user"].to_list() == shuffled.index.to_list()
    assert asked.remarks == ()
    kept = opened(tmp_path / "named.parquet", tmp_path, keep=("user",))
    assert rows_of(kept)["user"].to_list() == shuffled.index.to_list()
    assert kept.unlearned == {"user"} and kept.remarks == ()


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_chosen_columns_are_the_only_fields(kind, frame, tmp_path):
    file, more = tmp_path / f"rows.{kind}", frame.assign(b="x", user="u")
    writers = {"csv": more.to_csv, "parquet": more.to_parquet}
    if kind == "jsonl":
        more.to_json(file, orient="records", lines=True)
    else:
        writers[kind](file, index=False)
    asked = PrepareOptions(format="table", label="y", columns=("n", "a"), keep=("user",))

    assert [one.field.name for one in preview(file, asked, tmp_path).fields] == ["a", "n"]
    assert opened(file, tmp_path, columns=("y", "n")).names == ("y", "n")
    assert opened(file, tmp_path, columns=("n",), categorical_columns=("b",)).names == (
        *("y", "n", "b"),
    )
    with pytest.raises(DataError, match="columns must be among y, a, n, b, user, got 'c'"):
        opened(file, tmp_path, columns=("c",))


def test_dropped_columns_are_no_fields(frame, tmp_path):
    frame.to_csv(tmp_path / "rows.csv", index=False)

    shown = preview(
        tmp_path / "rows.csv", PrepareOptions(format="table", label="y", drop=("a",)), tmp_path
    )

    assert [one.field.name for one in shown.fields] == ["n"]
    for drop, message in {
        "b": "must name columns of y, a, n, got 'b'",
        "y": "'y', which has a",
    }.items():
        with pytest.raises(DataError, match=message):
            opened(tmp_path / "rows.csv", tmp_path, drop=(drop,))


def test_nested_columns_are_left_out_unless_asked_for(tmp_path):
    table = pa.table(
        {
            "y": ["0", "1"],
            "where": [{"city": "Ulm"}, {"city": "Bonn"}],
            "seen": [["3", "17"], None],
            "deep": [[["a"]], [[]]],
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    (tmp_path / "rows.stream").write_bytes(stream_of(table))
    lines = "".join(json.dumps(row) + "\n" for row in table.to_pylist())
    (tmp_path / "rows.jsonl").write_text(lines)

    for name in ("rows.parquet", "rows.stream", "rows.jsonl"):
        reader = opened(tmp_path / name, tmp_path)
        found = rows_of(reader)
        assert found.to_dict(as_series=False) == {"y": ["0", "1"], "seen": [["3", "17"], None]}
        assert found.schema["seen"] == pl.List(pl.String)
        assert [line.split("'")[1] for line in reader.remarks] == ["where", "deep"]
        with pytest.raises(DataError, match="column 'where' must hold plain values or lists of"):
            opened(tmp_path / name, tmp_path, categorical_columns=("where",))
    mixed = opened([tmp_path / "rows.parquet", tmp_path / "rows.jsonl"], tmp_path)
    assert rows_of(mixed)["seen"].to_list() == [["3", "17"], None] * 2


@pytest.mark.parametrize("name", ["*", "^a.*$", "a\0b"])
def test_names_that_stand_for_several_columns_are_refused(name, tmp_path):
    pq.write_table(pa.table({"y": ["0"], name: ["x"]}), tmp_path / "rows.parquet")

    with pytest.raises(DataError, match=r"rows\.parquet: a column must have a plain name, got "):
        opened(tmp_path / "rows.parquet", tmp_path)
    assert opened(tmp_path / "rows.parquet", tmp_path, drop=(name,)).names == ("y",)


def test_prepare_says_what_was_left_out_and_keeps_it_nowhere(frame, tmp_path):
    frame.to_csv(tmp_path / "rows.csv")
    options, said = PrepareOptions(format="table", label="y", min_count=1), []

    prepare(tmp_path / "rows.csv", tmp_path / "dataset", options, remark=said.append)

    expected = [f"{tmp_path / 'rows.csv'}: column '' has no name and is left out"]
    assert said == expected == list(preview(tmp_path / "rows.csv", options, tmp_path).remarks)
    assert "no name" not in (tmp_path / "dataset" / "schema.json").read_text()


@pytest.mark.parametrize("kind", ["csv", "gzip", "parquet", "stream", "lines", "array", "hive"])
def test_a_sample_is_from_beginning_middle_and_end(kind, tmp_path, monkeypatch):
    rows = 60_000
    frame = pd.DataFrame({"y": ["0", "1"] * (rows // 2), "n": np.arange(rows).astype(str)})
    if kind == "hive":
        for part in range(6):
            (tmp_path / "rows" / f"part={part}").mkdir(parents=True)
            share = frame[part * 10_000 : (part + 1) * 10_000]
            share.to_csv(tmp_path / "rows" / f"part={part}" / "0.csv", index=False)
    elif kind == "csv":
        monkeypatch.setattr("multiembed.data.sources.text.SAMPLE_WINDOW", 1 << 14)
        frame.to_csv(tmp_path / "rows", index=False)
    else:
        suffix = ".json" if kind in ("lines", "array") else ""
        (tmp_path / f"rows{suffix}").write_bytes(written_as(frame, kind))
        tmp_path = tmp_path / f"rows{suffix}"
    source = tmp_path if tmp_path.is_file() else tmp_path / "rows"

    sample = opened(source, tmp_path.parent).sample(1000)

    assert 900 <= sample.height <= 1100
    numbers = sample["n"].cast(pl.Int64).sort().to_numpy()
    assert numbers[0] < 1000
    assert numbers[-1] > rows - 1500
    assert ((numbers > rows * 0.3) & (numbers < rows * 0.7)).sum() > 100
    assert len(np.unique(numbers)) == len(numbers)


def test_stores_of_objects_are_read_where_something_opens_them(frame, tmp_path):
    store = fsspec.filesystem("memory")
    for place in range(2):
        part = frame[place * 150 : place * 150 + 150].to_csv(index=False).encode()
        store.pipe(f"/logs/day={place}/part.csv", part)
    store.pipe("/logs/_SUCCESS", b"")
    store.pipe("/logs/_packed.csv.gz", written_as(frame, "gzip"))
    try:
        packed = opened("memory://logs/_packed.csv.gz", tmp_path)
        two = opened([f"memory://logs/day={place}/part.csv" for place in range(2)], tmp_path)
        one = opened("memory://logs/day=0/part.csv", tmp_path)
        both = opened("memory://logs", tmp_path)
    finally:
        store.rm("/logs", recursive=True)

    assert rows_of(one).equals(pl.from_pandas(frame[:150]))
    assert_holds(packed, frame)
    assert rows_of(two).equals(rows_of(both))
    days = frame.assign(day=["0"] * 150 + ["1"] * 150)
    assert_holds(both, days)
    assert both.name(both.files[1]) == "memory://logs/day=1/part.csv"
    for url, message in {
        "foo://logs/x": "must be downloaded first, got a scheme that nothing installed reads: foo",
        "memory://absent/x": "must be readable, got: |must be a file or a directory",
        "foo://user:secret@logs/x": "foo://logs/x must be downloaded",
    }.items():
        with pytest.raises(DataError, match=message):
            opened(url, tmp_path)


def test_scoring_reads_partitions_and_passes_on_what_was_dropped(frame, tmp_path):
    expected = hive(frame, tmp_path / "logs")
    options = PrepareOptions(format="table", label="y", min_count=1, drop=("n",))
    schema = prepare(tmp_path / "logs", tmp_path / "dataset", options)
    config = checked(
        RunConfig,
        {
            "model": {"architecture": "dnn", "dim": 2, "options": {"hidden": [4]}},
            "training": {"max_epochs": 1},
        },
    )
    run = train(config, dataset=open_dataset(tmp_path / "dataset"), run=tmp_path / "run")
    part = "logs/country=fr/day=2/part-0.csv"

    predict(run, tmp_path / "logs", tmp_path / "all.csv")
    predict(run, tmp_path / part, tmp_path / "part.csv")

    assert schema.field_names == ("a", "country", "day")
    scored = pd.read_csv(tmp_path / "all.csv", dtype=str)
    assert scored["n"].tolist() == expected["n"].tolist()
    alone = pd.read_csv(tmp_path / "part.csv", dtype=str)
    there = (expected["country"] == "fr").to_numpy()
    assert alone["probability"].tolist() == scored["probability"][there].tolist()


def test_lists_are_written_as_text(tmp_path):
    rows = pl.DataFrame({"seen": [[3, 17], None, []], "p": [0.5, 0.25, 0.125]})

    with writing(tmp_path / "out.csv") as writer:
        writer.write(rows)

    assert (tmp_path / "out.csv").read_text() == 'seen,p\n"[3, 17]",0.5\n,0.25\n[],0.125\n'


class OneObject(http.server.BaseHTTPRequestHandler):
    """Answers as S3 does for one object."""

    path_served, content = "/bucket/june/rows.csv", b""

    def do_GET(self):
        begin, end = 0, len(self.content)
        if wanted := self.headers.get("Range"):
            begin, end = (int(n) for n in wanted.removeprefix("bytes=").split("-"))
        body = self.content[begin : end + 1] if self.path == self.path_served else b""
        self.send_response(206 if wanted else 200 if self.path == self.path_served else 404)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Mon, 30 Nov 2026 10:00:00 GMT")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


def test_an_object_of_s3_is_read(frame, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "something")
    OneObject.content = frame.to_csv(index=False).encode()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), OneObject) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        place = f"?endpoint_override=127.0.0.1:{server.server_port}&scheme=http&region=us-east-1"
        reader = opened(f"s3://bucket/june/rows.csv{place}", tmp_path)
        server.shutdown()
        thread.join()

    assert_holds(reader, frame)
    assert reader.name(reader.files[0]) == "s3://bucket/june/rows.csv"


def test_a_file_url_is_a_path(frame, tmp_path):
    frame.to_csv(tmp_path / "some rows.csv", index=False)

    reader = opened((tmp_path / "some rows.csv").as_uri(), tmp_path)

    assert_holds(reader, frame)
    assert reader.files == (tmp_path / "some rows.csv",)
    with pytest.raises(DataError, match=r"file://rows\.csv must be file:///PATH, got the machine"):
        opened("file://rows.csv", tmp_path)


def test_nothing_is_written_to_a_url(frame, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame.to_csv("rows.csv", index=False)

    with pytest.raises(ConfigError, match="s3://bucket/ds must be a path on this machine, got s3"):
        prepare("rows.csv", "s3://bucket/ds", PrepareOptions(format="table", label="y"))

    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
