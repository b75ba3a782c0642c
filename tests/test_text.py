"""Text however it is written: separators, quotes, escapes, encodings, headers, JSON."""

import csv
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_files import assert_holds, opened, rows_of

from multiembed.base.errors import ConfigError, DataError
from multiembed.base.validation import checked
from multiembed.data.options import PrepareOptions
from multiembed.data.prepare import prepare
from multiembed.data.sources import records
from multiembed.data.store.dataset import open_dataset

ROWS = 300
OPTIONS = PrepareOptions(format="table", label="y", min_count=1)


@pytest.fixture
def frame():
    """Rows of text, as pandas has them."""
    random = np.random.default_rng(6)
    return pd.DataFrame(
        {
            "y": random.integers(0, 2, ROWS).astype(str),
            "a": random.choice(["x", "so, so", 'a "b" c', "é", "1:2", "c\\d"], ROWS),
            "n": random.integers(0, 99, ROWS).astype(str),
        }
    )


def plain(frame, separator):
    """Text without any quotes."""
    rows = [list(frame.columns), *frame.to_numpy().tolist()]
    return "".join(separator.join(row) + "\n" for row in rows)


def quoted(frame, **options):
    return frame.to_csv(index=False, **options)


WAYS = {
    "control A": (lambda f: plain(f, "\x01"), {}),
    "control A named": (lambda f: plain(f, "\x01"), {"separator": r"\x01"}),
    "tab named": (lambda f: plain(f, "\t"), {"separator": r"\t", "quote": "none"}),
    "several characters": (lambda f: plain(f, "::"), {"separator": "::"}),
    "no ASCII": (lambda f: plain(f, "¦"), {"separator": "¦"}),
    "space": (lambda f: quoted(f, sep=" "), {"separator": " "}),
    "tilde": (lambda f: quoted(f, sep="~"), {"separator": "~"}),
    "no quotes": (lambda f: plain(f, "|"), {"quote": "none"}),
    "other quotes": (lambda f: quoted(f, quotechar="'"), {"quote": "'"}),
    "all quoted": (lambda f: quoted(f, quoting=csv.QUOTE_ALL), {}),
    "returns": (lambda f: quoted(f, lineterminator="\r\n"), {}),
    "lone returns": (lambda f: quoted(f, lineterminator="\r"), {}),
    "no last line end": (lambda f: quoted(f).rstrip("\n"), {}),
    "comments": (
        lambda f: '# by "me, 1\n' + quoted(f).replace("\n", '\n#"x\n', 3),
        {"comment": "#"},
    ),
    "escaped quotes": (
        lambda f: quoted(f, doublequote=False, escapechar="\\"),
        {"escape": "\\"},
    ),
    "escaped separators": (
        lambda f: quoted(f, quoting=csv.QUOTE_NONE, escapechar="\\"),
        {"escape": "\\"},
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_text_is_read_as_it_is_written(way, frame, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "BYTES_PER_READ", 700)
    write, options = WAYS[way]
    (tmp_path / "rows.txt").write_bytes(write(frame).encode())

    assert_holds(opened(tmp_path / "rows.txt", tmp_path, **options), frame)


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("latin-1", "latin-1"),
        ("gb18030", "GB18030"),
        ("utf-8-sig", None),
        ("utf-16", None),
        ("utf-16-le", "utf-16-le"),
        ("utf-32", None),
        ("utf-8", "utf-8"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "json", "array"])
def test_encodings_are_read(encoding, said, kind, frame, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "BYTES_PER_READ", 701)
    written = {
        "csv": quoted(frame),
        "json": frame.to_json(orient="records", lines=True, force_ascii=False),
        "array": frame.to_json(orient="records", force_ascii=False),
    }
    name = "rows.csv" if kind == "csv" else "rows.json"
    (tmp_path / name).write_bytes(written[kind].encode(encoding))

    assert_holds(opened(tmp_path / name, tmp_path, encoding=said), frame)


values = st.text(st.sampled_from('ab,"\n\r\\;é '), max_size=6)
tables = st.integers(2, 4).flatmap(
    lambda width: st.lists(st.lists(values, min_size=width, max_size=width), max_size=12)
)


@settings(max_examples=150, deadline=None)
@given(
    table=tables,
    separator=st.sampled_from([",", ";", " "]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    escape=st.booleans(),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_what_the_csv_module_writes_is_read(table, separator, quoting, escape, end):
    """Any values, by the standard library's writer; a missing value is an empty one."""
    # A return before a newline belongs to the line's end unless it is quoted.
    assume(quoting == csv.QUOTE_ALL or not any("\r" in value for row in table for value in row))
    out = io.StringIO()
    named = {"doublequote": False, "escapechar": "\\"} if escape else {}
    writer = csv.writer(out, delimiter=separator, quoting=quoting, lineterminator=end, **named)
    names = [f"name{place}" for place in range(len(table[0]) if table else 2)]
    writer.writerows([names, *table])
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "rows.csv").write_bytes(out.getvalue().encode())
        options = {"separator": separator, "escape": "\\" if escape else None, "label": "name0"}
        reader = opened(Path(folder) / "rows.csv", Path(folder), **options)
        blocks = [block for block in reader.blocks(reader.names)]

    found = pl.concat(block.rows for block in blocks).fill_null("").rows() if blocks else []
    assert sum(block.bad_count for block in blocks) == 0
    assert found == [tuple(row) for row in table]


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ('1,5" disk,x', ("1", '5" disk', "x")),
        ('1,so "jade" it,x', ("1", 'so "jade" it', "x")),
        ('1, "a",x', ("1", ' "a"', "x")),
        ('1,a"b"c,"d,e"', ("1", 'a"b"c', "d,e")),
        ('1,"a"b,x', "quotes must enclose a whole value, got one inside a value"),
        (r'1,"so \"jade\" it",x', "quotes must enclose a whole value, got one inside a value"),
        ('1, "a,b",x', "expected 3 comma-separated columns, got 4"),
        ("1,a,x,", "expected 3 comma-separated columns, got 4"),
        ("# 1,a", "expected 3 comma-separated columns, got 2"),
        (b"1,\xff,x", "text must be UTF-8, got byte 0xff (encoding names another)"),
    ],
)
def test_a_line_is_read_as_pandas_does_or_is_a_bad_row(line, read, tmp_path):
    line = line if isinstance(line, bytes) else line.encode()
    text = b'y,a,b\n0,"p\nq",r\n' + line + b"\n0,s,t\n"
    (tmp_path / "rows.csv").write_bytes(text)

    (block,) = opened(tmp_path / "rows.csv", tmp_path).blocks(["y", "a", "b"])

    good = [("0", "p\nq", "r"), read, ("0", "s", "t")] if isinstance(read, tuple) else None
    if good:
        assert block.rows.rows() == good
        assert pd.read_csv(io.BytesIO(text), dtype=str).to_numpy().tolist() == [*map(list, good)]
    else:
        assert [(bad.line, bad.reason[: len(read)]) for bad in block.bad] == [(4, read)]
        assert block.lines.tolist() == [2, 5]


def test_bytes_that_are_none_of_the_encoding_are_bad_rows(frame, tmp_path):
    for name, encoding, byte, options in (
        ("rows.csv", "utf-8", b"\xe9", {}),
        ("rows.csv", "gb18030", b"\xff\xff", {"encoding": "gb18030"}),
    ):
        lines = quoted(frame).encode(encoding).splitlines(keepends=True)
        for row in range(1, 251):  # more than are looked for one by one
            lines[row] = b"1," + byte + b",5\n"
        (tmp_path / name).write_bytes(b"".join(lines))

        schema = prepare(
            tmp_path / name,
            tmp_path / "dataset",
            OPTIONS.model_copy(update={"max_bad_rows": 250, "overwrite": True, **options}),
        )

        assert schema.bad_rows.count == 250
        assert f"{name} line 2: text must be UTF-8, got byte" in schema.bad_rows.first[0]
        assert sum(split.rows for split in schema.splits.values()) == 50


def test_escaped_text_has_the_vocabulary_that_was_meant(tmp_path):
    rows = [r'1,"so \"jade\" it is",s1', r'0,"back\\slash",s2', "1,plain,s3"] * 10
    (tmp_path / "rows.csv").write_text("\n".join(["y,color,store", *rows]) + "\n")

    prepare(
        tmp_path / "rows.csv", tmp_path / "dataset", OPTIONS.model_copy(update={"escape": "\\"})
    )

    found = open_dataset(tmp_path / "dataset").vocabulary("color")["value"]
    assert set(found) == {'so "jade" it is', "back\\slash", "plain"}
    with pytest.raises(DataError, match=r"line 2: quotes must .*quote none .* escape"):
        prepare(tmp_path / "rows.csv", tmp_path / "other", OPTIONS)


@pytest.mark.parametrize(
    ("content", "refused"),
    [
        ("1,amber,s0,39.14\n0,coral,s1,15.43\n1,amber,s0,2.5\n", True),
        ("0,coral,s1\n1,amber,s0\n0,coral,s1\n", True),
        ("1,1,0\n0,1,1\n", True),
        ("y,color,price\n1,amber,2.5\n", False),
        ("0,1,2,3\n1,5,6,7\n", False),
        (",0,1,2\n0,1,5,6\n", False),
        ("y,2019,2020\n1,5,6\n", False),
        ("color,store\namber,s0\n", False),
        ("kind,other\nother,kind\n", False),
    ],
)
def test_a_first_line_that_looks_like_values_is_refused(content, refused, tmp_path):
    (tmp_path / "rows.csv").write_text(content)
    if not refused:
        assert opened(tmp_path / "rows.csv", tmp_path, label="1").names
        return

    with pytest.raises(
        DataError, match=r"line 1: must hold column names.*--no-header --columns A,"
    ):
        opened(tmp_path / "rows.csv", tmp_path, label="1")


def test_columns_of_a_file_without_a_header_are_named(frame, tmp_path):
    frame.to_csv(tmp_path / "rows.csv", index=False, header=False)
    frame.drop(columns="y").to_csv(tmp_path / "new.csv", index=False, header=False)
    named = {"no_header": True, "columns": ("y,a,n",)}

    options = checked(PrepareOptions, {"format": "table", "label": "y", **named})
    schema = prepare(tmp_path / "rows.csv", tmp_path / "dataset", options)

    assert schema.options["columns"] == ["y", "a", "n"]
    assert sum(split.rows for split in schema.splits.values()) == ROWS
    assert_holds(opened(tmp_path / "rows.csv", tmp_path, **named), frame)
    assert_holds(opened(tmp_path / "new.csv", tmp_path, **named), frame.drop(columns="y"))
    frame.to_csv(tmp_path / "headed.csv", index=False)
    with pytest.raises(DataError, match=r"line 1: must hold values, got column names \(no_header"):
        opened(tmp_path / "headed.csv", tmp_path, **named)
    for wrong, message in (
        ({"no_header": True}, "columns must name the 3 columns of .*, got 0 names"),
        ({"no_header": True, "columns": ("y", "a")}, "columns must name the 3 .*, got 2 names"),
    ):
        with pytest.raises(ConfigError, match=message):
            opened(tmp_path / "rows.csv", tmp_path, **wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoding": "hex"}, "encoding must be an encoding that Python knows"),
        ({"encoding": "utf-9"}, "encoding must be an encoding that Python knows"),
        ({"separator": "\n"}, "separator must be text without a line end"),
        ({"separator": ""}, "separator must be text without a line end"),
        ({"quote": "''"}, "quote must be one ASCII character or none"),
        ({"escape": "é"}, "escape must be one ASCII character or none"),
        ({"columns": ("a,,b",)}, "columns must be different names, none of them empty"),
    ],
)
def test_options_of_no_use_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        checked(PrepareOptions, {"format": "table", **options})


def test_one_mark_has_one_meaning(frame, tmp_path):
    frame.to_csv(tmp_path / "rows.csv", index=False)

    with pytest.raises(
        ConfigError, match="separator, quote and escape must differ, got '\"' twice"
    ):
        opened(tmp_path / "rows.csv", tmp_path, separator='"')


def test_numbers_that_json_has_not_are_missing(tmp_path):
    rows = [
        {"y": 1, "a": 'NaN, -Infinity "', "n": float("nan"), "m": [1, float("inf")]},
        {"y": 0, "a": "x\\", "n": float("-inf"), "m": []},
        {"y": 1, "a": "Infinity", "n": 2.5, "m": None},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "rows.json").write_text(json.dumps(rows, indent=3))

    for name in ("rows.jsonl", "rows.json"):
        found = rows_of(opened(tmp_path / name, tmp_path))
        assert found["a"].to_list() == [row["a"] for row in rows]
        assert found["n"].to_list() == [None, None, "2.5"]
        assert found["m"].to_list() == [["1", None], [], None]


def test_keys_of_the_whole_file_are_columns(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "BYTES_PER_READ", 5000)
    rows = [{"y": place % 2, "a": {"y": 1, "hidden": 2}} for place in range(3000)]
    rows[2500]["late"] = "x"
    rows[2501]['q"\\é'] = 1
    (tmp_path / "1.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "2.jsonl").write_text('{"y": 1, "other": "z"}\n')

    one = opened(tmp_path / "1.jsonl", tmp_path)
    both = rows_of(opened(tmp_path / "*.jsonl", tmp_path))

    assert one.names == ("y", "late", 'q"\\é')
    assert rows_of(one)["late"].drop_nulls().to_list() == ["x"]
    assert both.columns == ["y", "late", 'q"\\é', "other"]
    assert both["other"].to_list()[-2:] == [None, "z"]


def test_objects_with_names_without_end_are_refused(tmp_path):
    rows = ({"y": 1, f"user{place}": 1} for place in range(5000))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    with pytest.raises(DataError, match="must have at most 4,096 different keys, got more"):
        opened(tmp_path / "rows.jsonl", tmp_path)


def test_a_bad_item_of_an_array_is_named_by_its_line(tmp_path):
    text = '[\n {"y": 1,\n  "a": "x"},\n {"y": 1 "a"},\n\n {"y": 0,\n "a": "[,]"}\n]\n'
    (tmp_path / "rows.json").write_text(text)

    (block,) = opened(tmp_path / "rows.json", tmp_path).blocks(["y", "a"])

    assert block.rows.rows() == [("1", "x"), ("0", "[,]")]
    assert block.lines.tolist() == [2, 6]
    assert [bad.line for bad in block.bad] == [4]
    (tmp_path / "rows.json").write_text(text[:-3])
    with pytest.raises(DataError, match="line 4: a JSON array must be closed"):
        rows_of(opened(tmp_path / "rows.json", tmp_path))


def test_lists_may_stand_beside_single_values(tmp_path):
    found = [["x", 'a "b", ü'], "z", 3, [3, None], None, [], "[x"]
    rows = [{"y": 1, "tags": one} for one in found]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    tags = rows_of(opened(tmp_path / "rows.jsonl", tmp_path))["tags"]

    listed = [["x", 'a "b", ü'], ["z"], ["3"], ["3", None], None, [], ["[x"]]
    assert tags.to_list() == listed


@pytest.mark.parametrize("header", ["y;a, b, c", 'a,b;"y"', "'y';a,b"])
def test_the_label_tells_which_mark_separates(header, tmp_path):
    (tmp_path / "rows.csv").write_text(f"{header}\n1;2\n")
    quote = "'" if "'" in header else None

    reader = opened(tmp_path / "rows.csv", tmp_path, quote=quote)

    assert rows_of(reader)["y"].to_list() == ["2" if header.startswith("a") else "1"]


def test_a_first_value_may_be_an_object_where_values_are_separated(tmp_path):
    (tmp_path / "rows").write_text('{"a": 1}\t1\n{"a": 2}\t0\n')

    reader = opened(tmp_path / "rows", tmp_path, no_header=True, columns=("a", "y"))

    assert rows_of(reader)["a"].to_list() == ['{"a": 1}', '{"a": 2}']
