"""Names of files, directories and columns stand for themselves, whatever characters they have."""

import json
import os
import socket
from typing import get_args

import numpy as np
import pandas as pd
import polars as pl
import pytest

from multiembed.base.errors import InputError
from multiembed.base.validation import checked
from multiembed.data.encoding.values import read_numbers
from multiembed.data.encoding.vocabulary import Encoder
from multiembed.data.options import PrepareOptions
from multiembed.data.prepare import prepare
from multiembed.data.sources import records
from multiembed.data.sources.column_kinds import read_each
from multiembed.data.sources.found_files import find_files
from multiembed.data.store.dataset import open_dataset
from multiembed.data.store.schema import Dress
from multiembed.serving.tabular import read_table

ODD = "lr=[1]*?{x}"
TABLE = PrepareOptions(format="table", label="click", vocabulary="all", min_count=1)
NAMES = (
    *("x[1]", "x1", "a*", "a?", "ab", "a/b", "a\\b", "..", ".", "~", "$HOME", "x{1,2}", "x!"),
    *("F", "f", "CON", "nul", "\u00e9", "e\u0301", "n" * 300, "n" * 301, "\u4e2d" * 90),
    *(" ", "%2F", "a:b", "a b", "\x1b[31m", "^", "$", "c(.*)", "|", "value", "id", "count"),
)


def frame_of(names, rows=40):
    """Every column has values of its own, so that no other can stand for it."""
    columns = {
        name: [f"{place}v{row % 5}" for row in range(rows)] for place, name in enumerate(names)
    }
    return pd.DataFrame({"click": [row % 2 for row in range(rows)], **columns})


def decoded(folder, fields):
    """The rows of all splits as text, by the vocabularies on disk."""
    dataset = open_dataset(folder)
    ids = np.concatenate([dataset.split(name).ids for name in ("train", "valid", "test")])
    words = {name: [None, *dataset.vocabulary(name)["value"]] for name in fields}
    return {name: [words[name][i] for i in ids[:, at]] for at, name in enumerate(fields)}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "arrow"])
def test_every_field_has_a_vocabulary_of_its_own(tmp_path, kind):
    rows, file = frame_of(NAMES), tmp_path / f"rows.{kind}"
    if kind == "csv":
        rows.to_csv(file, index=False)
    elif kind == "jsonl":
        file.write_text("\n".join(map(json.dumps, rows.to_dict("records"))))
    else:
        (
            pl.from_pandas(rows).write_parquet
            if kind == "parquet"
            else pl.from_pandas(rows).write_ipc
        )(file)
    schema = prepare(file, tmp_path / "dataset", TABLE)

    assert schema.field_names == NAMES
    for name, found in decoded(tmp_path / "dataset", NAMES).items():
        assert sorted(found) == sorted(rows[name]), name
    encoder = Encoder.load(tmp_path / "dataset")
    again = encoder.decode(encoder.encode(pl.from_pandas(rows)))
    pd.testing.assert_frame_equal(again.to_pandas(), rows[[*NAMES]], check_dtype=False)
    assert len(os.listdir(tmp_path / "dataset" / "vocabulary")) == len(NAMES)


@pytest.mark.parametrize("kind", ["csv", "parquet", "arrow"])
def test_directories_are_no_patterns(tmp_path, monkeypatch, kind):
    """Beside each lies a directory that the name would match as a pattern, with other rows."""
    monkeypatch.chdir(tmp_path)
    for place, folder in enumerate((ODD, "lr=1zzy{x}", "~", "$HOME")):
        os.makedirs(folder)
        rows = pl.from_pandas(frame_of(["a"]).replace(r"^0", str(place), regex=True))
        write = {"csv": rows.write_csv, "parquet": rows.write_parquet, "arrow": rows.write_ipc}
        with open(f"{folder}/r[1].{kind}", "wb") as file:
            write[kind](file)
    for place, source in ((0, f"{ODD}/r[1].{kind}"), (0, ODD), (2, "~"), (3, f"$HOME/r[1].{kind}")):
        target = f"data [{len(source)}]*/~"
        os.makedirs(target)
        prepare(source, target, TABLE)
        assert set(decoded(target, ["a"])["a"]) == {f"{place}v{n}" for n in range(5)}


def names_of(source, below):
    return [str(file.path.relative_to(below)) for file in find_files(source, below)]


def test_a_pattern_is_one_where_nothing_of_that_name_is(tmp_path):
    for name in (
        "a[1]/x1.csv",
        "a[1]/x[1].csv",
        "a1/x1.csv",
        "a1/x2.csv",
        "a1/b/x3.csv",
        "_c/x.csv",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    assert names_of(tmp_path / "a[1]", tmp_path) == ["a[1]/x1.csv", "a[1]/x[1].csv"]
    assert names_of(tmp_path / "a[1]/x[1].csv", tmp_path) == ["a[1]/x[1].csv"]
    assert names_of(tmp_path / "a[1]/*", tmp_path) == ["a[1]/x1.csv", "a[1]/x[1].csv"]
    assert names_of(tmp_path / "a?/x[12].csv", tmp_path) == ["a1/x1.csv", "a1/x2.csv"]
    assert names_of(tmp_path / "a?*/x[1].csv", tmp_path) == ["a1/x1.csv", "a[1]/x[1].csv"]
    assert names_of(tmp_path / "**/x3.csv", tmp_path) == ["a1/b/x3.csv"]
    assert names_of(tmp_path / "a1/**", tmp_path) == ["a1/b/x3.csv", "a1/x1.csv", "a1/x2.csv"]
    assert names_of(tmp_path / "_c/*", tmp_path) == ["_c/x.csv"]


def refused(source, below):
    with pytest.raises(InputError) as caught:
        find_files(source, below)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{below}/", "")


def test_what_is_no_file_is_refused_by_its_kind(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to("gone")
    (tmp_path / "twice").mkdir()
    (tmp_path / "twice/a").touch()
    (tmp_path / "twice/b").symlink_to("a")
    (tmp_path / "piped").mkdir()
    os.mkfifo(tmp_path / "piped/p")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    kind = "must be a file or a directory, got"
    utf8 = "a source must be a path in UTF-8 and without NUL, got"

    assert refused(tmp_path / "piped", tmp_path) == f"piped/p {kind} a named pipe"
    assert refused(tmp_path / "piped/p", tmp_path) == f"piped/p {kind} a named pipe"
    assert refused(tmp_path / "socket", tmp_path) == f"socket {kind} a socket"
    assert refused("/dev/zero", tmp_path) == f"/dev/zero {kind} a device"
    assert refused(tmp_path / "file/x", tmp_path) == "file/x must be readable, got: Not a directory"
    assert refused(tmp_path / ("x" * 300), tmp_path).endswith("got: File name too long")
    assert "Too many levels of symbolic links" in refused(tmp_path / "loop", tmp_path)
    assert refused(tmp_path / "nowhere", tmp_path).endswith("got: No such file or directory")
    assert refused(tmp_path / "twice", tmp_path).endswith("got it twice")
    assert refused("a\0b", tmp_path) == utf8 + r" 'a\x00b'"
    assert refused(os.fsdecode(b"a\xff.csv"), tmp_path) == utf8 + r" 'a\udcff.csv'"
    assert refused("", tmp_path) == f"{utf8} ''"


def test_directories_are_followed_once(tmp_path):
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows/a.csv").touch()
    (tmp_path / "rows/self").symlink_to(".")
    (tmp_path / "far").mkdir()
    (tmp_path / "far/there").symlink_to("../rows")

    assert names_of(tmp_path / "rows", tmp_path) == ["rows/a.csv"]
    assert names_of(tmp_path / "far", tmp_path) == ["far/there/a.csv"]


@pytest.mark.parametrize("name", ["a\0b", "*", "^a.*$"])
@pytest.mark.parametrize("kind", ["jsonl", "parquet", "arrow"])
def test_names_that_libraries_take_for_others_are_refused(tmp_path, name, kind):
    file = tmp_path / f"rows.{kind}"
    rows = pl.DataFrame({"click": [0, 1] * 20, name: ["v"] * 40})
    write = {"jsonl": rows.write_ndjson, "parquet": rows.write_parquet, "arrow": rows.write_ipc}
    write[kind](file)

    with pytest.raises(InputError) as caught:
        prepare(file, tmp_path / "dataset", TABLE)
    line = " line 1" if kind == "jsonl" and "\0" in name else ""
    shown = name.replace("\0", r"\x00")
    assert str(caught.value) == f"{file}{line}: a column must have a plain name, got '{shown}'"
    with pytest.raises(InputError, match="rows: a column must have a plain name"):
        read_table(rows)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("min_count", 10**20), ("max_values", 10**20), ("hash_sizes", {"a": 10**20})),
        *(("seed", 10**60), ("shard_rows", 10**20), ("max_bad_rows", 10**20)),
        *(("max_cell_values", 10**20), ("max_download_seconds", float("nan"))),
        *(("field_min_counts", {"a": 10**20}), ("max_download_bytes", 0), ("min_count", 1.5)),
    ],
)
def test_numbers_out_of_bounds_are_refused_before_anything_is_read(option, value):
    with pytest.raises(InputError, match=rf"^{option}\S* must be "):
        checked(PrepareOptions, {option: value})


def test_rows_are_split_by_a_column_that_has_a_name(tmp_path):
    (tmp_path / "rows.csv").write_text("click,a\n" + "1,x\n0,y\n" * 5)

    with pytest.raises(InputError, match=r"split_by must be a column of .*, got ''"):
        prepare(
            tmp_path / "rows.csv", tmp_path / "dataset", TABLE.model_copy(update={"split_by": ""})
        )


def test_more_columns_than_there_may_be_fields_are_refused_in_one_line(tmp_path):
    names, cells = ",".join(f"c{n}" for n in range(9000)), ",".join("v" * 9000)
    (tmp_path / "rows.csv").write_text(f"click,{names}\n" + f"1,{cells}\n0,{cells}\n" * 5)

    with pytest.raises(InputError, match=r"at most 8,192 columns, got 9,001; --columns and --drop"):
        prepare(tmp_path / "rows.csv", tmp_path / "dataset", TABLE)
    few = TABLE.model_copy(update={"columns": ("c0", "c8999"), "min_count": 1})
    assert prepare(tmp_path / "rows.csv", tmp_path / "dataset", few).field_names == ("c0", "c8999")


def test_a_line_that_is_too_long_is_no_quote(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "LONGEST", 1 << 20)
    monkeypatch.setattr(records, "BYTES_PER_READ", 1 << 19)
    monkeypatch.setattr(records, "MOST_LINES", 50_000)
    head, tail = "click,a\n1,x\n", "0,y\n1,x\n" * 20
    for name, middle, reason in (
        ("long", "0," + "y" * 3_000_000 + "\n", "line 3: must be shorter than 1048576 bytes"),
        ("open", '0,"' + "y\n" * 1_500_000, "line 3: a quote must be closed"),
    ):
        (tmp_path / name).write_text(head + middle + tail)
        with pytest.raises(InputError, match=reason):
            prepare(tmp_path / name, tmp_path / "dataset", TABLE)
    (tmp_path / "blank").write_text(head + "\n" * 300_000 + tail)
    schema = prepare(tmp_path / "blank", tmp_path / "dataset", TABLE)
    assert sum(split.rows for split in schema.splits.values()) == 41


@pytest.mark.parametrize("decimal", get_args(Dress))
def test_a_few_texts_are_read_as_many_are(decimal):
    texts = ["1", "-2.5", "1e3", "1e999", "inf", "NaN", "1,234", "1.234,5", "5 %", "7%", "$3", "v3"]
    texts = pl.Series(
        "a", [*texts, "(4)", "1 234", "true", "0x1", "1_0", "\u0663", "+.5", "--", "2."]
    )
    numbers, unread = read_numbers(texts, decimal)
    found, none = read_each(texts, decimal)

    assert found.to_list() == numbers.to_list()
    assert none.tolist() == unread.tolist()
