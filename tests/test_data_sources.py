"""Sources of every kind give the same dataset, and published splits are kept."""

import gzip
import http.server
import json
import threading

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from splits import split_rows

from multiembed.base.errors import ConfigError, DataError
from multiembed.data.options import PrepareOptions
from multiembed.data.prepare import prepare
from multiembed.data.sources import columnar as tables
from multiembed.data.sources import records
from multiembed.data.store.dataset import open_dataset

OPTIONS = PrepareOptions(format="table", label="y", min_count=1, numeric_columns=("n",))
ROWS = 300


@pytest.fixture
def frame():
    """Rows of three fields, with holes."""
    random = np.random.default_rng(3)
    texts = random.choice(["x", "y", None, "long text " * 3], ROWS - 1).tolist()
    return pl.DataFrame(
        {
            "y": random.integers(0, 2, ROWS),
            "a": ["x", *texts],
            "n": random.integers(0, 99, ROWS),
            "u": random.choice([f"user{number}" for number in range(60)], ROWS),
        }
    )


def write_jsonl(frame, path):
    lines = [
        json.dumps({k: v for k, v in row.items() if v is not None}) for row in frame.to_dicts()
    ]
    path.write_text("\n".join(lines) + "\n\n")


def contents(dataset):
    """Everything of a dataset but the names and sizes of its sources."""
    opened = open_dataset(dataset)
    splits = {
        name: (opened.split(name).ids, opened.split(name).labels) for name in opened.schema.splits
    }
    vocabularies = {name: opened.vocabulary(name).rows() for name in opened.field_names}
    return splits, vocabularies


def assert_same(one, other):
    splits, vocabularies = contents(one)
    others, other_vocabularies = contents(other)
    assert vocabularies == other_vocabularies
    for name, (ids, labels) in splits.items():
        np.testing.assert_array_equal(ids, others[name][0])
        np.testing.assert_array_equal(labels, others[name][1])


def write_all_kinds(frame, folder):
    """Write the same rows in every kind of file."""
    frame.write_csv(folder / "rows.csv")
    frame.write_csv(folder / "rows.tsv", separator="\t")
    frame.write_parquet(folder / "rows.parquet", row_group_size=70)
    frame.write_ipc(folder / "rows.arrow")
    write_jsonl(frame, folder / "rows.jsonl")
    for name in ("rows.csv", "rows.jsonl"):
        raw = (folder / name).read_bytes()
        (folder / f"{name}.gz").write_bytes(gzip.compress(raw[:999]) + gzip.compress(raw[999:]))
        (folder / f"{name}.zst").write_bytes(pa.compress(raw, "zstd", asbytes=True))
    plain = ["rows.tsv", "rows.parquet", "rows.arrow", "rows.jsonl"]
    return [*plain, "rows.csv.gz", "rows.csv.zst", "rows.jsonl.gz", "rows.jsonl.zst"]


def test_every_kind_of_file_gives_the_same_dataset(frame, tmp_path, monkeypatch):
    kinds = write_all_kinds(frame, tmp_path)
    prepare(tmp_path / "rows.csv", tmp_path / "expected", OPTIONS)
    monkeypatch.setattr(records, "BYTES_PER_READ", 1001)
    monkeypatch.setattr(tables, "ROWS_PER_BLOCK", 64)

    for kind in kinds:
        prepare(tmp_path / kind, tmp_path / f"{kind}-dataset", OPTIONS)

        assert_same(tmp_path / "expected", tmp_path / f"{kind}-dataset")


def test_several_files_are_one_source(frame, tmp_path):
    frame.write_csv(tmp_path / "whole.csv")
    (tmp_path / "parts").mkdir()
    frame[:100].write_csv(tmp_path / "parts" / "1.csv")
    frame[100:130].write_parquet(tmp_path / "parts" / "2.parquet")
    frame[130:].select("u", "n", "a", "y").write_csv(tmp_path / "parts" / "3.csv")
    (tmp_path / "parts" / "_SUCCESS").touch()
    prepare(tmp_path / "whole.csv", tmp_path / "expected", OPTIONS)

    prepare(tmp_path / "parts", tmp_path / "directory", OPTIONS)
    prepare(str(tmp_path / "parts" / "[0-9].*"), tmp_path / "pattern", OPTIONS)
    listed = [tmp_path / "parts" / name for name in ("1.csv", "2.parquet", "3.csv")]
    schema = prepare(listed, tmp_path / "list", OPTIONS)

    for name in ("directory", "pattern", "list"):
        assert_same(tmp_path / "expected", tmp_path / name)
    assert [source.path for source in schema.sources] == [str(file) for file in listed]


def test_the_order_of_files_within_a_split_changes_no_id(frame, tmp_path):
    names = ["1.csv", "2.csv", "3.csv"]
    for place, name in enumerate(names):
        frame[place * 60 : place * 60 + 60].write_csv(tmp_path / name)
    frame[180:190].write_csv(tmp_path / "valid.csv")
    frame[190:].write_csv(tmp_path / "test.csv")
    splits = {"valid": tmp_path / "valid.csv", "test": tmp_path / "test.csv"}

    for order in (names, names[::-1]):
        files = [tmp_path / name for name in order]
        prepare(splits | {"train": files}, tmp_path / order[0][0], OPTIONS)

    there, back = (open_dataset(tmp_path / name) for name in ("1", "3"))
    thirds = np.split(back.split("train").ids, 3)
    np.testing.assert_array_equal(there.split("train").ids, np.concatenate(thirds[::-1]))
    for name in ("valid", "test"):
        np.testing.assert_array_equal(there.split(name).ids, back.split(name).ids)
    for field in there.field_names:
        assert there.vocabulary(field).equals(back.vocabulary(field))


def test_files_with_other_columns_are_refused(frame, tmp_path):
    frame.write_csv(tmp_path / "1.csv")
    frame.drop("u").write_csv(tmp_path / "2.csv")

    with pytest.raises(DataError, match=r"2\.csv must have the columns of .*1\.csv.*'u'"):
        prepare(str(tmp_path / "*.csv"), tmp_path / "dataset", OPTIONS)


def test_a_bad_row_is_named_by_its_file_and_line(frame, tmp_path):
    frame[:20].write_csv(tmp_path / "1.csv")
    (tmp_path / "2.jsonl").write_text('{"y": 1, "a": "x", "n": 1, "u": "v"}\n{"y": 1,}\n[1]\n')

    with pytest.raises(DataError) as error:
        prepare([tmp_path / "1.csv", tmp_path / "2.jsonl"], tmp_path / "dataset", OPTIONS)

    assert f"{tmp_path / '2.jsonl'} line 2: a line must be one JSON object" in str(error.value)
    assert f"{tmp_path / '2.jsonl'} line 3" in str(error.value)


def test_a_published_split_is_kept_and_counted_on_its_training_files(frame, tmp_path):
    sizes = {"train": slice(0, 200), "valid": slice(200, 240), "test": slice(240, 300)}
    for name, rows in sizes.items():
        frame[rows].write_csv(tmp_path / f"{name}.csv")
    source = {name: tmp_path / f"{name}.csv" for name in sizes}

    schema = prepare(source, tmp_path / "dataset", OPTIONS)

    dataset = open_dataset(tmp_path / "dataset")
    for name, rows in sizes.items():
        assert schema.splits[name].rows == frame[rows].height
        np.testing.assert_array_equal(dataset.split(name).labels, frame[rows]["y"].to_numpy())
    counted = frame[:200]["u"].value_counts()
    found = dataset.vocabulary("u")
    assert dict(zip(found["value"], found["count"], strict=True)) == dict(counted.iter_rows())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            {"train": "1.csv", "test": "1.csv"},
            "files must be given for train, valid, test, got none",
        ),
        ({"train": "1.csv", "valid": "1.csv", "test": "2.csv"}, "one split only, got it twice"),
        (
            {"train": "1.csv", "valid": "2.csv", "test": "0.csv"},
            "0.csv must be a file, a directory",
        ),
    ],
)
def test_splits_that_are_none_are_refused(source, message, frame, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame.write_csv("1.csv")
    frame.write_csv("2.csv")

    with pytest.raises(DataError, match=message):
        prepare(source, tmp_path / "dataset", OPTIONS)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a directory and says nothing."""

    directory_served = ""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, directory=self.directory_served, **options)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """The address of a server of a directory."""
    (tmp_path / "served").mkdir()
    Quiet.directory_served = str(tmp_path / "served")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_files_behind_urls_are_read_as_files(frame, tmp_path, server):
    frame.write_csv(tmp_path / "rows.csv")
    raw = (tmp_path / "rows.csv").read_bytes()
    (tmp_path / "served" / "rows.csv.gz").write_bytes(gzip.compress(raw))
    frame.write_parquet(tmp_path / "served" / "rows.parquet")
    prepare(tmp_path / "rows.csv", tmp_path / "expected", OPTIONS)

    for name in ("rows.csv.gz", "rows.parquet"):
        schema = prepare(f"{server}/{name}", tmp_path / f"{name}-dataset", OPTIONS)

        assert_same(tmp_path / "expected", tmp_path / f"{name}-dataset")
        assert schema.sources[0].path == f"{server}/{name}"
        assert not (tmp_path / f".{name}-dataset.multiembed").exists()


def test_a_url_without_a_file_is_refused(tmp_path, server):
    for url in (f"{server}/absent.csv", "http://127.0.0.1:9/rows.csv", "hf://models/x"):
        with pytest.raises(DataError, match="must be readable, got: ") as error:
            prepare(url, tmp_path / "dataset", OPTIONS)

        assert str(error.value).startswith(url)
    assert not list(tmp_path.glob("dataset*"))


def test_the_rows_of_a_group_stay_together(frame, tmp_path):
    frame.write_csv(tmp_path / "rows.csv")
    options = OPTIONS.model_copy(update={"split_by_group": "u"})

    schema = prepare(tmp_path / "rows.csv", tmp_path / "dataset", options)

    dataset = open_dataset(tmp_path / "dataset")
    place = dataset.field_names.index("u")
    train = dataset.split("train").ids[:, place]
    seen = dataset.vocabulary("u")["value"]
    assert (train > 0).all()
    assert set(frame["u"]) > set(seen)
    for name in ("valid", "test"):
        assert (dataset.split(name).ids[:, place] == 0).all()
    users = frame.filter(pl.col("u").is_in(seen.to_list()))
    assert schema.splits["train"].rows == users.height


def test_the_seed_says_which_groups_train(frame, tmp_path):
    frame.write_csv(tmp_path / "rows.csv")

    def training_groups(seed, place):
        options = OPTIONS.model_copy(update={"split_by_group": "u", "seed": seed})
        prepare(tmp_path / "rows.csv", tmp_path / place, options)
        return set(open_dataset(tmp_path / place).vocabulary("u")["value"])

    first = training_groups(0, "first")

    assert training_groups(0, "again") == first
    assert training_groups(1, "other") != first


@pytest.mark.parametrize("kind", ["number", "date"])
def test_later_rows_validate_and_test(kind, frame, tmp_path):
    order = np.random.default_rng(0).permutation(ROWS)
    moments = [f"2024-{1 + number // 28:02}-{1 + number % 28:02}" for number in order]
    times = pl.Series("t", order.tolist() if kind == "number" else moments)
    frame.with_columns(times).write_csv(tmp_path / "rows.csv")
    options = OPTIONS.model_copy(update={"split_by": "t"})

    prepare(tmp_path / "rows.csv", tmp_path / "dataset", options)

    dataset = open_dataset(tmp_path / "dataset")
    assert "t" not in dataset.field_names
    labels = frame["y"].to_numpy()
    for name, low, high in (("train", 0, 240), ("valid", 240, 270), ("test", 270, 300)):
        chosen = (order >= low) & (order < high)
        np.testing.assert_array_equal(dataset.split(name).labels, labels[chosen])


def test_split_columns_that_do_not_fit_are_refused(frame, tmp_path):
    frame.write_csv(tmp_path / "rows.csv")
    frame.write_csv(tmp_path / "2.csv")
    frame.write_csv(tmp_path / "3.csv")
    given = {
        "train": tmp_path / "rows.csv",
        "valid": tmp_path / "2.csv",
        "test": tmp_path / "3.csv",
    }

    for source, column, message in (
        (tmp_path / "rows.csv", "absent", "split_by must be a column of .* got 'absent'"),
        (tmp_path / "rows.csv", "y", "must have 3 different values at least, got 2"),
        (given, "u", "split_by must be left out if files are given by split"),
    ):
        with pytest.raises((DataError, ConfigError), match=message):
            options = OPTIONS.model_copy(update={"split_by": column})
            prepare(source, tmp_path / "dataset", options)


def write_split(folder, frame):
    """Write rows as a published split: 8 of 10 train."""
    folder.mkdir()
    for name, rows in zip(("train", "valid", "test"), split_rows(frame.height, 0), strict=True):
        frame[rows].write_csv(folder / f"{name}.csv")


def test_criteo_x4_reads_real_rows(real_data, tmp_path):
    names = ["Label", *(f"I{n}" for n in range(1, 14)), *(f"C{n}" for n in range(1, 27))]
    file = real_data / "criteo_7k" / "train.tsv"
    raw = pl.read_csv(file, separator="\t", has_header=False, infer_schema=False, new_columns=names)
    write_split(tmp_path / "Criteo_x4", raw)

    schema = prepare(tmp_path / "Criteo_x4", tmp_path / "x4", PrepareOptions(format="criteo_x4"))
    prepare(file, tmp_path / "plain", PrepareOptions(format="criteo"))

    assert schema.label == "Label"
    assert {field.min_count for field in schema.fields} == {10}
    assert_same(tmp_path / "x4", tmp_path / "plain")


def test_avazu_x4_reads_real_rows_and_takes_the_hour_apart(real_data, tmp_path):
    raw = pl.read_csv(real_data / "avazu_9k" / "train.csv", infer_schema=False)
    later = raw[:500].with_columns(pl.lit("14102513").alias("hour"))  # a Saturday, 13 o'clock
    rows = pl.concat([raw, later])
    write_split(tmp_path / "Avazu_x4", rows)

    schema = prepare(tmp_path / "Avazu_x4", tmp_path / "x4", PrepareOptions(format="avazu_x4"))

    dataset = open_dataset(tmp_path / "x4")
    assert len(schema.fields) == 24
    assert {field.min_count for field in schema.fields} == {2}
    assert dataset.vocabulary("hour")["value"].to_list() == ["0", "13"]
    assert dataset.vocabulary("weekday")["value"].to_list() == ["2", "6"]
    assert dataset.vocabulary("weekend")["value"].to_list() == ["0", "1"]


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (
            "frappe_x1",
            [
                "user",
                "item",
                "daytime",
                "weekday",
                "isweekend",
                "homework",
                "cost",
                "weather",
                "country",
                "city",
            ],
        ),
        ("movielenslatest_x1", ["user_id", "item_id", "tag_id"]),
    ],
)
def test_small_published_splits_keep_every_value(kind, fields, tmp_path):
    random = np.random.default_rng(0)
    columns = {name: random.integers(0, 50, ROWS) for name in fields}
    frame = pl.DataFrame({"label": random.integers(0, 2, ROWS)} | columns)
    write_split(tmp_path / "split", frame)

    schema = prepare(tmp_path / "split", tmp_path / "dataset", PrepareOptions(format=kind))

    assert schema.field_names == tuple(fields)
    train = frame[split_rows(ROWS, 0)[0]]
    assert schema.cardinalities == tuple(train[name].n_unique() + 1 for name in fields)
    frame.drop(fields[0]).write_csv(tmp_path / "split" / "test.csv")
    with pytest.raises(DataError, match=f"got a difference in '{fields[0]}'"):
        prepare(tmp_path / "split", tmp_path / "again", PrepareOptions(format=kind))
