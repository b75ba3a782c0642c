"""Preparing: bad rows and bad files are named, and nothing half-written looks whole."""

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from splits import split_rows

from multiembed.base.errors import ConfigError, DataError
from multiembed.data.encoding import counting
from multiembed.data.encoding.counting import split_codes
from multiembed.data.options import PrepareOptions
from multiembed.data.prepare import prepare
from multiembed.data.sources import columnar as tables
from multiembed.data.sources import records
from multiembed.data.store.dataset import open_dataset
from multiembed.data.store.schema import Schema

PACKAGE = str(Path(counting.__file__).parents[2])
TABLE = PrepareOptions(format="table", label="y", min_count=1)


def digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def changed(options, **changes):
    return options.model_copy(update=changes)


def criteo_line(label="0", number="5", columns=40):
    return "\t".join([label, number, *["1"] * 12, *["aa"] * 26][:columns])


def write_lines(path, lines):
    path.write_text("".join(line + "\n" for line in lines))
    return path


def refusal(source, tmp_path, options=TABLE):
    with pytest.raises((DataError, ConfigError)) as error:
        prepare(source, tmp_path / "dataset", options)
    assert not list(tmp_path.glob("dataset*"))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def table(tmp_path):
    """Twenty good rows."""
    rows = ["y,a,b", *(f"{row % 2},v{row % 3},w" for row in range(20))]
    return write_lines(tmp_path / "rows.csv", rows)


def test_every_ten_rows_give_eight_one_and_one():
    train, valid, test = split_rows(1000, seed=7)

    assert sorted([*train, *valid, *test]) == list(range(1000))
    for rows, share in ((train, 8), (valid, 1), (test, 1)):
        assert (np.bincount(rows // 10) == share).all()
    assert (np.bincount(valid % 10, minlength=10) > 2).all()
    assert (np.bincount(test % 10, minlength=10) > 2).all()


def test_the_split_depends_on_the_seed_and_not_on_the_rows_around():
    codes = split_codes(np.arange(1000), seed=0)

    assert (split_codes(np.arange(137, 421), seed=0) == codes[137:421]).all()
    assert (split_codes(np.arange(1000), seed=1) != codes).any()


def test_bytes_do_not_depend_on_how_the_file_is_read(real_data, tmp_path, monkeypatch):
    source = real_data / "criteo_7k" / "train.tsv"
    options = PrepareOptions(format="criteo", shard_rows=1000, numeric_rule="quantiles")
    prepare(source, tmp_path / "whole", options)

    monkeypatch.setattr(records, "BYTES_PER_READ", 100_003)
    prepare(source, tmp_path / "pieces", options)

    assert digests(tmp_path / "whole") == digests(tmp_path / "pieces")
    assert len(list((tmp_path / "whole" / "train").glob("*.arrow"))) == 8
    assert open_dataset(tmp_path / "whole").split("train").rows == 5760


def test_bytes_do_not_depend_on_the_number_of_threads(table, tmp_path):
    prepare(table, tmp_path / "here", TABLE)
    script = (
        "import sys, types, polars\n"
        "package = types.ModuleType('multiembed')  # the data room alone: torch is slow to load\n"
        "package.__path__ = [sys.argv[3]]\n"
        "sys.modules['multiembed'] = package\n"
        "from multiembed.data.options import PrepareOptions\n"
        "from multiembed.data.prepare import prepare\n"
        "prepare(sys.argv[1], sys.argv[2], "
        "PrepareOptions(format='table', label='y', min_count=1))\n"
        "print(polars.thread_pool_size())"
    )
    threads = str(pl.thread_pool_size() + 1)
    done = subprocess.run(
        [sys.executable, "-c", script, str(table), str(tmp_path / "there"), PACKAGE],
        env=os.environ | {"POLARS_MAX_THREADS": threads},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == threads
    assert digests(tmp_path / "here") == digests(tmp_path / "there")


def test_rows_with_a_wrong_number_of_columns_are_refused_with_their_lines(tmp_path):
    lines = [criteo_line() for _ in range(20)]
    lines[7] = criteo_line(columns=39)
    lines[11] = criteo_line() + "\textra"
    source = write_lines(tmp_path / "rows.txt", lines)

    message = refusal(source, tmp_path, PrepareOptions(format="criteo"))

    assert message == (
        f"{source} line 8: expected 40 tab-separated columns, got 39; "
        f"{source} line 12: expected 40 tab-separated columns, got 41 "
        "(2 bad rows so far, max_bad_rows is 0)"
    )


def test_bad_rows_up_to_the_limit_are_left_out_and_recorded(tmp_path):
    lines = [criteo_line(str(row % 2)) for row in range(30)]
    lines[3], lines[5], lines[9] = "x", criteo_line(label="2"), criteo_line(number="many")
    lines.insert(4, "")
    source = write_lines(tmp_path / "rows.txt", lines)

    schema = prepare(source, tmp_path / "dataset", PrepareOptions(format="criteo", max_bad_rows=3))

    assert schema.bad_rows.count == 3
    assert schema.bad_rows.first == (
        f"{source} line 4: expected 40 tab-separated columns, got 1",
        f"{source} line 7: label label must be 0 or 1, got '2'",
        f"{source} line 11: I1 must be a number or empty, got 'many'",
    )
    assert sum(split.rows for split in schema.splits.values()) == 27
    kept = np.delete(np.arange(30), [3, 5, 9])
    labels = np.concatenate([open_dataset(tmp_path / "dataset").split("train").labels])
    train = np.intersect1d(split_rows(30, 0)[0], kept)
    assert labels.tolist() == (train % 2).tolist()


def test_a_quote_inside_a_value_is_a_bad_row_with_its_line(table, tmp_path):
    good = table.read_text().splitlines()
    good.insert(10, '1,"a"b,w')
    good.insert(15, '1,"two\nlines",w')
    write_lines(table, good)

    schema = prepare(table, tmp_path / "dataset", changed(TABLE, max_bad_rows=1))

    assert schema.bad_rows.count == 1
    assert schema.bad_rows.first[0].startswith(f"{table} line 11: quotes must enclose")
    assert sum(split.rows for split in schema.splits.values()) == 21


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must hold column names and rows, got an empty file"),
        (b"\n\n", "must hold column names and rows, got an empty file"),
        (b"y,a\n", "must hold rows, got none that can be read"),
        (b"y,a\n1\n0\n", "line 2: expected 2 comma-separated columns, got 1"),
        (b"a,b\n1,2\n", "label must be a column of {file} (a, b), got 'y'"),
        (b"y\n1\n", "must have columns beside the label, got 'y' alone"),
        (b"y,a,a\n1,2,3\n", "header: column names must differ, got 'a' twice"),
        (b'"\n\x1b;;",a\n1,2\n', r"rows.csv (\n\x1b;;, a), got 'y'"),
        (b"1,,a\n1,2,a\n", "line 1: must hold column names, got what looks like values (1, , a)"),
        (b"y,a\nyes,2\n", "line 2: label y must be 0 or 1, got 'yes'"),
        (b"y,a\n,2\n", "line 2: label y must be 0 or 1, got nothing"),
        (b"y,a\n1,\xff\n", "line 2: text must be UTF-8, got byte 0xff"),
        (b'y,a\n1,"b\n0,c\n', "line 2: a quote must be closed, got none that does"),
        (b"y,a\n1,b\n0,c\n", "must have enough rows for every split (10 do), got 2"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_in_one_line(content, message, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_bytes(content)

    assert message.format(file=file) in refusal(file, tmp_path)


@settings(max_examples=60, deadline=None)
@given(
    body=st.lists(st.sampled_from([b"1", b"0", b",", b"\n", b'"', b"\r", b"a", b"\xff", b"\0"])),
    good=st.integers(0, 12),
    limit=st.sampled_from([0, 1000]),
)
def test_any_bytes_are_encoded_or_refused_in_one_line(body, good, limit):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "rows.csv"
        file.write_bytes(b"y,a\n" + b"1,b\n" * good + b"".join(body))
        try:
            schema = prepare(file, folder / "dataset", changed(TABLE, max_bad_rows=limit))
        except DataError as error:
            assert "\n" not in str(error)
            assert [path.name for path in folder.iterdir()] == ["rows.csv"]
        else:
            rows = sum(split.rows for split in schema.splits.values())
            assert good <= rows <= good + body.count(b"\n") + 1
            assert open_dataset(folder / "dataset").split("train").rows > 0


def test_sources_that_are_no_file_are_refused(table, tmp_path):
    assert "got nothing there" in refusal(tmp_path / "absent.csv", tmp_path)
    (tmp_path / "empty").mkdir()
    assert "must lead to files, got none" in refusal(tmp_path / "empty", tmp_path)
    assert "must lead to files, got none" in refusal(tmp_path / "*.absent", tmp_path)
    assert "must be the word flights" in refusal(table, tmp_path, PrepareOptions(format="flights"))
    assert "must hold rows" in refusal(
        write_lines(tmp_path / "e", []), tmp_path, PrepareOptions(format="criteo")
    )
    (tmp_path / "no.parquet").write_bytes(b"PAR1 nonsense")
    assert "no.parquet must be readable" in refusal(tmp_path / "no.parquet", tmp_path)


def test_rows_are_a_table_where_no_format_is_said(table, tmp_path):
    """But for the word flights, of which tests/test_data_encoding.py reads all."""
    prepare(table, tmp_path / "said", TABLE)
    prepare(table, tmp_path / "unsaid", PrepareOptions(label="y", min_count=1))

    assert digests(tmp_path / "said") == digests(tmp_path / "unsaid")
    assert "label must name a column" in refusal(table, tmp_path, PrepareOptions())


def test_options_that_do_not_fit_are_refused(table, tmp_path):
    assert "label must name a column" in refusal(table, tmp_path, changed(TABLE, label=None))
    assert "must be one of a, b, got 'c'" in refusal(
        table, tmp_path, changed(TABLE, numeric_columns=("c",))
    )
    assert "must be of one kind, got 'a' as two" in refusal(
        table, tmp_path, changed(TABLE, numeric_columns=("a",), categorical_columns=("a",))
    )
    assert "label must be left out unless format is table" in refusal(
        table, tmp_path, PrepareOptions(format="criteo", label="y")
    )


def test_an_avazu_file_without_its_header_is_refused(real_data, tmp_path):
    message = refusal(real_data / "avazu_9k" / "dev.csv", tmp_path, PrepareOptions(format="avazu"))

    assert "line 1: expected the header id,click,hour,..., got 10001868339616595934" in message


def test_flights_without_their_package_name_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    assert "multiembed[demo]" in refusal("flights", tmp_path, PrepareOptions())


def test_numbers_and_categories_are_told_apart(tmp_path):
    row = np.arange(200)
    columns = {
        "y": row % 2,
        "price": [f"{number}.5" for number in row],
        "amount": row * 3,
        "month": row % 12 + 1,
        "user_id": row + 1000,
        "zip": [f"0{number}" for number in row],
        "city": ["Oslo"] * 200,
        "huge": [10**18 + int(number) for number in row],
        "gone": [None] * 200,
        "code9": [f"0{number}" for number in row],
        "flag": row % 3 == 0,
    }
    frame = pl.DataFrame(columns, strict=False)
    frame.write_csv(tmp_path / "rows.tsv", separator="\t")
    frame.write_parquet(tmp_path / "rows.parquet")

    for name in ("rows.tsv", "rows.parquet"):
        options = changed(TABLE, overwrite=True, numeric_columns=("month",))
        schema = prepare(tmp_path / name, tmp_path / "dataset", options)

        numeric = {field.name for field in schema.fields if field.kind == "numeric"}
        assert schema.field_names == tuple(list(columns)[1:])
        assert numeric == {"price", "amount", "month"}


def test_text_and_parquet_of_the_same_rows_are_encoded_alike(tmp_path, monkeypatch):
    random = np.random.default_rng(1)
    frame = pl.DataFrame(
        {
            "y": random.integers(0, 2, 500),
            "a": random.choice(["x", "y", None, "z"], 500),
            "n": random.integers(0, 99, 500),
        }
    )
    frame.write_csv(tmp_path / "rows.csv")
    frame.write_parquet(tmp_path / "rows.parquet", row_group_size=77)
    monkeypatch.setattr(tables, "ROWS_PER_BLOCK", 64)

    prepare(tmp_path / "rows.csv", tmp_path / "text", TABLE)
    prepare(tmp_path / "rows.parquet", tmp_path / "parquet", TABLE)

    text, parquet = digests(tmp_path / "text"), digests(tmp_path / "parquet")
    del text["schema.json"], parquet["schema.json"]
    assert text == parquet


def test_the_schema_tells_what_was_done(table, tmp_path):
    schema = prepare(table, tmp_path / "dataset", TABLE)

    assert schema == Schema.load(tmp_path / "dataset")
    assert schema.label == "y"
    assert schema.sources[0].path == str(table)
    assert schema.sources[0].bytes == table.stat().st_size
    assert schema.sources[0].sha256 == hashlib.sha256(table.read_bytes()).hexdigest()
    assert schema.options["min_count"] == 1
    assert "overwrite" not in schema.options
    dataset = open_dataset(tmp_path / "dataset")
    for name, size in schema.splits.items():
        ids = dataset.split(name).ids
        assert (size.rows, size.positives) == (len(ids), dataset.split(name).positives)
        for place, field in enumerate(schema.fields):
            assert field.other[name] == np.count_nonzero(ids[:, place] == 0)


def test_odd_field_names_have_vocabularies(tmp_path):
    names = ["a/b", "..", "ünï", "x" * 300, "A", "per%cent", "t\tab"]
    frame = pl.DataFrame({"y": [0, 1] * 10} | {name: ["v", "w"] * 10 for name in names})
    frame.write_parquet(tmp_path / "rows.parquet")

    prepare(tmp_path / "rows.parquet", tmp_path / "dataset", TABLE)

    dataset = open_dataset(tmp_path / "dataset")
    for name in names:
        assert set(dataset.vocabulary(name)["value"]) == {"v", "w"}
    assert len(list((tmp_path / "dataset" / "vocabulary").iterdir())) == len(names)


def test_a_dataset_is_replaced_only_when_asked_and_only_if_it_is_one(table, tmp_path):
    prepare(table, tmp_path / "dataset", TABLE)
    before = digests(tmp_path / "dataset")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("keep me")

    with pytest.raises(DataError, match="must not exist unless overwrite is on"):
        prepare(table, tmp_path / "dataset", TABLE)
    with pytest.raises(DataError, match=r"got letter\.txt in it"):
        prepare(table, tmp_path / "other", changed(TABLE, overwrite=True))

    assert digests(tmp_path / "dataset") == before
    assert (tmp_path / "other" / "letter.txt").exists()
    prepare(table, tmp_path / "dataset", changed(TABLE, overwrite=True, seed=1))
    assert Schema.load(tmp_path / "dataset").options["seed"] == 1


def test_an_interrupted_run_leaves_the_old_dataset_and_is_redone(table, tmp_path, monkeypatch):
    prepare(table, tmp_path / "dataset", TABLE)
    before = digests(tmp_path / "dataset")
    left = tmp_path / ".dataset.multiembed" / "dataset" / "train"
    left.mkdir(parents=True)
    (left / "00007.arrow").write_text("left by a kill")

    def interrupt(*_):
        raise KeyboardInterrupt

    again = changed(TABLE, overwrite=True)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(counting, "split_codes", interrupt)
        prepare(table, tmp_path / "dataset", again)

    assert digests(tmp_path / "dataset") == before
    prepare(table, tmp_path / "dataset", again)
    assert digests(tmp_path / "dataset") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset", "rows.csv"]


def test_a_file_that_changes_while_it_is_read_is_refused(table, tmp_path):
    def grow(stage, done, total, speed):
        with table.open("a") as file:
            file.write("1,v,w\n")

    with pytest.raises(DataError, match="must not change while it is read"):
        prepare(table, tmp_path / "dataset", TABLE, progress=grow)

    assert not (tmp_path / "dataset").exists()


def test_progress_tells_the_stage_and_ends_at_the_size_of_the_source(table, tmp_path):
    told = []

    prepare(table, tmp_path / "dataset", TABLE, progress=lambda *told_now: told.append(told_now))

    size = table.stat().st_size
    assert told[-1][:3] == ("encode", size, size)
    assert ("count", size, size) in [now[:3] for now in told]
    assert all(now[3].endswith(" rows/s") for now in told)
