"""Every type of Arrow is read as the value it holds, or left out by name; in files as in memory."""

import datetime
import uuid
from decimal import Decimal
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from multiembed.base.errors import DataError
from multiembed.data.encoding import canonical as rules
from multiembed.data.encoding.frames import as_polars, polars_reads
from multiembed.data.encoding.typed import category_text, settled
from multiembed.data.options import PrepareOptions
from multiembed.data.prepare import open_source, prepare
from multiembed.data.sources.arrow_sizes import unpacked_sizes
from multiembed.data.sources.columnar import TABLE
from multiembed.data.sources.read_options import ReadOptions
from multiembed.serving import loader

DAY = datetime.date(2024, 6, 1)
MOMENT = datetime.datetime(2024, 6, 1, 5, 30)


def encoded(values, dtype=None):
    """A dictionary, whose builder does not take all types."""
    indices = pa.array([*range(len(values)), None], pa.int8())
    return pa.DictionaryArray.from_arrays(indices, pa.array(values, dtype))


def extended(kind, values):
    return pa.ExtensionArray.from_storage(kind, pa.array(values, kind.storage_type))


COLUMNS = {
    "zone of an offset": (
        pa.array([MOMENT, None], pa.timestamp("us", "+05:30")),
        ["2024-06-01T05:30:00Z", ""],
    ),
    "long decimals": (
        pa.array([Decimal("1.50"), Decimal(10**40)], pa.decimal256(60, 2)),
        ["1.5", str(10**40)],
    ),
    "short decimals": (pa.array([Decimal("1.50")], pa.decimal32(5, 2)), ["1.5"]),
    "hundreds": (pa.array([Decimal("1e5")], pa.decimal128(5, -2)), ["100000"]),
    "runs": (pa.RunEndEncodedArray.from_arrays([2, 3], pa.array(["a", "b"])), ["a", "a", "b"]),
    "uuids": (
        extended(pa.uuid(), [uuid.UUID(int=5).bytes, None]),
        ["00000000-0000-0000-0000-000000000005", ""],
    ),
    "truths": (extended(pa.bool8(), [1, 0, None]), ["true", "false", ""]),
    "json": (extended(pa.json_(), ["[1]", None]), ["[1]", ""]),
    "views": (pa.array(["a", None], pa.string_view()), ["a", ""]),
    "views of bytes": (pa.array([b"a", b"\xff", None], pa.binary_view()), ["a", "ff", ""]),
    "views of lists": (pa.array([[1, 2], []], pa.list_view(pa.int64())), ["\x1f1\x1f2", ""]),
    "halves": (pa.array([0.1, None, 5, 0], pa.float16()), ["0.1", "", "5", "0"]),
    "encoded days": (encoded([DAY]), ["2024-06-01", ""]),
    "encoded moments": (encoded([MOMENT]), ["2024-06-01T05:30:00", ""]),
    "encoded truths": (encoded([True, False]), ["true", "false", ""]),
    "encoded decimals": (encoded([Decimal("1.50")], pa.decimal128(5, 2)), ["1.5", ""]),
    "encoded views": (encoded(["a"], pa.string_view()), ["a", ""]),
}


def texts(column):
    return category_text(column).to_list()


def read_file(file):
    reader = TABLE.open_file(file, ReadOptions(label="y"))
    rows = pl.concat([block.rows for block in reader.blocks(["x"])])
    assert reader.sample(100)["x"].to_list() == rows["x"].to_list()
    return settled(rows)["x"]


@pytest.mark.parametrize("name", COLUMNS)
def test_a_type_is_read_as_its_values_in_files_and_in_memory(name, tmp_path):
    column, expected = COLUMNS[name]
    table = pa.table({"x": column, "y": [0] * len(column)})
    pyarrow.feather.write_feather(table, str(tmp_path / "file"))
    with pa.ipc.new_stream(str(tmp_path / "stream"), table.schema) as stream:
        stream.write_table(table)
    files = ["file", "stream"]
    if name not in ("runs", "hundreds", "views of lists", "encoded views"):
        pq.write_table(table, tmp_path / "parquet")
        files.append("parquet")

    for file in files:
        assert (file, texts(read_file(tmp_path / file))) == (file, expected)
    assert texts(settled(as_polars(table))["x"]) == expected
    assert texts(settled(as_polars(table.to_batches()[0]))["x"]) == expected
    of_bundle, places, _ = loader._distinct(table["x"], vars(rules), local=False)
    found = [rules.canonical_text(of_bundle[place]) for place in places]
    assert [text.strip() for text in found] == [text.strip() for text in expected]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([pa.MonthDayNano([1, 2, 3])]),
        pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
        extended(pa.fixed_shape_tensor(pa.int64(), (2,)), [[1, 2]]),
        pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])]),
    ],
    ids=lambda column: str(column.type)[:12],
)
def test_other_types_are_left_out_unless_asked_for(column, tmp_path):
    table = pa.table({"odd": column, "x": ["a"], "y": [0]})
    pyarrow.feather.write_feather(table, str(tmp_path / "rows"))
    asked = PrepareOptions(format="table", label="y")

    found, _ = open_source(tmp_path / "rows", asked, tmp_path)

    assert [one.name for one in found.columns] == ["x"]
    assert "column 'odd' holds" in found.reader.remarks[0]
    with pytest.raises(DataError, match="column 'odd' must hold plain values"):
        open_source(
            tmp_path / "rows", asked.model_copy(update={"categorical_columns": ("odd",)}), tmp_path
        )
    with pytest.raises((TypeError, AttributeError, KeyError, pa.ArrowException)):
        loader._distinct(table["odd"], vars(rules), local=False)


@pytest.mark.parametrize("kind", [pa.duration("s"), pa.list_(pa.list_(pa.int64()))])
def test_bundles_refuse_what_runs_refuse(kind):
    field = {"column": "odd", "date": None}
    bundle = loader.Bundle.__new__(loader.Bundle)
    bundle.rules = loader.Rules(Path(rules.__file__))

    with pytest.raises(ValueError, match="column 'odd' must hold plain values"):
        bundle._column(field, pa.chunked_array([pa.nulls(1, kind)]), "ids")


def test_categories_of_pandas_with_gaps_are_read_from_feather(tmp_path):
    rows = pd.DataFrame({"x": pd.Categorical([1, None, 2]), "y": 0})
    rows.to_feather(tmp_path / "rows")

    assert texts(read_file(tmp_path / "rows")) == ["1", "", "2"]


def test_a_file_of_many_batches_is_read_whole_and_again_from_a_mark(tmp_path):
    table = pa.table({"x": range(100_000), "y": [0] * 100_000})
    pyarrow.feather.write_feather(table, str(tmp_path / "rows"), chunksize=80_000)
    reader = TABLE.open_file(tmp_path / "rows", ReadOptions(label="y"))

    blocks = list(reader.blocks(["x"]))

    assert [block.rows.height for block in blocks] == [65_536, 14_464, 20_000]
    rest = list(reader.blocks(["x"], blocks[0].after))
    assert pl.concat([block.rows for block in rest])["x"].to_list() == list(range(65_536, 100_000))
    assert rest[0].lines[0] == 65_537
    assert max(reader.sample(1000)["x"].to_list()) > 99_000


def test_parquet_whose_batches_end_early_is_refused(tmp_path, monkeypatch):
    pl.DataFrame({"x": [1, 2], "y": [0, 1]}).write_parquet(tmp_path / "rows")
    reader = TABLE.open_file(tmp_path / "rows", ReadOptions(label="y"))
    monkeypatch.setattr(pl.LazyFrame, "collect_batches", lambda self, **_: iter([]))

    with pytest.raises(DataError, match="must be readable, got 0 of its 2 rows"):
        list(reader.blocks(["x"]))


def test_ordinary_parquet_stays_with_polars():
    plain = [pa.string(), pa.float32(), pa.timestamp("us", "Europe/Berlin"), pa.decimal128(9, 2)]
    plain += [pa.list_(pa.int64()), pa.struct({"a": pa.string()}), pa.dictionary("int8", "utf8")]

    assert all(map(polars_reads, plain))
    assert not polars_reads(pa.struct({"a": pa.decimal256(50)}))


def test_categories_of_intervals_are_refused_where_pandas_is_loaded(tmp_path):
    frame = pd.DataFrame({"y": [0, 1] * 10, "k": list("ab") * 10, "c": pd.cut(range(20), 4)})
    frame.to_feather(tmp_path / "rows.feather")
    options = PrepareOptions(format="table", label="y")

    with pytest.raises(DataError, match=r"rows\.feather: columns must hold plain values, got cat"):
        prepare(tmp_path / "rows.feather", tmp_path / "data", options)


@pytest.mark.parametrize("new", [pa.ipc.new_file, pa.ipc.new_stream])
@pytest.mark.parametrize("codec", [None, "lz4", "zstd"])
def test_what_compressed_batches_become_is_known_before_they_are_unpacked(tmp_path, new, codec):
    rows = pa.table({"a": range(3000), "b": [None, "x", "yy"] * 1000})
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with new(tmp_path / "rows", rows.schema, options=options) as writer:
        writer.write_table(rows, max_chunksize=1000)
    opened = pa.ipc.open_file if new is pa.ipc.new_file else pa.ipc.open_stream
    with pa.OSFile(str(tmp_path / "rows")) as file:
        batches = opened(file).read_all().to_batches()
    buffers = [[b for column in of.columns for b in column.buffers() if b] for of in batches]

    found = [size for size in unpacked_sizes(tmp_path / "rows") if size]

    expected = [] if codec is None else [sum(b.size for b in some) for some in buffers]
    assert found == pytest.approx(expected, rel=0.02)  # what does not shrink has a word before it
