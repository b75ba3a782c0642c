"""One value is one value: by the table, and by every way in that a file or a frame can take."""

import json
import tempfile
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multiembed.data.encoding import canonical as rules
from multiembed.data.encoding.canonical import canonical_text, cell_values, number_of
from multiembed.data.encoding.frames import as_polars
from multiembed.data.encoding.typed import canonical, category_text, settled
from multiembed.data.encoding.values import read_numbers, split_cells
from multiembed.data.encoding.vocabulary import Encoder
from multiembed.data.sources.columnar import TABLE
from multiembed.data.sources.read_options import ReadOptions
from multiembed.data.store.schema import Field
from multiembed.serving import loader
from multiembed.serving.bundle import compile_field


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("true", ["True", "TRUE", " true "]),
        ("false", ["False", "FALSE"]),
        ("5", ["5.0", "5.00", "5e+00", "5.0E0", " 5\t"]),
        ("5.5", ["5.50", "5.5e+00"]),
        ("0", ["0.0", "-0.0", "-0"]),
        ("0.00001", ["1e-05", "1.0E-5", "1e-5"]),
        ("9007199254740992", ["9.007199254740992e+15", "9007199254740992.0"]),
        ("10000000", ["1.0E7", "1e+07"]),
        ("2024-06-01", ["2024-06-01 00:00:00", "2024-06-01T00:00:00.000000", "2024-06-01T00:00"]),
        ("2024-06-01T05:36:34.5", ["2024-06-01 05:36:34.500", "2024-06-01T05:36:34.500000000"]),
        (
            "2024-06-01T03:36:34Z",
            [
                "2024-06-01 05:36:34+02:00",
                "2024-06-01T05:36:34.000000+0200",
                "2024-06-01 03:36:34Z",
            ],
        ),
        ("2024-05-31T22:00:00Z", ["2024-06-01 00:00:00+02", "2024-06-01T00:00:00+02:00"]),
        ("05:36:34.5", ["05:36:34.500000"]),
        ("05:36:34", ["05:36:34.000000000"]),
        (
            "",
            [
                "NULL",
                "null",
                "\\N",
                "NaN",
                "nan",
                "None",
                "<NA>",
                "NaT",
                "N/A",
                "n/a",
                "#N/A",
                "  ",
            ],
        ),
    ],
)
def test_what_is_one_value_has_one_text(text, written):
    assert [canonical_text(one) for one in [text, *written]] == [text] * (1 + len(written))
    assert canonical(pl.Series([text, *written])).to_list() == [text] * (1 + len(written))


@pytest.mark.parametrize(
    "text",
    [
        *("007", "05", "05.0", "+5", "1e5", "12e45", "05db9164", "68fd1e64", "1E5", "5.", ".5"),
        *("10.0.0.1", "4.4.20", "v1.10", "NA", "none", "-", "2024-13-01T00:00:00+02:00", "05:36"),
        *("1,234", "$3", "0x10", "5e", "é", "tRUE", "yes", "2024-06-01 at 05:36", "\uff11.\uff10"),
    ],
)
def test_what_may_be_a_code_stays_as_it_is(text):
    assert canonical_text(text) == text
    assert canonical(pl.Series([text])).to_list() == [text]


PIECES = """0 1 50 . - + e E 2024-06-01 T 05:36 :34 .50 Z +02:00 -0530 True NULL a é [ ] , ' " $ €
[1,2] nan \\N 1,234 inf % ( ) \u2212 9999-12-31 23:59:59"""
pieces = st.sampled_from([*PIECES.split(), " ", "\t", "\n", "\x1f", "\x85"])
texts = st.lists(pieces, max_size=5).map("".join)


@settings(max_examples=100, deadline=None)
@given(st.lists(texts, min_size=1, max_size=20), st.sampled_from([(), ("a", "1")]))
def test_columns_follow_the_rule_for_single_texts(values, missing):
    expected = [canonical_text(text, missing) for text in values]

    assert canonical(pl.Series(values), missing).to_list() == expected
    assert [canonical_text(text) for text in expected] == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(texts, min_size=1, max_size=20), st.sampled_from(["", ".", ",", "%", ",%"]))
def test_numbers_in_a_column_are_those_of_single_texts(values, decimal):
    numbers, unreadable = read_numbers(pl.Series("x", values), decimal)

    for text, number, bad in zip(values, numbers, unreadable, strict=True):
        found = number_of(text, decimal)
        assert bad == (found is None)
        assert number == (found if found is not None and np.isfinite(found) else None)


@settings(max_examples=60, deadline=None)
@given(st.lists(texts, min_size=1, max_size=20), st.sampled_from([None, "|", ",", "a"]))
def test_cells_in_a_column_are_taken_apart_as_single_ones(values, delimiter):
    field = Field(
        name="x", kind="multivalued", cardinality=1, min_count=1, slots=99, delimiter=delimiter
    )

    cells = split_cells(pl.Series(values), field)

    found = np.split(np.array(cells.values.to_list()), np.cumsum(cells.sizes)[:-1])
    assert [part.tolist() for part in found] == [
        cell_values(text, delimiter) or [""] for text in values
    ]


@pytest.mark.parametrize(
    ("text", "decimal", "number"),
    [
        *(("12,50", ",", 12.5), ("1.234.567", ",", 1234567.0), ("1.234,5", ",", 1234.5)),
        *(("1,234.50", ".", 1234.5), ("1,234", ".", 1234.0), ("$3", "", 3.0), ("3 €", "", 3.0)),
        *(("-$3.50", "", -3.5), ("1 234,5", ",", 1234.5), ("1\u00a0234", "", 1234.0)),
        *((" 5", "", 5.0), ("EUR 7", "", 7.0), ("12,50", "", None), ("12.5", ",", None)),
        *(
            ("12%", "%", 12.0),
            ("12,5 %", ",%", 12.5),
            ("12", "%", None),
            ("1.234,5%", ",%", 1234.5),
        ),
        *(("R$ 7,50", ",", 7.5), ("7 kr", "", 7.0), ("US$3", "", 3.0), ("\u22123.5", "", -3.5)),
        *(("(3.50)", "", -3.5), ("($1,234.50)", ".", -1234.5), ("1,23,456", ".", 123456.0)),
        *(("1,23", ".", None), ("12%", "", None), ("abc", "", None), ("5 6", "", None)),
    ],
)
def test_numbers_are_read_in_other_dress(text, decimal, number):
    assert number_of(text, decimal) == number


@pytest.mark.parametrize("text", ["NULL", "\\N", "NA", "N/A", "?", "-", "nan", "None", "", " "])
def test_words_for_a_missing_number(text):
    assert np.isnan(number_of(text))


moments = st.datetimes(datetime(1990, 1, 1), datetime(2037, 1, 1))
whole_moments = moments.map(lambda moment: moment.replace(microsecond=0))
milliseconds = moments.map(lambda m: m.replace(microsecond=m.microsecond // 1000 * 1000))
TYPES = {
    "bool": (pa.bool_(), st.booleans()),
    "int8": (pa.int8(), st.integers(-128, 127)),
    "int64": (pa.int64(), st.integers(-(2**53), 2**53)),
    "uint64": (pa.uint64(), st.integers(0, 2**53)),
    "float32": (pa.float32(), st.floats(width=32, allow_nan=False, allow_infinity=False)),
    "float64": (pa.float64(), st.floats(allow_nan=False, allow_infinity=False)),
    "whole floats": (pa.float64(), st.integers(-(10**6), 10**6).map(float)),
    "decimal": (pa.decimal128(12, 2), st.decimals(-(10**6), 10**6, places=2)),
    "text": (pa.string(), st.sampled_from(["a", "b c", "ü", "x,y", 'q"q', "v1.10", "12e4x"])),
    "category": (pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["a", "b", "c"])),
    "day": (pa.date32(), st.dates(date(1970, 1, 2), date(2100, 1, 1))),
    "seconds": (pa.timestamp("s"), whole_moments),
    "milliseconds": (pa.timestamp("ms"), milliseconds),
    "microseconds": (pa.timestamp("us"), moments),
    "nanoseconds": (pa.timestamp("ns"), moments),
    "zone": (pa.timestamp("us", "Europe/Berlin"), moments),
    "utc": (pa.timestamp("ms", "UTC"), milliseconds),
    "time of day": (pa.time64("us"), st.times()),
}
NOT_BY_JSON_OF_PANDAS = ("float32", "float64", "decimal")
"""It writes numbers with fewer digits than they have."""


def by_arrow_csv(table, file):
    """Write CSV as pyarrow does, which has no categories."""
    plain = [
        column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
        for column in table.columns
    ]
    pyarrow.csv.write_csv(pa.table(plain, names=table.column_names), file)


WRITERS = {
    "pandas.csv": lambda table, file: table.to_pandas().to_csv(file, index=False),
    "polars.csv": lambda table, file: pl.DataFrame(table).write_csv(file),
    "arrow.csv": by_arrow_csv,
    "pandas.tsv": lambda table, file: table.to_pandas().to_csv(file, index=False, sep="\t"),
    "polars.jsonl": lambda table, file: pl.DataFrame(table).write_ndjson(file),
    "pandas.jsonl": lambda table, file: table.to_pandas().to_json(
        file, orient="records", lines=True, date_format="iso", date_unit="us"
    ),
    "pandas.parquet": lambda table, file: table.to_pandas().to_parquet(file, index=False),
    "polars.parquet": lambda table, file: pl.DataFrame(table).write_parquet(file),
    "arrow.parquet": pq.write_table,
    "arrow.arrow": lambda table, file: pyarrow.feather.write_feather(table, str(file)),
}


def rows_of_file(file):
    reader = TABLE.open_file(file, ReadOptions(label="y"))
    return pl.concat([settled(block.rows) for block in reader.blocks(["x"])])


def ways_in(table, name, folder):
    """Yield the same column by every way in: the rows, and the name of the way."""
    for way, write in WRITERS.items():
        if way == "pandas.jsonl" and name in NOT_BY_JSON_OF_PANDAS:
            continue
        write(table, folder / way)
        yield way, rows_of_file(folder / way)
    yield "pandas", as_polars(table.to_pandas())
    yield "pandas of Arrow", as_polars(table.to_pandas(types_mapper=pd.ArrowDtype))
    yield "polars", as_polars(pl.DataFrame(table))
    yield "pyarrow", as_polars(table)
    yield "read_csv", as_polars(pd.read_csv(folder / "pandas.csv"))


@pytest.mark.parametrize("name", TYPES)
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_value_gets_one_id_whatever_it_comes_in(name, data):
    dtype, strategy = TYPES[name]
    values = data.draw(st.lists(strategy | st.none(), min_size=6, max_size=12))
    table = pa.table({"y": [0] * len(values), "x": pa.array(values, dtype)})
    distinct = {value for value in values if value is not None}
    field = Field(name="x", kind="categorical", cardinality=len(distinct) + 1, min_count=1)
    known = category_text(settled(pl.DataFrame(table))["x"]).unique().sort()
    vocabulary = pl.DataFrame(
        {"value": known.replace({"": None}), "id": range(1, len(known) + 1)},
        schema_overrides={"id": pl.Int32},
    )
    encoder = Encoder([field], {"x": vocabulary})
    with tempfile.TemporaryDirectory() as folder:
        found = {way: encoder.encode(rows) for way, rows in ways_in(table, name, Path(folder))}

    assert len(known) == len(distinct) + (None in values)
    expected = found["polars"]
    assert (expected > 0).all()
    for way, ids in found.items():
        assert (way, ids.tolist()) == (way, expected.tolist())
    compiled = compile_field(encoder, field, vocabulary).model_dump()
    bundle = loader.Rules(Path(rules.__file__))
    bundle.learn(compiled, vocabulary["value"].to_list())
    frames = {"arrow": table, "pandas": pa.table(table.to_pandas()), "polars": pl.DataFrame(table)}
    for way, rows in frames.items():
        ids = bundle.ids(compiled, pa.table(rows)["x"])
        assert (way, ids.tolist()) == (way, expected.tolist())


def test_read_csv_of_pandas_gives_the_ids_of_the_file(tmp_path):
    """Whole numbers become floats where one is missing, booleans objects, moments text."""
    lines = ["n,b,t,m", "5,True,2024-06-01 05:36:34+02:00,x", ",False,,1", "7,,2024-06-02,2.50"]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    reader = TABLE.open_file(tmp_path / "rows.csv", ReadOptions(label="y"))
    written = next(reader.blocks(reader.names)).rows

    read = as_polars(pd.read_csv(tmp_path / "rows.csv"))

    for name in written.columns:
        expected = category_text(written[name]).to_list()
        assert category_text(settled(read)[name]).to_list() == expected
    assert category_text(written["n"]).to_list() == ["5", "", "7"]
    assert category_text(written["m"]).to_list() == ["x", "1", "2.5"]


def test_old_vocabularies_give_the_ids_they_gave_and_more():
    field = Field(name="x", kind="categorical", cardinality=5, min_count=1)
    values = ["True", "5.0", " a", None]
    vocabulary = pl.DataFrame(
        {"value": values, "id": [1, 2, 3, 4]}, schema_overrides={"id": pl.Int32}
    )

    def ids(column):
        return (
            Encoder([field], {"x": vocabulary}).encode(pl.DataFrame({"x": column}))[:, 0].tolist()
        )

    assert ids(["True", "5.0", " a", "", "b"]) == [1, 2, 3, 4, 0]
    assert ids(["true", "5", "a", "NULL", "b"]) == [1, 2, 3, 4, 0]
    assert ids([True, None, False]) == [1, 4, 0]
    assert ids([5.0, float("nan"), 6.0]) == [2, 4, 0]


BYTES = [b"a", b"\xff\x00", None]
MIXED = pd.Series([1, "a", 2.0, True, None, Decimal("5.50"), date(2024, 6, 1)], dtype=object)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (BYTES, ["a", "ff00", ""]),
        (MIXED, ["1", "a", "2", "true", "", "5.5", "2024-06-01"]),
        (pd.Categorical([1, 2, None]), ["1", "2", ""]),
        (pd.array([1, None], "Int64"), ["1", ""]),
        (pd.array([True, None], "boolean"), ["true", ""]),
        (pd.period_range("2024-01", periods=2, freq="M"), ["2024-01", "2024-02"]),
        (pd.cut([0.0, 1.0], [-1, 0, 1]), ["(-1, 0]", "(0, 1]"]),
        (pd.arrays.SparseArray([0, 1]), ["0", "1"]),
        (np.array([0.1, 5], np.float16), ["0.1", "5"]),
        (pd.Series([2**70, 1], dtype=object), [str(2**70), "1"]),
        ([time(5, 1), time(5, 1, 2, 500000)], ["05:01:00", "05:01:02.5"]),
        (pl.Series([2**100], dtype=pl.Int128), [str(2**100)]),
        (pl.Series(["a"], dtype=pl.Enum(["a"])), ["a"]),
        (pa.array([Decimal("1.50")], pa.decimal256(50, 2)), ["1.5"]),
        (pa.array(["a", None]).dictionary_encode(), ["a", ""]),
        (pa.nulls(2), ["", ""]),
    ],
)
def test_every_type_that_holds_plain_values_is_read(column, expected):
    frame = pl.DataFrame if isinstance(column, pl.Series) else pd.DataFrame
    frame = pa.table if isinstance(column, pa.Array) else frame

    assert category_text(settled(as_polars(frame({"x": column})))["x"]).to_list() == expected


@pytest.mark.parametrize(
    "column",
    [
        pd.to_timedelta([1, 2], "s"),
        [{"a": 1}, {"a": 2}],
        np.ones(2) * 1j,
        [object(), object()],
        [[[1]], [[2]]],
        [[timedelta(1)], []],
    ],
)
def test_every_other_type_is_refused_by_the_name_of_the_column(column):
    with pytest.raises(ValueError, match="column 'odd' must hold plain values") as error:
        settled(as_polars(pd.DataFrame({"odd": column})))

    assert "\n" not in str(error.value)


def test_lists_of_every_container_are_the_same_values(tmp_path):
    frame = pd.DataFrame({"y": [0, 1, 0], "x": [[3, 17], [], [5]]})
    frame.to_csv(tmp_path / "rows.csv", index=False)
    frame.to_parquet(tmp_path / "rows.parquet", index=False)
    frame.assign(x=frame["x"].map(np.array)).to_csv(tmp_path / "numpy.csv", index=False)
    field = Field(name="x", kind="multivalued", cardinality=1, min_count=1, slots=4)
    ways = [settled(as_polars(frame))["x"], settled(pl.DataFrame({"x": frame["x"].to_list()}))["x"]]
    ways += [rows_of_file(tmp_path / name)["x"] for name in ("rows.csv", "numpy.csv")]
    ways.append(settled(as_polars(pq.read_table(tmp_path / "rows.parquet")))["x"])

    for column in ways:
        cells = split_cells(column.fill_null(""), field)
        assert cells.values.to_list() == ["3", "17", "", "5"]
        assert cells.sizes.tolist() == [2, 1, 1]


WRITTEN = [
    (str(np.array([1.0, 2.5, -3.0])), ["1", "2.5", "-3"]),
    (str(np.arange(40)), [str(n) for n in range(40)]),
    (json.dumps(["é", 'a"b', "c, d", "😀"]), ["é", 'a"b', "c, d", "😀"]),
    (repr(["it's", 'a"b', "no (x)", "[y]"]), ["it's", 'a"b', "no (x)", "[y]"]),
    (json.dumps([1.5, None, True]), ["1.5", "true"]),
    (repr([None, False]), ["false"]),
]


@pytest.mark.parametrize(("cell", "expected"), WRITTEN)
def test_lists_are_read_as_their_writers_mean_them(cell, expected):
    field = Field(name="x", kind="multivalued", cardinality=1, min_count=1, slots=99)

    assert rules.LIST.fullmatch(cell)
    assert cell_values(cell, None) == expected
    assert split_cells(pl.Series([cell]), field).values.to_list() == expected


@pytest.mark.parametrize("cell", ["[datetime.date(2024, 1, 1)]", "[{'a': 1}]", "[[1]]", "[it's]"])
def test_what_is_no_list_of_plain_values_is_text(cell):
    assert not rules.LIST.fullmatch(cell)
    assert cell_values(cell, None) == [cell]


@pytest.mark.parametrize("rows", [["-999", "-999.0", "5"], [-999, -999, 5], [-999.0, -999, 5.0]])
@pytest.mark.parametrize("word", ["-999", "-999.0"])
def test_a_number_that_stands_for_missing_does_so_however_it_is_written(rows, word):
    missing, column = ReadOptions(missing=(word,)).missing, pl.Series("x", rows)

    assert category_text(column, missing).to_list() == ["", "", "5"]
    assert read_numbers(column, "", missing)[0].to_list() == [None, None, 5]
    for text in map(str, rows[:2]):
        assert canonical_text(text, missing) == ""
        assert np.isnan(number_of(text, missing=missing))


def test_json_is_read_as_text_that_means_the_same():
    text = b'{"y":1,"x":5.0}\n{"y":0,"x":1e16}\n{"y":0,"x":true}\n'
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "rows.jsonl").write_bytes(text)
        column = rows_of_file(Path(folder) / "rows.jsonl")["x"]

    assert category_text(column).to_list() == ["5", "10000000000000000", "true"]
